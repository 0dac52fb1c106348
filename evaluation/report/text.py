"""The study's tables as text: `study.md` for GitHub, and `study.tex` with booktabs for papers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.report import sentences
from evaluation.report.stability import families, stability
from evaluation.report.study_results import Result
from evaluation.report.summaries import families_table, stability_table, summary_table
from evaluation.report.tables import Cell, Column, filled

Table = Mapping[str, Any]  # see `tables.filled`

LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
    | {character: f"${character}$" for character in "<>|"}
    | {"\u00b1": r"$\pm$", "\u00b7": r"$\cdot$", "\u2013": "--", "\u2019": "'", "\u00a0": "~", "\u202f": r"\,"}
)


@dataclass(frozen=True)
class Section:
    """A table under a heading, and what has to be said about it."""

    heading: str
    table: Table
    notes: Sequence[str] = field(default=())


def sections_of(results: Sequence[Result], finished: Sequence[Result]) -> list[Section]:
    """What there is to tell; without the sections that have no row."""
    failed = [result for result in results if result.get("status") != "finished"]
    sections = [
        Section("Results", summary_table(finished), [*sentences.scope(finished), *sentences.latency(finished)]),
        *stability_of(results),
        Section("Failed jobs", filled([_said("Job", "job"), _said("Error", "error")], failed)),
    ]
    return [section for section in sections if section.table["rows"]]


def stability_of(results: Sequence[Result]) -> list[Section]:
    """How stable each tracker is, and each family; without a section that has no row."""
    rows = stability(results)
    grouped = families(rows)
    sections = [
        Section("Stability", stability_table(rows), sentences.stability(rows)),
        Section("Families", families_table(grouped), sentences.families([row.trackers for row in grouped])),
    ]
    return [section for section in sections if section.table["rows"]]


def markdown(title: str, command: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """A page that GitHub renders.

    Args:
        title: its heading.
        command: the command line that repeats the study.
        lead: the sentences that come first.
        sections: the rest.
    """
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", command))])
    parts = [f"# {_markdown(title)}", "\n".join(map(_markdown, lead)), f"{fence}sh\n{command}\n{fence}"]
    for section in sections:
        parts += [f"## {_markdown(section.heading)}", _markdown_table(section.table)]
        parts += ["\n".join(f"- {_markdown(note)}" for note in section.notes)] if section.notes else []
    return "\n\n".join(parts) + "\n"


def latex(command: str, sections: Sequence[Section]) -> str:
    """One `table` a section, to be read with `\\input`."""
    parts = ["% Needs \\usepackage{booktabs}. Made by: " + " ".join(command.split())]
    return "\n\n".join([*parts, *map(_latex_table, sections)]) + "\n"


def _markdown_table(table: Table) -> str:
    """Markdown has one line of headings: the upper ones go in front of the lower ones."""
    heads = [" ".join(filter(None, (column.group, column.label))) for column in table["columns"]]
    rule = ["---:" if column.number else "---" for column in table["columns"]]
    rows = [[_markdown(cell.text) for cell in row] for row in table["rows"]]
    return "\n".join(f"| {' | '.join(row)} |" for row in (map(_markdown, heads), rule, *rows))


def _latex_table(section: Section) -> str:
    columns, groups = section.table["columns"], section.table["groups"]
    lines = [r"\toprule"]
    if any(name for name, _ in groups):
        spans, rules, at = [], [], 1
        for name, width in groups:
            spans.append(rf"\multicolumn{{{width}}}{{c}}{{{name.translate(LATEX)}}}")
            rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if name else []
            at += width
        lines += [" & ".join(spans) + r" \\", "".join(rules)]
    heads = [column.label for column in columns]
    rows = [[cell.text for cell in row] for row in section.table["rows"]]
    head, *body = (" & ".join(text.translate(LATEX) for text in row) + r" \\" for row in (heads, *rows))
    lines += [head, r"\midrule", *body, r"\bottomrule"]
    caption = " ".join(f"{text.rstrip('.')}." for text in (section.heading, *section.notes)).translate(LATEX)
    align = "".join("r" if column.number else "l" for column in columns)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption[{section.heading}]{{{caption}}}",
            rf"\label{{tab:{section.heading.lower().replace(' ', '-')}}}",
            rf"\begin{{tabular}}{{{align}}}",
            *lines,
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _markdown(text: str) -> str:
    """Nothing in it is taken for markup, and no cell or line ends early."""
    return re.sub(r"([\\`*_{}\[\]<>|~#&$])", r"\\\1", text.replace("\n", " "))


def _said(label: str, key: str) -> Column:
    def cell(result: Result) -> Cell:
        text = str(result.get(key) or "\N{EN DASH}")
        return Cell(text, text)

    return Column("", label, False, cell)
