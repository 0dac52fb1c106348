"""Tables: their columns and cells, the tables of where results come from, and `study.csv`."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.report.formatting import DASH
from evaluation.report.makers import count_makers
from evaluation.report.study_results import Result, keys_at, number_at, value_at

STAGES = ("parent", "sparsity", "child", "evaluation")
CSV_COLUMNS = (
    *("job", "status", "tracker", "family", "scale", "method", "seed", "ratio", "ratio_of", "ratio_achieved"),
    *("achieved", "params", "macs", "bytes", "units", "metrics", "intervals", "retention", "retention_intervals"),
    *("still_box", "speedup", "latency", "speed", "presence", "masked_vs_compacted", "interval_protocol"),
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


def provenance_table(finished: Sequence[Result]) -> dict[str, Any]:
    """Returns the table of configurations and stage times, one row for each job."""
    columns = [
        _text_column("Job", "job"),
        _text_column("Config", "config_hash"),
        *(_stage_column(stage) for stage in dict.fromkeys((*STAGES, *keys_at(finished, "seconds")))),
        _number_column("", "Achieved ratio", "{:.4f}".format, "ratio_achieved"),
        _number_column("", "Masked vs compacted", "{:.1e}".format, "masked_vs_compacted"),
        _text_column("Folder", "folder"),
    ]
    return fill_table(columns, finished)


def makers_table(finished: Sequence[Result]) -> dict[str, Any]:
    """Returns the table of who made the stages, one row for each maker of each stage."""
    columns = [_text_column(label.capitalize(), label) for label in ("stage", "commit", "torch", "processor", "jobs")]
    return fill_table(columns, count_makers(finished))


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
