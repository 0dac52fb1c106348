"""Results as tables: the cells of the page's tables, and `study.csv`."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
from evaluation.report.words import DASH, DOT

STAGES = ("parent", "sparsity", "child", "evaluation")
CSV_COLUMNS = (
    *("job", "status", "tracker", "family", "scale", "method", "seed", "ratio", "ratio_of", "ratio_achieved", "params"),
    *("macs", "units", "metrics", "retention", "still_box", "latency", "masked_vs_compacted", "parent", "seconds"),
    *("config_hash", "versions", "machine", "commit", "folder", "error", "command"),
)


@dataclass(frozen=True)
class Cell:
    """A table cell: what it shows, and what it sorts by (None: always last)."""

    text: str
    sort: str | float | None


@dataclass(frozen=True)
class Column:
    """A table column: a heading under a heading, and the cell of a row: of a result, or of whatever the rows are."""

    group: str
    label: str
    number: bool
    cell: Callable[[Any], Cell]


def main_table(finished: Sequence[Result]) -> dict[str, Any]:
    """What was measured, one row a job."""
    columns = [
        _text("Tracker", "tracker"),
        _text("Family", "family"),
        _text("Scale", "scale"),
        _text("Method", "method"),
        _text("Seed", "seed"),
        _numeric("Kept", "Ratio", "{:g}".format, "ratio"),
        _numeric("Kept", "Achieved", "{:.4f}".format, "ratio_achieved"),
        _numeric("Size", "Parameters", "{:,.0f}".format, "params"),
        _numeric("Size", "MACs (M)", lambda value: f"{value / 1e6:,.2f}", "macs", "total"),
    ]
    for benchmark in benchmarks_of(finished):
        group = heading_of(finished, benchmark)
        metrics = metrics_of(finished, benchmark)
        columns += [_numeric(group, metric, "{:.3f}".format, "metrics", benchmark, metric) for metric in metrics]
        columns += [_retention(group, benchmark, metric) for metric in metrics[:1]]
    for device in keys_at(finished, "latency"):
        columns.append(_numeric("Latency (ms)", device, "{:.2f}".format, "latency", device, "ms"))
    return filled(columns, finished)


def provenance_table(finished: Sequence[Result]) -> dict[str, Any]:
    """Where the numbers come from, one row a job."""
    columns = [
        _text("Job", "job"),
        _text("Config", "config_hash"),
        *(_stage(stage) for stage in dict.fromkeys((*STAGES, *keys_at(finished, "seconds")))),
        _numeric("", "Masked vs compacted", "{:.1e}".format, "masked_vs_compacted"),
        _text("Folder", "folder"),
    ]
    return filled(columns, finished)


def heading_of(results: Sequence[Result], benchmark: str) -> str:
    """A benchmark with its protocol: no number stands without."""
    return DOT.join(filter(None, (benchmark, protocol_of(results, benchmark))))


def csv_table(results: Sequence[Result]) -> str:
    """One row a job; a column's name is its path in `result.json`, so nothing needs a legend."""
    known = {key: index for index, key in enumerate(CSV_COLUMNS)}
    rows = [dict(_flat(result)) for result in results]
    found = dict.fromkeys(key for row in rows for key in row)
    columns = sorted(found, key=lambda key: known.get(key.split(".")[0], len(known)))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def filled(columns: Sequence[Column], rows: Sequence[Any]) -> dict[str, Any]:
    """A table for the template: heading groups with their widths, columns, cells; empty columns are left out."""
    columns = [column for column in columns if any(column.cell(row).sort is not None for row in rows)]
    groups: list[list] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1][1] += 1
        else:
            groups.append([column.group, 1])
    return {"groups": groups, "columns": columns, "rows": [[column.cell(row) for column in columns] for row in rows]}


def _text(label: str, key: str) -> Column:
    def cell(result: Result) -> Cell:
        value = result.get(key)
        return Cell(DASH if value is None else str(value), value if isinstance(value, int | None) else str(value))

    return Column("", label, key == "seed", cell)


def _numeric(group: str, label: str, form: Callable[[float], str], *path: str) -> Column:
    def cell(result: Result) -> Cell:
        value = number_at(result, *path)
        return Cell(DASH if value is None else form(value), value)

    return Column(group, label, True, cell)


def _retention(group: str, benchmark: str, metric: str) -> Column:
    def cell(result: Result) -> Cell:
        value = retention_of(result, benchmark, metric)
        return Cell(DASH if value is None else f"{value:.1%}", value)

    return Column(group, f"{metric} retention", True, cell)


def _stage(stage: str) -> Column:
    def cell(result: Result) -> Cell:
        value, seconds = value_at(result, "seconds", stage), number_at(result, "seconds", stage)
        return Cell(DASH if value is None else "cached" if seconds is None else f"{seconds:,.1f}", seconds)

    return Column("Seconds", stage.capitalize(), True, cell)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if path.split(".")[-1] == "units" and isinstance(value, dict):
        # Per group it is in the job's own file; columns that differ with the tracker would make the table unreadable.
        for count in ("kept", "size"):
            yield f"{path}.{count}", sum(unit.get(count) or 0 for unit in value.values())
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value) if isinstance(value, list) else value
