"""Tables with one row for each job: those of the page, and `study.csv`."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.report.formatting import DASH, DOT, with_share
from evaluation.report.makers import count_makers
from evaluation.report.study_results import (
    Result,
    benchmarks_of,
    keys_at,
    metrics_of,
    number_at,
    protocol_of,
    retention_of,
    value_at,
)

STAGES = ("parent", "sparsity", "child", "evaluation")
CSV_COLUMNS = (
    *("job", "status", "tracker", "family", "scale", "method", "seed", "ratio", "ratio_of", "ratio_achieved"),
    *("achieved", "params", "macs", "units", "metrics", "retention", "still_box", "latency", "masked_vs_compacted"),
    *("parent", "seconds", "config_hash", "versions", "machine", "commit", "stages", "folder", "error", "command"),
)


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, and the value that it sorts by (None sorts last)."""

    text: str
    sort: str | float | None


@dataclass(frozen=True)
class Column:
    """A table column.

    Attributes:
        group: upper heading, which neighbouring columns share.
        label: lower heading.
        number: whether its cells are numbers.
        cell: returns the cell of a row.
    """

    group: str
    label: str
    number: bool
    cell: Callable[[Any], Cell]


def main_table(finished: Sequence[Result]) -> dict[str, Any]:
    """Returns the table of measurements, one row for each job."""
    columns = [
        _text_column("Tracker", "tracker"),
        _text_column("Family", "family"),
        _text_column("Scale", "scale"),
        _text_column("Method", "method"),
        _text_column("Seed", "seed"),
        _number_column("Kept", "Ratio", "{:g}".format, "ratio"),
        _number_column("Kept", "Achieved", "{:.4f}".format, "ratio_achieved"),
        _size_column("Parameters", "{:,.0f}".format, "params"),
        _size_column("MACs (M)", lambda value: f"{value / 1e6:,.2f}", "macs", "total"),
    ]
    for benchmark in benchmarks_of(finished):
        group = heading_of(finished, benchmark)
        metrics = metrics_of(finished, benchmark)
        columns += [_number_column(group, metric, "{:.3f}".format, "metrics", benchmark, metric) for metric in metrics]
        columns += [_retention_column(group, benchmark, metric) for metric in metrics[:1]]
    for device in keys_at(finished, "latency"):
        columns.append(_number_column("Latency (ms)", device, "{:.2f}".format, "latency", device, "ms"))
    return fill_table(columns, finished)


def provenance_table(finished: Sequence[Result]) -> dict[str, Any]:
    """Returns the table of configurations and stage times, one row for each job."""
    columns = [
        _text_column("Job", "job"),
        _text_column("Config", "config_hash"),
        *(_stage_column(stage) for stage in dict.fromkeys((*STAGES, *keys_at(finished, "seconds")))),
        _number_column("", "Masked vs compacted", "{:.1e}".format, "masked_vs_compacted"),
        _text_column("Folder", "folder"),
    ]
    return fill_table(columns, finished)


def makers_table(finished: Sequence[Result]) -> dict[str, Any]:
    """Returns the table of who made the stages, one row for each maker of each stage."""
    columns = [_text_column(label.capitalize(), label) for label in ("stage", "commit", "torch", "processor", "jobs")]
    return fill_table(columns, count_makers(finished))


def heading_of(results: Sequence[Result], benchmark: str) -> str:
    """Returns the name of a benchmark with its protocol, since every number is written with its protocol."""
    return DOT.join(filter(None, (benchmark, protocol_of(results, benchmark))))


def csv_table(results: Sequence[Result]) -> str:
    """Returns the CSV table, one row for each job. The name of a column is its path in `result.json`."""
    known = {key: index for index, key in enumerate(CSV_COLUMNS)}
    rows = [dict(_flatten(result)) for result in results]
    found = dict.fromkeys(key for row in rows for key in row)
    columns = sorted(found, key=lambda key: known.get(key.split(".")[0], len(known)))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def fill_table(columns: Sequence[Column], rows: Sequence[Any]) -> dict[str, Any]:
    """Returns a table for the template: "groups" of headings with their widths, "columns" and "rows" of cells.

    Columns without a value are left out.
    """
    columns = [column for column in columns if any(column.cell(row).sort is not None for row in rows)]
    groups: list[list] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1][1] += 1
        else:
            groups.append([column.group, 1])
    return {"groups": groups, "columns": columns, "rows": [[column.cell(row) for column in columns] for row in rows]}


def _text_column(label: str, key: str) -> Column:
    def cell(result: Result) -> Cell:
        value = result.get(key)
        return Cell(DASH if value is None else str(value), value if isinstance(value, int | None) else str(value))

    return Column("", label, key == "seed", cell)


def _number_column(group: str, label: str, form: Callable[[float], str], *path: str) -> Column:
    def cell(result: Result) -> Cell:
        value = number_at(result, *path)
        return Cell(DASH if value is None else form(value), value)

    return Column(group, label, True, cell)


def _size_column(label: str, form: Callable[[float], str], *path: str) -> Column:
    """Returns the column of a size, each with its fraction of the parent's size."""

    def cell(result: Result) -> Cell:
        value = number_at(result, *path)
        share = number_at(result, "achieved", path[0])
        return Cell(DASH if value is None else with_share(form(value), share), value)

    return Column("Size", label, True, cell)


def _retention_column(group: str, benchmark: str, metric: str) -> Column:
    def cell(result: Result) -> Cell:
        value = retention_of(result, benchmark, metric)
        return Cell(DASH if value is None else f"{value:.1%}", value)

    return Column(group, f"{metric} retention", True, cell)


def _stage_column(stage: str) -> Column:
    def cell(result: Result) -> Cell:
        value, seconds = value_at(result, "seconds", stage), number_at(result, "seconds", stage)
        return Cell(DASH if value is None else "cached" if seconds is None else f"{seconds:,.1f}", seconds)

    return Column("Seconds", stage.capitalize(), True, cell)


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of a result with their paths."""
    if path.split(".")[-1] == "units" and isinstance(value, dict):
        # Sums only: the groups differ between trackers, and a column for each would make the table unreadable.
        for count in ("kept", "size"):
            yield f"{path}.{count}", sum(unit.get(count) or 0 for unit in value.values())
    elif path.split(".")[0] == "stages" and isinstance(value, dict) and "key" in value:
        yield f"{path}.key", value["key"]
        yield f"{path}.commit", value.get("commit")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value) if isinstance(value, list) else value
