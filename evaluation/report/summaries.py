"""Tables of means over seeds: measurements at each ratio, stability of each tracker and of each family."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from evaluation.report.formatting import DASH, DOT, join_words, with_share
from evaluation.report.series import with_parents
from evaluation.report.stability import LEVELS, Break, FamilyStability, Stability
from evaluation.report.study_results import (
    IDENTITY,
    Result,
    benchmarks_of,
    identity_of,
    keys_at,
    metrics_of,
    number_at,
    number_reader,
    retention_of,
    seeds_of,
)
from evaluation.report.tables import Cell, Column, fill_table, heading_of

Form = Callable[[float], str]
Row = Mapping[tuple[str, str], Any]  # stability by benchmark and metric

HEADINGS = {"tracker": "Tracker", "family": "Family", "scale": "Scale", "method": "Method", "ratio_of": "Ratio of"}


def summary_table(finished: Sequence[Result]) -> dict[str, Any]:
    """Returns the table of measurements, one row for each ratio: means over seeds with standard deviations."""
    settings: dict[tuple, list[Result]] = {}
    for result in with_parents(finished):
        if number_at(result, "ratio"):
            settings.setdefault((identity_of(result), -result["ratio"]), []).append(result)
    rows = [settings[key] for key in sorted(settings, key=lambda key: (str(key[0]), key[1]))]
    columns = [
        *_name_columns(rows, ("tracker", "family", *IDENTITY[1:]), lambda row, key: row[0].get(key)),
        Column("", "Ratio", True, lambda row: _cell(row[0]["ratio"], "{:g}".format)),
        Column("", "Seeds", True, lambda row: _cell(len(seeds_of(row)), str)),
        _size_column("Parameters", "{:,.0f}".format, "params"),
        _size_column("MACs (M)", lambda value: f"{value / 1e6:,.2f}", "macs", "total"),
    ]
    for device in keys_at(finished, "latency"):
        columns.append(
            _mean_column("Latency (ms)", device, "{:.2f}".format, number_reader("latency", device, "ms"), spread=False)
        )
    for benchmark in benchmarks_of(finished):
        heading = heading_of(finished, benchmark)
        for metric in metrics_of(finished, benchmark):
            columns += [
                _mean_column(heading, metric, "{:.3f}".format, number_reader("metrics", benchmark, metric)),
                _mean_column(heading, f"{metric} retention", "{:.3f}".format, _retention(benchmark, metric)),
            ]
    return fill_table(columns, rows)


def stability_table(rows: Sequence[Stability]) -> dict[str, Any]:
    """Returns the areas and breaking ratios, one row for each tracker, scale, method and kind of ratio."""
    by_curve: dict[tuple, dict[tuple[str, str], Stability]] = {}
    for row in rows:
        by_curve.setdefault(row.curve.identity, {})[_metric(row.curve)] = row
    columns = [
        *_name_columns(by_curve.values(), ("tracker", "family", *IDENTITY[1:]), _identity),
        Column("", "Seeds", True, _seeds_cell),
        *_stability_columns(by_curve.values(), _area_cell, _break_cell),
    ]
    return fill_table(columns, list(by_curve.values()))


def families_table(rows: Sequence[FamilyStability]) -> dict[str, Any]:
    """Returns the areas and breaking ratios, one row for each family, scale, method and kind of ratio."""
    by_family: dict[tuple, dict[tuple[str, str], FamilyStability]] = {}
    for row in rows:
        key = (row.family, row.scale, row.method, row.ratio_of)
        by_family.setdefault(key, {})[_metric(row)] = row
    columns = [
        *_name_columns(by_family.values(), ("family", *IDENTITY[1:]), lambda row, key: getattr(_first(row), key)),
        Column("", "Trackers", False, lambda row: _cell(join_words(_first(row).trackers), str)),
        *_stability_columns(by_family.values(), _area_cell, _family_break_cell),
    ]
    return fill_table(columns, list(by_family.values()))


def _name_columns(rows: Iterable[Any], keys: Sequence[str], read: Callable[[Any, str], Any]) -> Iterator[Column]:
    """Yields the columns that name a row: the first key, the family, the method, and other keys whose values differ."""
    rows = list(rows)
    for key in keys:
        if key in (keys[0], "family", "method") or len({read(row, key) for row in rows}) > 1:
            yield Column("", HEADINGS[key], False, lambda row, key=key: _cell(read(row, key), str))


def _stability_columns(rows: Iterable[Row], area_cell: Callable, break_cell: Callable) -> Iterator[Column]:
    """Yields the columns of each metric: its area and its breaking ratios."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row))
    several = len({benchmark for benchmark, _ in kinds}) > 1
    for kind in kinds:
        group = DOT.join(kind) if several else kind[1]
        yield Column(group, "Area", True, lambda row, kind=kind: area_cell(row.get(kind)))
        for level in LEVELS:
            label = f"Below {level:.0%} at"
            yield Column(group, label, True, lambda row, kind=kind, level=level: break_cell(row.get(kind), level))


def _mean_column(
    group: str, label: str, form: Form, read: Callable[[Result], float | None], spread: bool = True
) -> Column:
    def cell(row: Sequence[Result]) -> Cell:
        values = [value for result in row if (value := read(result)) is not None]
        if not values:
            return Cell(DASH, None)
        return Cell(
            _with_deviation(fmean(values), stdev(values) if spread and len(values) > 1 else None, form), fmean(values)
        )

    return Column(group, label, True, cell)


def _size_column(label: str, form: Form, *path: str) -> Column:
    """Returns the column of a mean size, each with its fraction of the parent's size."""
    sizes = _mean_column("", label, form, number_reader(*path), spread=False)
    read_share = number_reader("achieved", path[0])

    def cell(row: Sequence[Result]) -> Cell:
        size, shares = sizes.cell(row), [share for result in row if (share := read_share(result)) is not None]
        return Cell(with_share(size.text, fmean(shares) if shares else None), size.sort)

    return replace(sizes, cell=cell)


def _area_cell(row: Stability | FamilyStability | None) -> Cell:
    if row is None or row.area is None:
        return Cell(DASH, None)
    return Cell(_with_deviation(row.area, row.area_std, "{:.3f}".format), row.area)


def _break_cell(row: Stability | None, level: float) -> Cell:
    if row is None or not row.seeds:
        return Cell(DASH, None)
    found: Break = row.breaks[level]
    end = min(point.requested for seed in row.seeds for point in row.curve.seeds[seed])
    ratios = (found.low, found.ratio, found.high)
    low, mean, high = (f"< {end:g}" if ratio is None else f"{ratio:.3g}" for ratio in ratios)
    return Cell(mean if low == high else f"{mean} ({low} to {high})", found.ratio or 0.0)


def _family_break_cell(row: FamilyStability | None, level: float) -> Cell:
    if row is None:
        return Cell(DASH, None)
    ratio = row.breaks[level]
    return Cell(f"{row.broken[level]} of {len(row.trackers)} break" if ratio is None else f"{ratio:.3g}", ratio or 0.0)


def _seeds_cell(row: Row) -> Cell:
    first: Stability = _first(row)
    used, all_seeds = len(first.seeds), len(first.curve.seeds)
    return Cell(str(used) if used == all_seeds else f"{used} of {all_seeds}", used)


def _identity(row: Row, key: str) -> Any:
    curve = _first(row).curve
    return curve.family if key == "family" else dict(zip(IDENTITY, curve.identity, strict=True))[key]


def _retention(benchmark: str, metric: str) -> Callable[[Result], float | None]:
    return lambda result: retention_of(result, benchmark, metric)


def _metric(measured: Any) -> tuple[str, str]:
    return measured.benchmark, measured.metric


def _first(row: Row) -> Any:
    return next(iter(row.values()))


def _with_deviation(mean: float, std: float | None, form: Form) -> str:
    return form(mean) if std is None else f"{form(mean)} \u00b1 {form(std)}"


def _cell(value: Any, form: Callable[[Any], str]) -> Cell:
    return Cell(DASH if value is None else form(value), value)
