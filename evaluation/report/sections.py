"""The sections of `study.md` and `study.tex`, and the stability sections of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.report import sentences
from evaluation.report.formatting import DASH
from evaluation.report.stability import families_of, stability_of
from evaluation.report.study_results import Result
from evaluation.report.summaries import families_table, stability_table, summary_table
from evaluation.report.tables import Cell, Column, fill_table

Table = Mapping[str, Any]  # see `tables.fill_table`


@dataclass(frozen=True)
class Section:
    """A table with a heading and notes."""

    heading: str
    table: Table
    notes: Sequence[str] = field(default=())


def sections_of(results: Sequence[Result], finished: Sequence[Result]) -> list[Section]:
    """Returns the sections of the study: results, stability, families and failed jobs. Empty ones are left out."""
    failed = [result for result in results if result.get("status") != "finished"]
    sections = [
        Section(
            "Results",
            summary_table(finished),
            [*sentences.scope(finished), *sentences.repeats(results), *sentences.latency(finished)],
        ),
        *stability_sections(results),
        Section("Failed jobs", fill_table([_text_column("Job", "job"), _text_column("Error", "error")], failed)),
    ]
    return [section for section in sections if section.table["rows"]]


def stability_sections(results: Sequence[Result]) -> list[Section]:
    """Returns the stability of each tracker and of each family. Empty sections are left out."""
    rows = stability_of(results)
    grouped = families_of(rows)
    sections = [
        Section("Stability", stability_table(rows), sentences.stability(rows)),
        Section("Families", families_table(grouped), sentences.families([row.trackers for row in grouped])),
    ]
    return [section for section in sections if section.table["rows"]]


def _text_column(label: str, key: str) -> Column:
    def cell(result: Result) -> Cell:
        text = str(result.get(key) or DASH)
        return Cell(text, text)

    return Column("", label, False, cell)
