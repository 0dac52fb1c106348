"""Tables of stability: of each tracker and of each family, one row for each metric."""

from collections.abc import Iterator, Sequence
from typing import Any

from evaluation.report.formatting import DASH, join_words
from evaluation.report.results_tables import name_columns, value_cell
from evaluation.report.stability import LEVELS, Break, FamilyStability, Stability
from evaluation.report.study_results import IDENTITY
from evaluation.report.tables import Cell, Column, fill_table


def stability_table(rows: Sequence[Stability]) -> dict[str, Any]:
    """Returns the areas and breaking ratios, one row for each metric, tracker, scale, method and kind of ratio."""
    columns = [
        *_metric_columns([_metric(row.curve) for row in rows], lambda row: _metric(row.curve)),
        *name_columns(rows, IDENTITY, _identity),
        Column("", "Area", True, _area_cell),
        *(_break_column(level) for level in LEVELS),
        Column("", "Seeds", True, _seeds_cell),
        Column("", "Family", False, lambda row: value_cell(row.curve.family, str)),
    ]
    return fill_table(columns, rows)


def families_table(rows: Sequence[FamilyStability]) -> dict[str, Any]:
    """Returns the areas and breaking ratios, one row for each metric, family, scale, method and kind of ratio."""
    columns = [
        *_metric_columns([_metric(row) for row in rows], _metric),
        *name_columns(rows, ("family", *IDENTITY[1:]), getattr),
        Column("", "Area", True, _area_cell),
        *(_family_break_column(level) for level in LEVELS),
        Column("", "Trackers", False, lambda row: value_cell(join_words(row.trackers), str)),
    ]
    return fill_table(columns, rows)


def describe_break(found: Break, smallest: float) -> str:
    """Returns a breaking ratio in no more digits than it deserves.

    Args:
        found: the breaking ratio. Of several seeds it has two significant digits and the ends of the seeds; of one seed
            only the tested ratios above and below it are known.
        smallest: the smallest tested ratio, below which a tracker may break.
    """
    if found.seeds > 1:
        mean, low, high = (_two_digits(ratio, smallest) for ratio in (found.ratio, found.low, found.high))
        return mean if low == high else f"{mean} ({low} to {high})"
    if found.between is None:
        return f"< {smallest:g}"
    return _between(found.between)


def _metric_columns(kinds: Sequence[tuple[str, str]], read: Any) -> Iterator[Column]:
    for index, label in enumerate(("Benchmark", "Metric")):
        if len({kind[index] for kind in kinds}) > 1:
            yield Column("", label, False, lambda row, index=index: value_cell(read(row)[index], str))


def _break_column(level: float) -> Column:
    def cell(row: Stability) -> Cell:
        if not row.seeds:
            return Cell(DASH, None)
        found = row.breaks[level]
        return Cell(describe_break(found, row.smallest_ratio), found.ratio or 0.0)

    return Column("", f"Below {level:.0%} at", True, cell)


def _family_break_column(level: float) -> Column:
    def cell(row: FamilyStability) -> Cell:
        ratio, between = row.breaks[level], row.between[level]
        if ratio is None or between is None:
            return Cell(f"{row.broken[level]} of {len(row.trackers)} break", 0.0)
        return Cell(f"{ratio:.2g}" if row.seeds > 1 else _between(between), ratio)

    return Column("", f"Below {level:.0%} at", True, cell)


def _area_cell(row: Stability | FamilyStability) -> Cell:
    if row.area is None:
        return Cell(DASH, None)
    return Cell(f"{row.area:.2f}" + ("" if row.area_std is None else f" \u00b1 {row.area_std:.2f}"), row.area)


def _seeds_cell(row: Stability) -> Cell:
    used, all_seeds = len(row.seeds), len(row.curve.seeds)
    return Cell(str(used) if used == all_seeds else f"{used} of {all_seeds}", used)


def _identity(row: Stability, key: str) -> Any:
    return dict(zip(IDENTITY, row.curve.identity, strict=True))[key]


def _metric(measured: Any) -> tuple[str, str]:
    return measured.benchmark, measured.metric


def _between(ratios: tuple[float, float]) -> str:
    return f"between {ratios[0]:g} and {ratios[1]:g}"


def _two_digits(ratio: float | None, smallest: float) -> str:
    return f"< {smallest:g}" if ratio is None else f"{ratio:.2g}"
