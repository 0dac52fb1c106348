"""Accuracy against what it costs, and the Pareto front: the points that no other beats."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.report.lines import lines_of, with_parents
from evaluation.report.plots import Point, Series
from evaluation.report.study_results import Result, floor_of, keys_at, leading, reader
from evaluation.report.tables import Cell, Column, filled
from evaluation.report.words import DASH, join, si

Key = tuple[str, float]  # a point of all costs: label of its line, ratio


@dataclass(frozen=True)
class Cost:
    """Something to pay for accuracy: where results have it, its names, and how an axis and a table write it."""

    path: tuple[str, ...]
    slug: str
    name: str
    axis: str
    log: bool
    quantity: Callable[[float], str]
    heading: str
    cell: Callable[[float], str]


@dataclass(frozen=True)
class Tradeoff:
    """The leading metric against a cost, and the points of the front from cheap to dear."""

    cost: Cost
    series: tuple[Series, ...]
    front: tuple[tuple[str, Point], ...]


def tradeoffs_of(finished: Sequence[Result]) -> list[Tradeoff]:
    """A trade-off for each cost that results report."""
    benchmark, metric = leading(finished)
    results, score = with_parents(finished), reader("metrics", benchmark, metric)
    floor = floor_of(finished, benchmark, metric)
    found = [(cost, lines_of(results, reader(*cost.path), score)) for cost in _costs(results)]
    return [Tradeoff(cost, tuple(lines), front(lines, floor[1] if floor else None)) for cost, lines in found if lines]


def front(series: Sequence[Series], floor: float | None = None) -> tuple[tuple[str, Point], ...]:
    """The points that no other beats, from cheap to dear, each with the label of its line.

    One beats another if it costs no more and scores no less, and is better in one of the two. A box that never moves
    costs nothing, so what does not score more than it, `floor`, is beaten, too.
    """
    points = [(line.label, point) for line in series for point in line.points if floor is None or point.mean > floor]
    kept = [one for one in points if not any(_beats(other, one[1]) for _, other in points)]
    return tuple(sorted(kept, key=lambda one: (one[1].x, one[0])))


def front_table(finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> dict[str, Any]:
    """The points on any front, with all their costs, for the page's table; means over seeds."""
    metric = leading(finished)[1]
    on: dict[Key, list[str]] = {}
    for tradeoff in tradeoffs:
        for label, point in tradeoff.front:
            on.setdefault((label, float(point.label)), []).append(tradeoff.cost.name)
    at = [
        {(line.label, float(point.label)): point for line in tradeoff.series for point in line.points}
        for tradeoff in tradeoffs
    ]
    columns = [
        Column("", "Tracker", False, lambda key: Cell(key[0], key[0])),
        Column("", "Ratio", True, lambda key: Cell(f"{key[1]:g}", key[1])),
        Column("", metric, True, lambda key: Cell(f"{_score(at, key):.3f}", _score(at, key))),
        *(_column(tradeoff.cost, points) for tradeoff, points in zip(tradeoffs, at, strict=True)),
        Column("", "On the front of", False, lambda key: Cell(join(on[key]), join(on[key]))),
    ]
    return filled(columns, sorted(on, key=lambda key: (-_score(at, key), key)))


def _column(cost: Cost, points: dict[Key, Point]) -> Column:
    def cell(key: Key) -> Cell:
        return Cell(cost.cell(points[key].x), points[key].x) if key in points else Cell(DASH, None)

    return Column("", cost.heading, True, cell)


def _costs(results: Sequence[Result]) -> Iterator[Cost]:
    for device in keys_at(results, "latency"):
        path, name = ("latency", device, "ms"), f"latency on {device}"
        axis, heading = f"{name} (ms)", f"{device} (ms)"
        yield Cost(path, f"latency-{device}", name, axis, False, "{:g}".format, heading, "{:.2f}".format)
    yield Cost(("params",), "params", "parameters", "parameters", True, si, "Parameters", "{:,.0f}".format)
    path, axis = ("macs", "total"), "MACs of one forward pass"
    yield Cost(path, "macs", "MACs", axis, True, si, "MACs (M)", lambda value: f"{value / 1e6:,.2f}")


def _beats(one: Point, other: Point) -> bool:
    no_worse = one.x <= other.x and one.mean >= other.mean
    return no_worse and (one.x < other.x or one.mean > other.mean)


def _score(at: Sequence[dict[Key, Point]], key: Key) -> float:
    return next(points[key].mean for points in at if key in points)
