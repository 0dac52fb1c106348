"""The units that pruning kept in each group, by network: the cells of the heatmap and of the page's table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from evaluation.report.formatting import DASH, DOT, format_percent
from evaluation.report.study_results import Result, identity_of, keys_at, number_at

Rows = dict[str, list[Result]]  # by label; the results of a row differ in seed only


@dataclass(frozen=True)
class KeptUnits:
    """Kept fractions of a network's groups.

    Attributes:
        rows: labels of the rows, one for each ratio and method.
        groups: labels of the columns.
        kept: the fractions, by row; None if not known.
        breaks: indices of the rows that start a new block.
    """

    rows: tuple[str, ...]
    groups: tuple[str, ...]
    kept: tuple[tuple[float | None, ...], ...]
    breaks: tuple[int, ...]


def networks_of(finished: Sequence[Result]) -> dict[str, Rows]:
    """Returns the rows of each network (tracker and scale)."""
    results = [result for result in finished if result.get("units")]
    name_keys = ["tracker", *(["scale"] if len({result.get("scale") for result in results}) > 1 else [])]
    row_keys = [key for key in ("method", "ratio_of") if len({result.get(key) for result in results}) > 1]
    networks: dict[str, Rows] = {}
    # Sorted, because in the order of the jobs a ratio that the first seed lacks would come last.
    for result in sorted(results, key=lambda result: (*_text_of(result, (*name_keys, *row_keys)), -result["ratio"])):
        name = DOT.join(_text_of(result, name_keys))
        row = " ".join([*_text_of(result, row_keys), f"{result['ratio']:g}"])
        networks.setdefault(name, {}).setdefault(row, []).append(result)
    return networks


def kept_units_of(rows: Rows) -> KeptUnits:
    """Returns the kept fractions of a network. A new method or kind of ratio starts a new block."""
    groups = _groups(rows)
    kept = tuple(tuple(_fraction(results, group) for group in groups) for results in rows.values())
    methods = [identity_of(results[0]) for results in rows.values()]
    breaks = tuple(index for index, method in enumerate(methods) if index and method != methods[index - 1])
    return KeptUnits(tuple(rows), tuple(groups), kept, breaks)


@dataclass(frozen=True)
class UnitsTable:
    """The cells of the heatmap as a table for the page, with one row for each group.

    Attributes:
        blocks: (name, number of columns) of each method and kind of ratio; the name is empty if there is only one.
        opening: indices of the columns that start a block, without the first.
        ratios: heading of each column.
        rows: group, kind and size, and for each column the percentage as text and the fraction, None if not known.
    """

    blocks: tuple[tuple[str, int], ...]
    opening: tuple[int, ...]
    ratios: tuple[str, ...]
    rows: tuple[tuple[str, str, str, tuple[tuple[str, float | None], ...]], ...]


def units_table(rows: Rows) -> UnitsTable:
    """Returns the table of a network: one row for each group, one column for each row of the heatmap."""
    units, named = kept_units_of(rows), [row.rpartition(" ") for row in rows]
    edges = (0, *units.breaks, len(named))
    blocks = tuple((named[start][0], end - start) for start, end in pairwise(edges))
    results = [result for members in rows.values() for result in members]
    table = []
    for group, column in zip(units.groups, zip(*units.kept, strict=True), strict=True):
        unit = next(result["units"][group] for result in results if group in result["units"])
        kind, size = (str(unit.get(key, DASH)) for key in ("kind", "size"))
        table.append((group, kind, size, tuple((format_percent(kept), kept) for kept in column)))
    return UnitsTable(blocks, units.breaks, tuple(ratio for *_, ratio in named), tuple(table))


def _groups(rows: Rows) -> list[str]:
    return keys_at((result for results in rows.values() for result in results), "units")


def _fraction(results: Sequence[Result], group: str) -> float | None:
    """Returns the mean kept fraction of a group over seeds."""
    pairs = [
        (number_at(result, "units", group, "kept"), number_at(result, "units", group, "size")) for result in results
    ]
    fractions = [kept / size for kept, size in pairs if kept is not None and size]
    return fmean(fractions) if fractions else None


def _text_of(result: Result, keys: Iterable[str]) -> list[str]:
    return [str(result.get(key)) for key in keys]
