"""The units that pruning kept in each group: by network, as a heatmap and as a table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from evaluation.report.heatmap import Heat
from evaluation.report.study_results import Result, identity_of, keys_at, number_at
from evaluation.report.words import DASH, DOT, percent

Rows = dict[str, list[Result]]  # by label; the results of a row differ in seed alone


def units_of(finished: Sequence[Result]) -> dict[str, Rows]:
    """The rows of each network (tracker and scale)."""
    results = [result for result in finished if result.get("units")]
    name_keys = ["tracker", *(["scale"] if len({result.get("scale") for result in results}) > 1 else [])]
    row_keys = [key for key in ("method", "ratio_of") if len({result.get(key) for result in results}) > 1]
    networks: dict[str, Rows] = {}
    # Not the order of the jobs: a ratio that the first seed lacks belongs between its neighbours, too.
    for result in sorted(results, key=lambda result: (*_text_of(result, (*name_keys, *row_keys)), -result["ratio"])):
        name = DOT.join(_text_of(result, name_keys))
        row = " ".join([*_text_of(result, row_keys), f"{result['ratio']:g}"])
        networks.setdefault(name, {}).setdefault(row, []).append(result)
    return networks


def heat_of(rows: Rows) -> Heat:
    """The kept fractions of a network; another method or kind of ratio opens a new block."""
    groups = _groups(rows)
    kept = tuple(tuple(_fraction(results, group) for group in groups) for results in rows.values())
    methods = [identity_of(results[0]) for results in rows.values()]
    breaks = tuple(index for index, method in enumerate(methods) if index and method != methods[index - 1])
    return Heat(tuple(rows), tuple(groups), kept, breaks)


@dataclass(frozen=True)
class UnitsTable:
    """The heatmap's cells as a table that stands upright, for the page.

    Attributes:
        blocks: (name, columns) of each method and kind of ratio; the name is empty where there is only one.
        opening: columns that open a block, but for the first.
        ratios: heading of each column.
        rows: group, kind and size, and for each column the percentage in words and the fraction, None if not known.
    """

    blocks: tuple[tuple[str, int], ...]
    opening: tuple[int, ...]
    ratios: tuple[str, ...]
    rows: tuple[tuple[str, str, str, tuple[tuple[str, float | None], ...]], ...]


def units_table(rows: Rows) -> UnitsTable:
    """One row a group, one column a row of the heatmap."""
    heat, named = heat_of(rows), [row.rpartition(" ") for row in rows]
    edges = (0, *heat.breaks, len(named))
    blocks = tuple((named[start][0], end - start) for start, end in pairwise(edges))
    results = [result for members in rows.values() for result in members]
    table = []
    for group, column in zip(heat.groups, zip(*heat.kept, strict=True), strict=True):
        unit = next(result["units"][group] for result in results if group in result["units"])
        kind, size = (str(unit.get(key, DASH)) for key in ("kind", "size"))
        table.append((group, kind, size, tuple((percent(kept), kept) for kept in column)))
    return UnitsTable(blocks, heat.breaks, tuple(ratio for *_, ratio in named), tuple(table))


def _groups(rows: Rows) -> list[str]:
    return keys_at((result for results in rows.values() for result in results), "units")


def _fraction(results: Sequence[Result], group: str) -> float | None:
    """Mean kept fraction of a group over seeds."""
    pairs = [
        (number_at(result, "units", group, "kept"), number_at(result, "units", group, "size")) for result in results
    ]
    fractions = [kept / size for kept, size in pairs if kept is not None and size]
    return fmean(fractions) if fractions else None


def _text_of(result: Result, keys: Iterable[str]) -> list[str]:
    return [str(result.get(key)) for key in keys]
