"""The leading metric against costs, and the Pareto front: the points that no other point beats."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from evaluation.report.estimates import Estimate, latency_estimate
from evaluation.report.formatting import DASH, format_si, join_words, with_interval
from evaluation.report.series import EstimateOf, Point, Series, score_series, with_parents
from evaluation.report.study_results import Result, floor_of, keys_at, leading_metric, number_reader
from evaluation.report.tables import Cell, Column, fill_table

Key = tuple[str, float]  # identifies a point for all costs: label of its line, ratio


@dataclass(frozen=True)
class Cost:
    """A cost of a tracker.

    Attributes:
        path: of its number in a result.
        slug: in file names.
        name: in sentences.
        axis: label of the axis, with the unit.
        log: whether the axis is logarithmic.
        quantity: formats a value for the axis.
        heading: of the table's column.
        cell: formats a value for the table.
        estimate: returns the interval of a mean over seeds; None for a cost that is counted and not measured.
    """

    path: tuple[str, ...]
    slug: str
    name: str
    axis: str
    log: bool
    quantity: Callable[[float], str]
    heading: str
    cell: Callable[[float], str]
    estimate: EstimateOf | None = None


@dataclass(frozen=True)
class Tradeoff:
    """The leading metric against a cost, and the points of the Pareto front with their labels, by rising cost."""

    cost: Cost
    series: tuple[Series, ...]
    front: tuple[tuple[str, Point], ...]


def tradeoffs_of(finished: Sequence[Result]) -> list[Tradeoff]:
    """Returns a trade-off for each cost that results report."""
    benchmark, metric = leading_metric(finished)
    results = with_parents(finished)
    floor = floor_of(finished, benchmark, metric)
    found = [
        (cost, score_series(results, number_reader(*cost.path), benchmark, metric, cost.estimate))
        for cost in _costs(results)
    ]
    highest = floor[1] if floor else None
    return [Tradeoff(cost, tuple(lines), pareto_front(lines, highest)) for cost, lines in found if lines]


def pareto_front(series: Sequence[Series], floor: float | None = None) -> tuple[tuple[str, Point], ...]:
    """Returns the points that no other point beats, by rising cost, each with the label of its line.

    A point beats another if it costs no more, scores no less, and is better in one of the two. A box that never moves
    costs nothing, so it beats every point that does not score above its score `floor`.
    """
    points = [(line.label, point) for line in series for point in line.points if floor is None or point.mean > floor]
    kept = [one for one in points if not any(_beats(other, one[1]) for _, other in points)]
    return tuple(sorted(kept, key=lambda one: (one[1].x, one[0])))


def front_table(finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> dict[str, Any]:
    """Returns the page's table of the points on any front, with all their costs. Numbers are means over seeds."""
    metric = leading_metric(finished)[1]
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
        Column("", metric, True, lambda key: _score_cell(_point(at, key))),
        *(_column(tradeoff.cost, points) for tradeoff, points in zip(tradeoffs, at, strict=True)),
        Column("", "On the front of", False, lambda key: Cell(join_words(on[key]), join_words(on[key]))),
    ]
    return fill_table(columns, sorted(on, key=lambda key: (-_point(at, key).mean, key)))


def _column(cost: Cost, points: dict[Key, Point]) -> Column:
    def cell(key: Key) -> Cell:
        if key not in points:
            return Cell(DASH, None)
        point = points[key]
        return Cell(with_interval(point.x, point.x_interval, cost.cell, "{:.3g}".format), point.x)

    return Column("", cost.heading, True, cell)


def _costs(results: Sequence[Result]) -> Iterator[Cost]:
    for device in keys_at(results, "latency"):
        path, name = ("latency", device, "ms"), f"latency on {device}"
        axis, heading = f"{name} (ms)", f"{device} (ms)"
        measured = partial(latency_estimate, device=device)
        yield Cost(path, f"latency-{device}", name, axis, False, "{:g}".format, heading, "{:.2f}".format, measured)
    yield Cost(("params",), "params", "parameters", "parameters", True, format_si, "Parameters", "{:,.0f}".format)
    path, axis = ("macs", "total"), "MACs of one forward pass"
    yield Cost(path, "macs", "MACs", axis, True, format_si, "MACs (M)", lambda value: f"{value / 1e6:,.2f}")


def _beats(one: Point, other: Point) -> bool:
    no_worse = one.x <= other.x and one.mean >= other.mean
    return no_worse and (one.x < other.x or one.mean > other.mean)


def _score_cell(point: Point) -> Cell:
    return Cell(Estimate(point.mean, point.interval).score(), point.mean)


def _point(at: Sequence[dict[Key, Point]], key: Key) -> Point:
    return next(points[key] for points in at if key in points)
