"""Stability under pruning: retention over ratio, its area on a log axis, and the ratio at which a tracker breaks.

A curve starts at ratio 1, where retention is 1 by definition. Seeds are grouped by the ratio that was asked for, and
each point lies at the ratio that was achieved (their mean): budgets are met from below, and what is counted should be
what was built. Bands span the smallest to the largest seed: with a handful of seeds that hides nothing, and a band of
standard deviations would claim a distribution.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
)

LEVELS = (0.9, 0.5)  # a tracker breaks where it retains less: a loss that is felt, and half of what it could

Points = Sequence[tuple[float, float]]  # (ratio, retention), in any order


class Kept(NamedTuple):
    """What one seed retains at one ratio."""

    asked: float
    ratio: float
    retention: float


class CurvePoint(NamedTuple):
    """Retention over the seeds that have a ratio; `std` is the sample's, None for one seed."""

    asked: float
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
        family: of the tracker: CNN, hybrid or transformer; None where results do not say.
        benchmark, metric: what is retained.
        seeds: what each seed retains, by falling ratio from 1.
        floors: what a box that never moves has of each seed's parent's score. From 1 on, the parent is no better, and
            its retention says nothing.
        missing: (seed, asked ratio) of the study's that this curve lacks: failed, not run, or without a number.
    """

    identity: Identity
    family: str | None
    benchmark: str
    metric: str
    seeds: Mapping[Any, tuple[Kept, ...]]
    floors: Mapping[Any, float]
    missing: tuple[tuple[Any, float], ...]

    @cached_property
    def points(self) -> tuple[CurvePoint, ...]:
        """The mean over seeds and its band, by falling ratio from 1; each over the seeds that have it."""
        return tuple(_means(self.seeds.values()))

    @cached_property
    def telling(self) -> tuple[Any, ...]:
        """The seeds whose parent is better than a box that never moves."""
        return tuple(seed for seed in self.seeds if self.floors.get(seed, 0) < 1)

    @cached_property
    def complete(self) -> tuple[Any, ...]:
        """The telling seeds that lack none of the ratios that others have: means over them are of equals."""
        asked = {kept.asked for seed in self.telling for kept in self.seeds[seed]}
        return tuple(seed for seed in self.telling if len(self.seeds[seed]) == len(asked))


@dataclass(frozen=True)
class Break:
    """Where retention falls below a level: of the mean curve, and of the first and the last seed to do so.

    None: not within the ratios of the curve.
    """

    ratio: float | None
    high: float | None
    low: float | None


@dataclass(frozen=True)
class Stability:
    """A curve in numbers, over its complete seeds; with none of them, over all telling seeds as they are.

    Attributes:
        curve: the curve.
        seeds: the seeds that the numbers are of; none where no parent is better than a box that never moves.
        down_to: the smallest ratio that all comparable curves reach (same benchmark, metric and kind of ratio); areas
            are over ratios from 1 to it. None where none is pruned.
        area: of the mean curve.
        area_std: over seeds; None for less than two.
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
        family, scale, method, ratio_of: what it is of.
        benchmark, metric: what is retained.
        trackers: their names. With one, family and tracker cannot be told apart.
        down_to: as in `Stability`.
        area: mean over trackers.
        area_std: over trackers; None for less than two.
        breaks: by level the geometric mean of breaking ratios; None unless all trackers break.
        broken: by level how many of them do.
    """

    family: str | None
    scale: str | None
    method: str | None
    ratio_of: str | None
    benchmark: str
    metric: str
    trackers: tuple[str, ...]
    down_to: float
    area: float
    area_std: float | None
    breaks: Mapping[float, float | None]
    broken: Mapping[float, int]


def area(points: Points, down_to: float | None = None) -> float | None:
    """A curve as one number: mean retention over the logarithm of the ratio, from the largest to `down_to`.

    By the trapezoid rule; 1 means that nothing is lost. Only areas over one range compare.

    Args:
        points: a curve, of distinct ratios or not.
        down_to: the smallest ratio; None for the curve's own.

    Returns:
        The mean; None where the points do not reach that far, or span no range.
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
    """The largest ratio at which a curve falls below `level`, on a line over the logarithm of the ratio between points.

    Whether it recovers below that does not matter: what broke and came back has broken.

    Returns:
        The ratio; None where the curve never falls below.
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


def curves(results: Sequence[Result]) -> list[Curve]:
    """All curves of a study, in the order of its benchmarks, metrics and identities."""
    finished = [result for result in results if result.get("status") == "finished"]
    found = []
    for benchmark in benchmarks_of(finished):
        for metric in metrics_of(finished, benchmark):
            for identity in sorted({identity_of(result) for result in finished}, key=str):
                members = [result for result in finished if identity_of(result) == identity]
                found.append(_curve(members, benchmark, metric, _asked(results, identity)))
    return [curve for curve in found if curve.seeds]


def stability(results: Sequence[Result]) -> list[Stability]:
    """Every curve that has a pruned point, in numbers that compare."""
    found = [curve for curve in curves(results) if any(len(seed) > 1 for seed in curve.seeds.values())]
    used = [curve.complete or curve.telling for curve in found]
    reach: dict[tuple, float] = {}
    for curve, seeds in zip(found, used, strict=True):
        ends = [min(kept.ratio for kept in curve.seeds[seed]) for seed in seeds]
        reach[_kind(curve)] = max([reach.get(_kind(curve), 0.0), *(end for end in ends if end < 1)])
    return [_stability(curve, seeds, reach[_kind(curve)]) for curve, seeds in zip(found, used, strict=True)]


def families(rows: Sequence[Stability]) -> list[FamilyStability]:
    """The family as a factor: means over the trackers of each, at equal scale, method and kind of ratio."""
    groups: dict[tuple, list[Stability]] = {}
    for row in rows:
        if row.area is not None:
            key = (row.curve.family, *row.curve.identity[1:], row.curve.benchmark, row.curve.metric)
            groups.setdefault(key, []).append(row)
    return [_family(key, members) for key, members in groups.items()]


def _family(key: tuple, members: Sequence[Stability]) -> FamilyStability:
    areas = [row.area for row in members]
    ratios = {level: [row.breaks[level].ratio for row in members] for level in LEVELS}
    return FamilyStability(
        *key,
        trackers=tuple(str(row.curve.identity[0]) for row in members),
        down_to=members[0].down_to,
        area=fmean(areas),
        area_std=stdev(areas) if len(areas) > 1 else None,
        breaks={level: None if None in found else geometric_mean(found) for level, found in ratios.items()},
        broken={level: len(found) - found.count(None) for level, found in ratios.items()},
    )


def _stability(curve: Curve, seeds: Sequence[Any], down_to: float) -> Stability:
    lines = [[(kept.ratio, kept.retention) for kept in curve.seeds[seed]] for seed in seeds]
    mean = [(point.ratio, point.mean) for point in _means([curve.seeds[seed] for seed in seeds])]
    areas = [found for line in lines if (found := area(line, down_to)) is not None]
    breaks = {}
    for level in LEVELS:
        found = [breaking_ratio(line, level) for line in lines]
        broken = [ratio for ratio in found if ratio is not None]
        low = min(broken) if broken and None not in found else None
        breaks[level] = Break(breaking_ratio(mean, level), max(broken, default=None), low)
    spread = stdev(areas) if len(areas) > 1 else None
    return Stability(curve, tuple(seeds), down_to or None, area(mean, down_to or None), spread, breaks)


def _kind(curve: Curve) -> tuple:
    """Equal for curves that compare."""
    return curve.benchmark, curve.metric, curve.identity[-1]


def _ascending(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of ratios, rising, and what is retained there; of equal ratios the mean."""
    by_ratio: dict[float, list[float]] = {}
    for ratio, retention in points:
        by_ratio.setdefault(ratio, []).append(retention)
    ratios = sorted(by_ratio)
    return np.log(np.array(ratios)), np.array([fmean(by_ratio[ratio]) for ratio in ratios])


def _asked(results: Sequence[Result], identity: Identity) -> list[tuple[Any, float]]:
    """Every seed at every ratio that the study asked for, of the identity's kind; failed jobs may not say of which."""
    ratios = {
        ratio
        for result in results
        if result.get("ratio_of") in (None, identity[-1]) and (ratio := number_at(result, "ratio"))
    }
    seeds = sorted({result.get("seed") for result in results}, key=str)
    return [(seed, ratio) for seed in seeds for ratio in sorted(ratios, reverse=True) if ratio < 1]


def _curve(members: Sequence[Result], benchmark: str, metric: str, asked: Sequence[tuple[Any, float]]) -> Curve:
    seeds: dict[Any, tuple[Kept, ...]] = {}
    floors: dict[Any, float] = {}
    for seed in sorted({result.get("seed") for result in members}, key=str):
        own = [result for result in members if result.get("seed") == seed]
        pairs = floor_of(own, benchmark, metric, relative=True)
        if pairs:
            floors[seed] = pairs[1]
        if kept := list(_kept(own, benchmark, metric)):
            seeds[seed] = tuple(kept)
    have = {(seed, kept.asked) for seed, all_kept in seeds.items() for kept in all_kept}
    return Curve(
        identity=identity_of(members[0]),
        family=next((result["family"] for result in members if result.get("family")), None),
        benchmark=benchmark,
        metric=metric,
        seeds=seeds,
        floors=floors,
        missing=tuple(pair for pair in asked if pair not in have),
    )


def _kept(results: Sequence[Result], benchmark: str, metric: str) -> Iterator[Kept]:
    """One seed's points by falling ratio; the first is the parent's own, trained here as a job of its own or not."""
    at: dict[float, list[tuple[float, float]]] = {}
    for result in results:
        asked, retention = number_at(result, "ratio"), retention_of(result, benchmark, metric)
        if asked and retention is not None:
            at.setdefault(asked, []).append((number_at(result, "ratio_achieved") or asked, retention))
    if at:
        at[1.0] = [(1.0, 1.0)]
    for asked in sorted(at, reverse=True):
        yield Kept(asked, *(fmean(column) for column in zip(*at[asked], strict=True)))


def _means(seeds: Sequence[Sequence[Kept]]) -> Iterator[CurvePoint]:
    for asked in sorted({kept.asked for seed in seeds for kept in seed}, reverse=True):
        found = [kept for seed in seeds for kept in seed if kept.asked == asked]
        values = [kept.retention for kept in found]
        std = stdev(values) if len(values) > 1 else None
        ratio = fmean(kept.ratio for kept in found)
        yield CurvePoint(asked, ratio, fmean(values), min(values), max(values), std, len(values))
