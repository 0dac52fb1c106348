"""`study.tex`: the study's tables in LaTeX with booktabs, for papers."""

from collections.abc import Sequence

from evaluation.report.sections import Section

ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
    | {character: f"${character}$" for character in "<>|"}
    | {
        "\u00b1": r"$\pm$",
        "\u00b7": r"$\cdot$",
        "\u2013": "--",
        "\u2019": "'",
        "\u201c": "``",
        "\u201d": "''",
        "\u00a0": "~",
        "\u202f": r"\,",
    }
)


def latex(command: str, sections: Sequence[Section]) -> str:
    """Returns the text of `study.tex`: one `table` for each section, for `\\input`."""
    parts = ["% Needs \\usepackage{booktabs}. Made by: " + " ".join(command.split())]
    return "\n\n".join([*parts, *map(_table, sections)]) + "\n"


def _table(section: Section) -> str:
    columns, groups = section.table["columns"], section.table["groups"]
    lines = [r"\toprule"]
    if any(name for name, _ in groups):
        spans, rules, at = [], [], 1
        for name, width in groups:
            spans.append(rf"\multicolumn{{{width}}}{{c}}{{{name.translate(ESCAPES)}}}")
            rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if name else []
            at += width
        lines += [" & ".join(spans) + r" \\", "".join(rules)]
    heads = [column.label for column in columns]
    rows = [[cell.text for cell in row] for row in section.table["rows"]]
    head, *body = (" & ".join(text.translate(ESCAPES) for text in row) + r" \\" for row in (heads, *rows))
    lines += [head, r"\midrule", *body, r"\bottomrule"]
    caption = " ".join(f"{text.rstrip('.')}." for text in (section.heading, *section.notes)).translate(ESCAPES)
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
