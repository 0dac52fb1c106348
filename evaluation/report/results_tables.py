"""The tables of results: parent, child, retention, speed-up and size. A row is a job, or the seeds of one ratio."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from evaluation.report.estimates import (
    Estimate,
    parent_score_estimate,
    retention_estimate,
    score_estimate,
    speedup_estimate,
)
from evaluation.report.formatting import DASH, DOT, format_range, format_si, with_share
from evaluation.report.series import with_parents
from evaluation.report.study_results import (
    IDENTITY,
    Result,
    benchmarks_of,
    identity_of,
    keys_at,
    metrics_of,
    number_at,
    protocol_of,
    seeds_of,
)
from evaluation.report.tables import Cell, Column, fill_table

Setting = Sequence[Result]  # results that differ in the seed only
Table = dict[str, Any]  # see `tables.fill_table`

HEADINGS = {"tracker": "Tracker", "family": "Family", "scale": "Scale", "method": "Method", "ratio_of": "Ratio of"}


def settings_of(finished: Sequence[Result]) -> list[Setting]:
    """Returns the results by tracker, method and falling ratio, with those of the parents at ratio 1."""
    settings: dict[tuple, list[Result]] = {}
    for result in with_parents(finished):
        if number_at(result, "ratio"):
            settings.setdefault((identity_of(result), -result["ratio"]), []).append(result)
    return [settings[key] for key in sorted(settings, key=lambda key: (str(key[0]), key[1]))]


def results_tables(rows: Sequence[Setting]) -> list[tuple[str, Table]]:
    """Returns a table for each benchmark, with its main metric, speed and size: (name with protocol, table)."""
    results = [result for row in rows for result in row]
    found = []
    for benchmark in benchmarks_of(results):
        if metric := next(iter(metrics_of(results, benchmark)), ""):
            columns = [
                *_row_columns(rows),
                *_score_columns(benchmark, metric),
                *_seed_columns(rows, benchmark, metric),
                *_speed_columns(results),
                *_size_columns(),
            ]
            found.append((heading_of(results, benchmark), fill_table(columns, rows)))
    return found


def metrics_table(rows: Sequence[Setting]) -> Table:
    """Returns the table of the other metrics of all benchmarks; without rows if there are none."""
    results = [result for row in rows for result in row]
    several = len(benchmarks_of(results)) > 1
    columns: list[Column] = []
    for benchmark in benchmarks_of(results):
        for metric in metrics_of(results, benchmark)[1:]:
            columns += _score_columns(benchmark, metric, DOT.join((benchmark, metric)) if several else metric)
    return fill_table([*_row_columns(rows), *columns], rows if columns else [])


def heading_of(results: Sequence[Result], benchmark: str) -> str:
    """Returns the name of a benchmark with its protocol, since every number is written with its protocol."""
    return DOT.join(filter(None, (benchmark, protocol_of(results, benchmark))))


def name_columns(rows: Iterable[Any], keys: Sequence[str], read: Callable[[Any, str], Any]) -> Iterator[Column]:
    """Yields the columns that name a row: the first key, and other keys whose values differ."""
    rows = list(rows)
    for key in keys:
        if key == keys[0] or len({read(row, key) for row in rows}) > 1:
            yield Column("", HEADINGS[key], False, lambda row, key=key: value_cell(read(row, key), str))


def value_cell(value: Any, form: Callable[[Any], str]) -> Cell:
    """Returns the cell of a value that may be missing."""
    return Cell(DASH if value is None else form(value), value)


def _row_columns(rows: Sequence[Setting]) -> Iterator[Column]:
    yield from name_columns(rows, IDENTITY, lambda row, key: row[0].get(key))
    yield Column("", "Ratio", True, lambda row: value_cell(row[0].get("ratio"), "{:g}".format))
    if all(len(row) == 1 for row in rows) and len({row[0].get("seed") for row in rows}) > 1:
        yield Column("", "Seed", True, lambda row: value_cell(row[0].get("seed"), str))


def _score_columns(benchmark: str, metric: str, group: str = "") -> list[Column]:
    def child(row: Setting) -> Estimate | None:
        return None if row[0].get("ratio") == 1 else score_estimate(row, benchmark, metric)

    def retention(row: Setting) -> Estimate | None:
        return None if row[0].get("ratio") == 1 else retention_estimate(row, benchmark, metric)

    group = group or metric
    return [
        _estimate_column(group, "Parent", lambda row: parent_score_estimate(row, benchmark, metric), Estimate.score),
        _estimate_column(group, "Child", child, Estimate.score),
        _estimate_column(group, "Retention", retention, Estimate.percent),
    ]


def _seed_columns(rows: Sequence[Setting], benchmark: str, metric: str) -> Iterator[Column]:
    """Yields the number of seeds with a score, and their smallest and largest one, if a row has several seeds."""

    def scored(row: Setting) -> list[Result]:
        return [result for result in row if number_at(result, "metrics", benchmark, metric) is not None]

    def cell(row: Setting) -> Cell:
        scores = [result["metrics"][benchmark][metric] for result in scored(row)]
        if len(set(scores)) < 2:
            return Cell(DASH, None)
        return Cell(format_range((min(scores), max(scores)), "{:.3f}".format), max(scores) - min(scores))

    if any(len(row) > 1 for row in rows):
        yield Column(metric, "Over seeds", True, cell)
        yield Column("", "Seeds", True, lambda row: value_cell(len(seeds_of(scored(row))), str))


def _speed_columns(results: Sequence[Result]) -> Iterator[Column]:
    devices = keys_at(results, "latency")
    for device in devices:
        yield _estimate_column(
            device, "Speed-up", lambda row, device=device: speedup_estimate(row, device), Estimate.times
        )
        yield _mean_column(device, "ms", "{:.2f}".format, "latency", device, "ms")


def _size_columns() -> Iterator[Column]:
    yield _mean_column("", "Parameters", format_si, "params")
    yield _mean_column("", "MACs", format_si, "macs", "total")


def _estimate_column(
    group: str, label: str, read: Callable[[Setting], Estimate | None], form: Callable[[Estimate], str]
) -> Column:
    def cell(row: Setting) -> Cell:
        estimate = read(row)
        return Cell(DASH, None) if estimate is None else Cell(form(estimate), estimate.value)

    return Column(group, label, True, cell)


def _mean_column(group: str, label: str, form: Callable[[float], str], *path: str) -> Column:
    """Returns the column of a mean over seeds; a size with its fraction of the parent's size."""

    def mean(row: Setting, *path: str) -> float | None:
        values = [value for result in row if (value := number_at(result, *path)) is not None]
        return fmean(values) if values else None

    def cell(row: Setting) -> Cell:
        value = mean(row, *path)
        return Cell(DASH if value is None else with_share(form(value), mean(row, "achieved", path[0])), value)

    return Column(group, label, True, cell)
