"""`study.md`: the study's tables in GitHub's Markdown."""

import re
from collections.abc import Sequence

from evaluation.report.sections import Section, Table


def markdown(title: str, command: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """Returns the text of `study.md`.

    Args:
        title: the heading.
        command: the command line that repeats the study.
        lead: the first sentences.
        sections: the tables with their notes.
    """
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", command))])
    parts = [f"# {_escape(title)}", "\n".join(map(_escape, lead)), f"{fence}sh\n{command}\n{fence}"]
    for section in sections:
        parts += [f"## {_escape(section.heading)}", _table(section.table)]
        parts += ["\n".join(f"- {_escape(note)}" for note in section.notes)] if section.notes else []
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    """Returns a Markdown table. Markdown has one line of headings, so a group's heading is put before its columns'."""
    heads = [" ".join(filter(None, (column.group, column.label))) for column in table["columns"]]
    rule = ["---:" if column.number else "---" for column in table["columns"]]
    rows = [[_escape(cell.text) for cell in row] for row in table["rows"]]
    return "\n".join(f"| {' | '.join(row)} |" for row in (map(_escape, heads), rule, *rows))


def _escape(text: str) -> str:
    """Escapes all markup, and joins the lines, so that no cell ends early."""
    return re.sub(r"([\\`*_{}\[\]<>|~#&$])", r"\\\1", text.replace("\n", " "))
