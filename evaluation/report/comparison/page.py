"""The page of a comparison, `comparison.html`: one file, which loads nothing."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from evaluation.report.comparison.plots import draw_key
from evaluation.report.comparison.words import (
    Comparison,
    difference_cell,
    headline,
    large_attributes,
    metrics_of_report,
    notes,
    protocol_words,
    score_cell,
    signs,
    size_cells,
    speed_cell,
)
from evaluation.report.environment import environment
from evaluation.report.formatting import DASH, DOT
from evaluation.report.metric_definitions import definitions_of
from evaluation.report.pictures.jpeg import jpeg_uri
from evaluation.report.rendered_figure import RenderedFigure
from evaluation.report.study_results import number_at
from evaluation.report.tables import Cell, Column, fill_table

FEWEST = 3  # sequences of an attribute on the page
QUALITY = 75  # of the pictures, which are part of the page


def comparison_page(
    comparison: Comparison,
    figures: Sequence[RenderedFigure],
    sheets: Mapping[str, np.ndarray],
    sequences: Sequence[Mapping[str, Any]],
    command: str,
) -> str:
    """Returns the HTML of the page.

    Args:
        comparison: content of `comparison.json`.
        figures: see `draw_curves`.
        sheets: contact sheets, RGB (H, W, 3) uint8, by caption.
        sequences: for each sequence "sequence", "frames" and "scores", the main metric of each tracker by name.
        command: the command line that repeats the comparison.
    """
    report = comparison["benchmark"]
    context = {
        "title": f"{len(comparison['trackers'])} trackers on {report}",
        "protocol": protocol_words(comparison),
        "first": comparison["first"],
        "metric": comparison["metric"],
        "headline": headline(comparison),
        "notes": notes(comparison),
        "key": [(Markup(swatch), name) for swatch, name in draw_key(list(comparison["trackers"]))],
        "figures": figures,
        "results": _results_table(comparison),
        "differences": _differences_table(comparison),
        "changes": _changes_table(comparison),
        "attributes": _attributes_table(comparison),
        "attributes_note": comparison["attributes_note"],
        "fewest": FEWEST,
        "all_sequences": _sequences_table(comparison, sequences),
        "sheets": [(caption, jpeg_uri(sheet, QUALITY)) for caption, sheet in sheets.items()],
        "metrics": definitions_of(metrics_of_report(comparison, report)),
        "checkpoints": [(name, found["checkpoint"]) for name, found in comparison["trackers"].items()],
        "made_by": {"commit": comparison["commit"]} | comparison["versions"] | comparison["machine"],
        "command": command,
        "sequences": None,  # the script of the report has a table of its own for these
    }
    return environment().get_template("comparison.html.j2").render(context)


def _results_table(comparison: Comparison) -> dict[str, Any]:
    """Returns the scores of all protocols with sizes and speeds, one row for each tracker."""
    trackers = comparison["trackers"]
    columns = [
        Column("", "Tracker", False, lambda name: Cell(name, name)),
        Column(
            "Size",
            "Parameters",
            True,
            lambda name: Cell(size_cells(trackers[name])[0], number_at(trackers[name], "params")),
        ),
        Column(
            "Size",
            "MACs",
            True,
            lambda name: Cell(size_cells(trackers[name])[1], number_at(trackers[name], "macs", "total")),
        ),
        Column("Speed", f"{comparison['first']} is 1", True, lambda name: _speed(comparison, name)),
    ]
    for report in comparison["differences"]:
        group = DOT.join((report, trackers[comparison["first"]]["metrics"][report]["protocol"]))
        for metric in metrics_of_report(comparison, report):
            columns.append(Column(group, metric, True, partial(_score, comparison, report, metric)))
    return fill_table(columns, list(trackers))


def _differences_table(comparison: Comparison) -> dict[str, Any]:
    """Returns the differences to the first tracker, one row for each other tracker, protocol and metric."""
    rows = [
        (name, report, metric, difference)
        for report, found in comparison["differences"].items()
        for name, metrics in found.items()
        for metric, difference in metrics.items()
    ]
    columns = [
        Column("", "Tracker", False, lambda row: Cell(row[0], row[0])),
        Column("", "Protocol", False, lambda row: Cell(row[1], row[1])),
        Column("", "Metric", False, lambda row: Cell(row[2], row[2])),
        Column("", f"Minus {comparison['first']}", True, lambda row: _difference(row[3])),
        Column("", "Evidence", False, lambda row: Cell(row[3]["verdict"], row[3]["verdict"])),
    ]
    return fill_table(columns, rows)


def _changes_table(comparison: Comparison) -> dict[str, Any]:
    """Returns the sequences with the largest losses and gains of each tracker."""
    rows = [(name, change) for name, changes in comparison["changes"].items() for change in changes]
    columns = [
        Column("", "Tracker", False, lambda row: Cell(row[0], row[0])),
        Column("", "Sequence", False, lambda row: Cell(row[1]["sequence"], row[1]["sequence"])),
        Column(comparison["metric"], comparison["first"], True, lambda row: _number(row[1]["first"])),
        Column(comparison["metric"], "Its own", True, lambda row: _number(row[1]["other"])),
        Column("", "Difference", True, lambda row: _number(row[1]["difference"], "{:+.3f}")),
    ]
    return fill_table(columns, rows)


def _attributes_table(comparison: Comparison) -> dict[str, Any]:
    """Returns the scores and differences by attribute."""
    metric, first = comparison["metric"], comparison["first"]
    columns = [
        Column("", "Attribute", False, lambda row: Cell(row["attribute"], row["attribute"])),
        Column("", "Sequences", True, lambda row: Cell(str(row["sequences"]), row["sequences"])),
    ]
    for name in comparison["trackers"]:
        columns.append(Column(metric, name, True, lambda row, name=name: _number(row["scores"][name])))
    for name in comparison["trackers"]:
        if name != first:
            group = f"Minus {first}"
            columns += [
                Column(group, name, True, lambda row, name=name: _difference(row["differences"][name])),
                Column(group, "Evidence", False, lambda row, name=name: _verdict(row["differences"][name])),
            ]
    return fill_table(columns, large_attributes(comparison, FEWEST))


def _sequences_table(comparison: Comparison, sequences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the main metric of each tracker on each sequence."""
    first, *others = comparison["trackers"]
    columns = [
        Column("", "Sequence", False, lambda row: Cell(row["sequence"], row["sequence"])),
        Column("", "Frames", True, lambda row: Cell(f"{row['frames']:,}", row["frames"])),
    ]
    for name in (first, *others):
        columns.append(Column(comparison["metric"], name, True, lambda row, name=name: _number(row["scores"][name])))

    def change(row: Mapping[str, Any], name: str) -> float:
        return row["scores"][name] - row["scores"][first]

    for name in others:
        minus = f"Minus {first}"
        columns.append(Column(minus, name, True, lambda row, name=name: _number(change(row, name), "{:+.3f}")))
    return fill_table(columns, sequences)


def _score(comparison: Comparison, report: str, metric: str, name: str) -> Cell:
    tracker = comparison["trackers"][name]
    return Cell(score_cell(tracker, report, metric), tracker["metrics"][report][metric])


def _speed(comparison: Comparison, name: str) -> Cell:
    ratios = [found["ratio"] for found in comparison["speedup"].get(name, {}).values()]
    return Cell(speed_cell(comparison, name), ratios[0] if ratios else 1.0)


def _difference(difference: dict[str, Any]) -> Cell:
    return Cell(difference_cell(difference), difference["value"])


def _verdict(difference: Mapping[str, Any]) -> Cell:
    return Cell(difference["verdict"], difference["verdict"])


def _number(value: float, form: str = "{:.3f}") -> Cell:
    """Returns the cell of a number; a dash for NaN."""
    return Cell(DASH, None) if np.isnan(value) else Cell(signs(form.format(value)), value)
