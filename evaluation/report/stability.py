"""Stability under pruning: retention over ratio, its area on a log axis, and the ratio at which a tracker breaks.

A curve starts at ratio 1, where retention is 1 by definition. Seeds are grouped by the requested ratio. A point lies at
the mean achieved ratio, since only whole units are removed and the network may be smaller than requested. Bands span
the smallest to the largest seed: a few seeds do not show a distribution, so standard deviations would claim too much.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import fmean, geometric_mean, stdev
from typing import Any, NamedTuple

import numpy as np

from evaluation.report.study_results import (
    Identity,
    Result,
    benchmarks_of,
    floor_of,
    identity_of,
    metrics_of,
    number_at,
    retention_of,
    without_repeats,
)

LEVELS = (0.9, 0.5)  # a tracker breaks where its retention falls below a level

Points = Sequence[tuple[float, float]]  # (ratio, retention), in any order


class SeedPoint(NamedTuple):
    """Retention of one seed at one ratio: the requested ratio, and the achieved one as `ratio`."""

    requested: float
    ratio: float
    retention: float


class CurvePoint(NamedTuple):
    """Retention at one ratio over the seeds that have it; `std` is the sample standard deviation, None for one seed."""

    requested: float
    ratio: float
    mean: float
    low: float
    high: float
    std: float | None
    seeds: int


@dataclass(frozen=True)
class Curve:
    """Retention of one metric on one benchmark by one tracker, scale, method and kind of ratio.

    Attributes:
        identity: tracker, scale, method, ratio_of.
        family: of the tracker: CNN, hybrid or transformer; None if results do not say.
        benchmark, metric: names of the benchmark and of the metric.
        seeds: the points of each seed, by falling ratio from 1.
        floors: by seed, the score of a box that never moves divided by the parent's score. At 1 or above, the parent is
            no better than such a box, and retention has no meaning.
        missing: (seed, requested ratio) of the study that this curve lacks: failed, not run, or without a number.
    """

    identity: Identity
    family: str | None
    benchmark: str
    metric: str
    seeds: Mapping[Any, tuple[SeedPoint, ...]]
    floors: Mapping[Any, float]
    missing: tuple[tuple[Any, float], ...]

    @cached_property
    def points(self) -> tuple[CurvePoint, ...]:
        """The mean over seeds and its band, by falling ratio from 1. A point is over the seeds that have its ratio."""
        return tuple(_means(list(self.seeds.values())))

    @cached_property
    def informative(self) -> tuple[Any, ...]:
        """The seeds whose parent scores above a box that never moves."""
        return tuple(seed for seed in self.seeds if self.floors.get(seed, 0) < 1)

    @cached_property
    def complete(self) -> tuple[Any, ...]:
        """The informative seeds that have all ratios. Means over other seeds would mix different sets of ratios."""
        requested = {point.requested for seed in self.informative for point in self.seeds[seed]}
        return tuple(seed for seed in self.informative if len(self.seeds[seed]) == len(requested))


@dataclass(frozen=True)
class Break:
    """The ratio at which retention falls below a level.

    Attributes:
        ratio: of the mean curve; None if it never falls below the level.
        high: the largest ratio of a seed; None if no seed falls below the level.
        low: the smallest ratio of a seed; None if a seed never falls below the level.
        between: the requested ratios next to `ratio`: the smallest one that is not below the level, and the largest one
            that is; None if `ratio` is.
        seeds: the number of seeds.
    """

    ratio: float | None
    high: float | None
    low: float | None
    between: tuple[float, float] | None
    seeds: int


@dataclass(frozen=True)
class Stability:
    """A curve in numbers, over its complete seeds, or over all informative seeds if none is complete.

    Attributes:
        curve: the curve.
        seeds: the seeds that the numbers are computed from; empty if no parent is better than a box that never moves.
        down_to: the smallest ratio that all comparable curves reach (same benchmark, metric and kind of ratio). Areas
            cover the ratios from 1 to it. None if no curve is pruned.
        area: of the mean curve.
        area_std: over seeds; None for fewer than two.
        breaks: by level.
    """

    curve: Curve
    seeds: tuple[Any, ...]
    down_to: float | None
    area: float | None
    area_std: float | None
    breaks: Mapping[float, Break]


@dataclass(frozen=True)
class FamilyStability:
    """The mean over the trackers of a family, for one scale, method and kind of ratio.

    Attributes:
        family, scale, method, ratio_of: identity of the group.
        benchmark, metric: names of the benchmark and of the metric.
        trackers: names of the trackers. With one tracker, effects of the family and of the tracker cannot be separated.
        down_to: as in `Stability`.
        area: mean over trackers.
        area_std: over trackers; None for fewer than two.
        breaks: by level, the geometric mean of breaking ratios; None unless all trackers break.
        broken: by level, the number of trackers that break.
        between: by level, the largest and the smallest requested ratio next to a breaking ratio of a tracker; None
            unless all trackers break.
        seeds: the smallest number of seeds of a tracker.
    """

    family: str | None
    scale: str | None
    method: str | None
    ratio_of: str | None
    benchmark: str
    metric: str
    trackers: tuple[str, ...]
    down_to: float | None
    area: float
    area_std: float | None
    breaks: Mapping[float, float | None]
    broken: Mapping[float, int]
    between: Mapping[float, tuple[float, float] | None]
    seeds: int


def area(points: Points, down_to: float | None = None) -> float | None:
    """Returns the mean retention over the logarithm of the ratio, from the largest ratio to `down_to`.

    It uses the trapezoid rule. 1 means that nothing is lost. Only areas over the same range can be compared.

    Args:
        points: a curve. Ratios may repeat.
        down_to: the smallest ratio; None for the smallest ratio of the curve.

    Returns:
        The mean; None if the points do not reach `down_to` or have a single ratio.
    """
    logs, retention = _ascending(points)
    end = math.log(down_to) if down_to is not None else logs[0] if len(logs) else 0.0
    if not len(logs) or end < logs[0] or end >= logs[-1]:
        return None
    inside = logs > end
    xs = np.concatenate(([end], logs[inside]))
    ys = np.concatenate(([np.interp(end, logs, retention)], retention[inside]))
    return float(np.trapezoid(ys, xs) / (logs[-1] - end))


def breaking_ratio(points: Points, level: float) -> float | None:
    """Returns the largest ratio at which a curve falls below `level`; None if it never does.

    Between points, the curve is linear in the logarithm of the ratio. A curve that rises above the level again at
    smaller ratios has broken nevertheless.
    """
    logs, retention = _ascending(points)
    below = np.flatnonzero(retention < level)
    if not len(below):
        return None
    at = below[-1]
    if at == len(logs) - 1:
        return math.exp(logs[at])
    share = (level - retention[at]) / (retention[at + 1] - retention[at])
    return math.exp(logs[at] + share * (logs[at + 1] - logs[at]))


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


def stability_of(results: Sequence[Result]) -> list[Stability]:
    """Returns the stability of every curve with a pruned point. Areas of comparable curves cover the same range."""
    pruned = [curve for curve in curves_of(results) if any(len(seed) > 1 for seed in curve.seeds.values())]
    used = [curve.complete or curve.informative for curve in pruned]
    reach: dict[tuple, float] = {}
    for curve, seeds in zip(pruned, used, strict=True):
        ends = [min(point.ratio for point in curve.seeds[seed]) for seed in seeds]
        reach[_kind(curve)] = max([reach.get(_kind(curve), 0.0), *(end for end in ends if end < 1)])
    return [_stability(curve, seeds, reach[_kind(curve)]) for curve, seeds in zip(pruned, used, strict=True)]


def families_of(rows: Sequence[Stability]) -> list[FamilyStability]:
    """Returns the means over the trackers of each family with the same scale, method and kind of ratio."""
    groups: dict[tuple, list[Stability]] = {}
    for row in rows:
        if row.area is not None:
            key = (row.curve.family, *row.curve.identity[1:], row.curve.benchmark, row.curve.metric)
            groups.setdefault(key, []).append(row)
    return [_family(key, members) for key, members in groups.items()]


def _family(key: tuple, members: Sequence[Stability]) -> FamilyStability:
    areas = [row.area for row in members if row.area is not None]
    ratios = {level: [row.breaks[level].ratio for row in members] for level in LEVELS}
    broken = {level: [ratio for ratio in found if ratio is not None] for level, found in ratios.items()}
    next_to = {level: [between for row in members if (between := row.breaks[level].between)] for level in LEVELS}
    return FamilyStability(
        *key,
        trackers=tuple(str(row.curve.identity[0]) for row in members),
        down_to=members[0].down_to,
        area=fmean(areas),
        area_std=stdev(areas) if len(areas) > 1 else None,
        breaks={k: geometric_mean(broken[k]) if len(broken[k]) == len(members) else None for k in LEVELS},
        broken={level: len(found) for level, found in broken.items()},
        between={
            level: (max(a for a, _ in found), min(b for _, b in found)) if len(found) == len(members) else None
            for level, found in next_to.items()
        },
        seeds=min(len(row.seeds) for row in members),
    )


def _stability(curve: Curve, seeds: Sequence[Any], down_to: float) -> Stability:
    lines = [[(point.ratio, point.retention) for point in curve.seeds[seed]] for seed in seeds]
    points = list(_means([curve.seeds[seed] for seed in seeds]))
    mean = [(point.ratio, point.mean) for point in points]
    areas = [found for line in lines if (found := area(line, down_to)) is not None]
    breaks = {}
    for level in LEVELS:
        found = [breaking_ratio(line, level) for line in lines]
        broken = [ratio for ratio in found if ratio is not None]
        low = min(broken) if broken and None not in found else None
        between = next(((a.requested, b.requested) for a, b in pairwise(points) if b.mean < level), None)
        breaks[level] = Break(breaking_ratio(mean, level), max(broken, default=None), low, between, len(seeds))
    spread = stdev(areas) if len(areas) > 1 else None
    return Stability(curve, tuple(seeds), down_to or None, area(mean, down_to or None), spread, breaks)


def _kind(curve: Curve) -> tuple:
    """Returns a key that is equal for comparable curves."""
    return curve.benchmark, curve.metric, curve.identity[-1]


def _ascending(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logarithms of the ratios, rising, and the retention there, averaged over equal ratios."""
    by_ratio: dict[float, list[float]] = {}
    for ratio, retention in points:
        by_ratio.setdefault(ratio, []).append(retention)
    ratios = sorted(by_ratio)
    return np.log(np.array(ratios)), np.array([fmean(by_ratio[ratio]) for ratio in ratios])


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
    floors: dict[Any, float] = {}
    for seed in sorted({result.get("seed") for result in members}, key=str):
        own = [result for result in members if result.get("seed") == seed]
        pairs = floor_of(own, benchmark, metric, relative=True)
        if pairs:
            floors[seed] = pairs[1]
        if points := tuple(_seed_points(own, benchmark, metric)):
            seeds[seed] = points
    have = {(seed, point.requested) for seed, points in seeds.items() for point in points}
    return Curve(
        identity=identity_of(members[0]),
        family=next((result["family"] for result in members if result.get("family")), None),
        benchmark=benchmark,
        metric=metric,
        seeds=seeds,
        floors=floors,
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


def _means(seeds: Sequence[Sequence[SeedPoint]]) -> Iterator[CurvePoint]:
    for requested in sorted({point.requested for seed in seeds for point in seed}, reverse=True):
        found = [point for seed in seeds for point in seed if point.requested == requested]
        values = [point.retention for point in found]
        std = stdev(values) if len(values) > 1 else None
        ratio = fmean(point.ratio for point in found)
        yield CurvePoint(requested, ratio, fmean(values), min(values), max(values), std, len(values))
