"""Curves of retention over ratio, for each metric, tracker and method.

A curve starts at ratio 1, where retention is 1 by definition. Seeds are grouped by the requested ratio. A point lies at
the mean achieved ratio, since only whole units are removed and the network may be smaller than requested.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from evaluation.report.study_results import (
    Identity,
    Result,
    benchmarks_of,
    identity_of,
    is_informative,
    metrics_of,
    number_at,
    retention_of,
    without_repeats,
)


class SeedPoint(NamedTuple):
    """Retention of one seed at one ratio: the requested ratio, and the achieved one as `ratio`."""

    requested: float
    ratio: float
    retention: float


class CurvePoint(NamedTuple):
    """Mean retention at one ratio over the seeds that have it."""

    requested: float
    ratio: float
    mean: float


@dataclass(frozen=True)
class Curve:
    """Retention of one metric on one benchmark by one tracker, scale, method and kind of ratio.

    Attributes:
        identity: tracker, scale, method, ratio_of.
        family: of the tracker: CNN, hybrid or transformer; None if results do not say.
        benchmark, metric: names of the benchmark and of the metric.
        seeds: the points of each seed, by falling ratio from 1.
        informative: the seeds whose parent scores above a box that never moves; other retentions have no meaning.
        missing: (seed, requested ratio) of the study that this curve lacks: failed, not run, or without a number.
    """

    identity: Identity
    family: str | None
    benchmark: str
    metric: str
    seeds: Mapping[Any, tuple[SeedPoint, ...]]
    informative: tuple[Any, ...]
    missing: tuple[tuple[Any, float], ...]

    @cached_property
    def points(self) -> tuple[CurvePoint, ...]:
        """The mean over the informative seeds that have a ratio, by falling ratio; over all if none is informative."""
        return tuple(means_of([self.seeds[seed] for seed in self.informative or self.seeds]))

    @cached_property
    def complete(self) -> tuple[Any, ...]:
        """The informative seeds that have all ratios. Means over other seeds would mix different sets of ratios."""
        requested = {point.requested for seed in self.informative for point in self.seeds[seed]}
        return tuple(seed for seed in self.informative if len(self.seeds[seed]) == len(requested))


def curves_of(results: Sequence[Result]) -> list[Curve]:
    """Returns all curves of a study, in the order of its benchmarks, metrics and identities."""
    finished = without_repeats(result for result in results if result.get("status") == "finished")
    found = []
    for benchmark in benchmarks_of(finished):
        for metric in metrics_of(finished, benchmark):
            for identity in sorted({identity_of(result) for result in finished}, key=str):
                members = [result for result in finished if identity_of(result) == identity]
                found.append(_curve(members, benchmark, metric, _requested(results, identity)))
    return [curve for curve in found if curve.seeds]


def means_of(seeds: Sequence[Sequence[SeedPoint]]) -> Iterator[CurvePoint]:
    """Yields the means over seeds by falling ratio."""
    for requested in sorted({point.requested for seed in seeds for point in seed}, reverse=True):
        found = [point for seed in seeds for point in seed if point.requested == requested]
        yield CurvePoint(requested, fmean(point.ratio for point in found), fmean(point.retention for point in found))


def _requested(results: Sequence[Result], identity: Identity) -> list[tuple[Any, float]]:
    """Returns every (seed, ratio) of the study for a kind of ratio. Failed jobs that do not name theirs count, too."""
    ratios = {
        ratio
        for result in results
        if result.get("ratio_of") in (None, identity[-1]) and (ratio := number_at(result, "ratio"))
    }
    seeds = sorted({result.get("seed") for result in results}, key=str)
    return [(seed, ratio) for seed in seeds for ratio in sorted(ratios, reverse=True) if ratio < 1]


def _curve(members: Sequence[Result], benchmark: str, metric: str, requested: Sequence[tuple[Any, float]]) -> Curve:
    seeds: dict[Any, tuple[SeedPoint, ...]] = {}
    informative = []
    for seed in sorted({result.get("seed") for result in members}, key=str):
        own = [result for result in members if result.get("seed") == seed]
        if points := tuple(_seed_points(own, benchmark, metric)):
            seeds[seed] = points
            informative += [seed] if all(is_informative(result, benchmark, metric) for result in own) else []
    have = {(seed, point.requested) for seed, points in seeds.items() for point in points}
    return Curve(
        identity=identity_of(members[0]),
        family=next((result["family"] for result in members if result.get("family")), None),
        benchmark=benchmark,
        metric=metric,
        seeds=seeds,
        informative=tuple(informative),
        missing=tuple(pair for pair in requested if pair not in have),
    )


def _seed_points(results: Sequence[Result], benchmark: str, metric: str) -> Iterator[SeedPoint]:
    """Yields the points of one seed by falling ratio. The first is the parent, with or without a job of its own."""
    at: dict[float, list[tuple[float, float]]] = {}
    for result in results:
        requested, retention = number_at(result, "ratio"), retention_of(result, benchmark, metric)
        if requested and retention is not None:
            at.setdefault(requested, []).append((number_at(result, "ratio_achieved") or requested, retention))
    if at:
        at[1.0] = [(1.0, 1.0)]
    for requested in sorted(at, reverse=True):
        yield SeedPoint(requested, *(fmean(column) for column in zip(*at[requested], strict=True)))
