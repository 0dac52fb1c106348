"""The sections of `study.md` and `study.tex`, and the stability sections of the page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evaluation.report import sentences
from evaluation.report.formatting import DASH
from evaluation.report.results_tables import metrics_table, results_tables, settings_of
from evaluation.report.series import retention_series
from evaluation.report.stability import families_of, stability_of
from evaluation.report.stability_tables import families_table, stability_table
from evaluation.report.study_results import Result, leading_metric
from evaluation.report.tables import Cell, Column, fill_table

Table = Mapping[str, Any]  # see `tables.fill_table`


@dataclass(frozen=True)
class Section:
    """A table with a heading and notes."""

    heading: str
    table: Table
    notes: Sequence[str] = field(default=())


def sections_of(results: Sequence[Result], finished: Sequence[Result]) -> list[Section]:
    """Returns the sections of the study: results, stability, families, failed jobs. Empty ones are left out."""
    failed = [result for result in results if result.get("status") != "finished"]
    lines = retention_series(finished, *leading_metric(finished))
    sections = [
        *_with_notes(
            results_sections(finished),
            [*sentences.scope(finished), *sentences.repeats(results), *sentences.evidence(finished, lines)]
            + sentences.intervals(finished)
            + sentences.speeds(finished),
        ),
        *stability_sections(results),
        Section("Failed jobs", fill_table([_text_column("Job", "job"), _text_column("Error", "error")], failed)),
    ]
    return [section for section in sections if section.table["rows"]]


def results_sections(finished: Sequence[Result], every_job: bool = False) -> list[Section]:
    """Returns the results of each benchmark, and those of the other metrics. Empty sections are left out.

    Args:
        finished: results of finished jobs.
        every_job: whether each job is a row of its own; otherwise each ratio is one, with means over seeds.
    """
    rows = [[result] for result in finished] if every_job else settings_of(finished)
    tables = results_tables(rows)
    headings = ["Results"] if len(tables) == 1 else [f"Results: {name}" for name, _ in tables]
    sections = [Section(heading, table) for heading, (_, table) in zip(headings, tables, strict=True)]
    sections.append(Section("Other metrics", metrics_table(rows)))
    return [section for section in sections if section.table["rows"]]


def stability_sections(results: Sequence[Result]) -> list[Section]:
    """Returns the stability of each tracker, and of each family if one has several trackers. No section is empty."""
    rows = stability_of(results)
    grouped = families_of(rows)
    if all(len(row.trackers) == 1 for row in grouped):  # a table of the same numbers
        grouped = []
    sections = [
        Section("Stability", stability_table(rows), sentences.stability(rows)),
        Section("Families", families_table(grouped), sentences.families([row.trackers for row in grouped])),
    ]
    return [section for section in sections if section.table["rows"]]


def _with_notes(sections: Sequence[Section], notes: Sequence[str]) -> Iterator[Section]:
    """Yields the sections, the first one with notes."""
    for index, section in enumerate(sections):
        yield replace(section, notes=notes) if index == 0 else section


def _text_column(label: str, key: str) -> Column:
    def cell(result: Result) -> Cell:
        text = str(result.get(key) or DASH)
        return Cell(text, text)

    return Column("", label, False, cell)
