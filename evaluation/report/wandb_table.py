"""The table of a study on W&B: what differs between jobs and what they achieve, a row for each job."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from evaluation.report.study_results import (
    Result,
    benchmarks_of,
    keys_at,
    leading_metric,
    metrics_of,
    number_at,
    retention_of,
    sort_key,
    value_at,
)
from evaluation.report.tables import csv_table

Column = tuple[str, Callable[[Result], Any]]  # name, and what it reads from a result

ALWAYS = ("tracker", "ratio")
IF_DIFFERENT = ("scale", "method", "ratio_of", "seed", "status", "error")
COSTS = {"params": ("params",), "macs": ("macs", "total")}


def study_table(results: Sequence[Result]) -> tuple[list[Any], list[list[Any]]]:
    """Returns the names of the columns and the rows.

    The columns are what differs between the jobs, then scores, retention, speed-up and sizes. The first metric has its
    intervals and its parent's score; those of the others are in `study.csv`. Speeds are paired: latencies of different
    jobs were measured at different times. Columns without a value are left out.
    """
    results = sorted(results, key=sort_key)
    columns = {name: [read(result) for result in results] for name, read in _columns(results)}
    columns = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    return [*columns], [list(row) for row in zip(*columns.values(), strict=True)]


def constants_of(results: Sequence[Result]) -> dict[str, str]:
    """Returns the values of `study.csv` that all finished jobs share, by column: settings, versions, words."""
    finished = [result for result in results if result.get("status") == "finished"]
    header, *rows = csv.reader(io.StringIO(csv_table(finished)))
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    return {name: cells[0] for name, cells in columns.items() if len({*cells}) == 1 and cells[0]}


def _columns(results: Sequence[Result]) -> Iterator[Column]:
    """Yields the columns from left to right."""
    for key in (*ALWAYS, *IF_DIFFERENT):
        if key in ALWAYS or len({str(result.get(key)) for result in results}) > 1:
            yield _at(key, key)
    first = leading_metric(results)
    for benchmark in benchmarks_of(results):
        for metric in metrics_of(results, benchmark):
            yield from _score_columns(benchmark, metric, (benchmark, metric) == first)
    for device in keys_at(results, "speedup"):
        yield _at(f"speedup/{device}", "speedup", device, "ratio")
        yield from _ends(f"speedup/{device}", "speedup", device)
        yield _at(f"speedup/{device} noise", "speedup", device, "noise", "ratio")
    for name, path in COSTS.items():
        yield _at(f"{name} kept", "achieved", name)
        yield _at(name, *path)


def _score_columns(benchmark: str, metric: str, detailed: bool) -> Iterator[Column]:
    name = f"{benchmark}/{metric}"
    yield name, lambda result: number_at(result, "metrics", benchmark, metric)
    if detailed:
        yield from _ends(name, "intervals", benchmark, metric)
        yield f"{name} of the parent", lambda result: number_at(result, "parent", "metrics", benchmark, metric)
    yield f"{name} retention", lambda result: retention_of(result, benchmark, metric)
    if detailed:
        yield from _ends(f"{name} retention", "retention_intervals", benchmark, metric)


def _ends(name: str, *path: str) -> Iterator[Column]:
    """Yields the columns of both ends of an interval."""
    for end in ("low", "high"):
        yield _at(f"{name} {end}", *path, end)


def _at(name: str, *path: str) -> Column:
    return name, lambda result: value_at(result, *path)
