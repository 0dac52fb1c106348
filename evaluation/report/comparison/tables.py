"""A comparison of trackers as tables in the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evaluation.report.comparison.words import (
    Comparison,
    difference_cell,
    large_attributes,
    metrics_of_report,
    protocol_words,
    score_cell,
    signs,
    size_cells,
    speed_cell,
)
from evaluation.report.formatting import DASH
from evaluation.report.result_table import PRESENCE
from evaluation.report.study_results import number_at
from evaluation.tracking.metrics.bootstrap import FEW_SEQUENCES

SHOWN = 3  # losses, and as many gains, of a tracker


def terminal_tables(comparison: Comparison) -> Iterator[Table]:
    """Yields the tables by the main protocol: scores, differences, sequences that changed most, and attributes.

    Attributes of few sequences, which are no evidence, stand in comparison.json only.
    """
    yield _scores(comparison)
    yield _differences(comparison)
    if any(tracker.get("presence") for tracker in comparison["trackers"].values()):
        yield _presence(comparison)
    if any(comparison["changes"].values()):
        yield _changes(comparison)
    if rows := large_attributes(comparison, FEW_SEQUENCES):
        yield _attributes(comparison, rows)


def _scores(comparison: Comparison) -> Table:
    report = comparison["benchmark"]
    metrics = metrics_of_report(comparison, report)
    title = f"{report}, {protocol_words(comparison)}"
    table = _table(title, "tracker", "parameters", "MACs", "speed", *metrics)
    for name, tracker in comparison["trackers"].items():
        scores = [_two_lines(score_cell(tracker, report, metric)) for metric in metrics]
        _add_row(table, name, *size_cells(tracker), _two_lines(speed_cell(comparison, name)), *scores)
    still = comparison["still_box"][report]
    _add_row(table, "a still box", "", "", "", *(f"{still[metric]:.3f}" for metric in metrics))
    return table


def _differences(comparison: Comparison) -> Table:
    report = comparison["benchmark"]
    metrics = metrics_of_report(comparison, report)
    table = _table(f"minus {comparison['first']}", "tracker", *metrics)
    for name, found in comparison["differences"][report].items():
        _add_row(table, name, *(_two_lines(difference_cell(found[m])) for m in metrics))
    return table


def _presence(comparison: Comparison) -> Table:
    """Returns how well the trackers that report presence tell it from absence."""
    reports = {
        name: report for name, of in comparison["trackers"].items() for report in of.get("presence", {}).values()
    }
    some = next(iter(reports.values()))
    title = f"presence: {some['present']:,} frames show the object, {some['absent']:,} do not"
    table = _table(title, "tracker", *PRESENCE)
    for name, report in reports.items():
        values = [number_at(report, key) for key in PRESENCE.values()]
        _add_row(table, name, *(DASH if value is None else f"{value:.3f}" for value in values))
    return table


def _changes(comparison: Comparison) -> Table:
    metric, first = comparison["metric"], comparison["first"]
    title = f"{metric} of the sequences that changed most"
    table = _table(title, "tracker", "sequence", first, "its own", "difference")
    table.columns[1].justify = "left"
    for name, changes in comparison["changes"].items():
        losses = [change for change in changes if change["difference"] < 0][:SHOWN]
        gains = [change for change in changes if change["difference"] > 0][-SHOWN:]
        for number, change in enumerate(losses + gains):
            values = (f"{change['first']:.3f}", f"{change['other']:.3f}", signs(f"{change['difference']:+.3f}"))
            _add_row(table, "" if number else name, change["sequence"], *values)
        table.add_section()
    return table


def _attributes(comparison: Comparison, rows: Any) -> Table:
    others = [name for name in comparison["trackers"] if name != comparison["first"]]
    columns = (f"{name} minus {comparison['first']}" for name in others)
    title = f"{comparison['metric']} by attribute"
    table = _table(title, "attribute", "sequences", *comparison["trackers"], *columns)
    for row in rows:
        scores = [f"{score:.3f}" for score in row["scores"].values()]
        differences = [_two_lines(difference_cell(row["differences"][name])) for name in others]
        _add_row(table, row["attribute"], str(row["sequences"]), *scores, *differences)
    return table


def _two_lines(cell: str) -> str:
    """Returns a cell with its interval below its value, so that a table of several metrics fits into a terminal."""
    return cell.replace(" (", "\n").removesuffix(")")


def _table(title: str, *columns: str) -> Table:
    """Returns an empty table. Cells of all columns but the first are on the right."""
    table = Table(title=Text(title, "bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Adds a row of cells in which nothing is markup, since names come from outside."""
    table.add_row(*map(Text, cells))
