"""The units that pruning kept in each group: by network, as a heatmap's fractions and as a table's counts."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from evaluation.report.heatmap import Heat
from evaluation.report.results import Result, identity_of, keys_at, number_at
from evaluation.report.words import DASH, DOT

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


def units_table(rows: Rows) -> list[tuple[str, str, str, list[str]]]:
    """For each group: name, kind, size, and the kept units of each row (mean over seeds)."""
    table = []
    for group in _groups(rows):
        units = [result["units"][group] for results in rows.values() for result in results if group in result["units"]]
        kept = [
            [value for result in results if (value := number_at(result, "units", group, "kept")) is not None]
            for results in rows.values()
        ]
        cells = [f"{round(fmean(values), 1):g}" if values else DASH for values in kept]
        table.append((group, str(units[0].get("kind", DASH)), str(units[0].get("size", DASH)), cells))
    return table


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
