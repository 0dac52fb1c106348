"""Stability under pruning: the area under retention over the logarithm of the ratio, and where a tracker breaks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, geometric_mean, stdev
from typing import Any

import numpy as np

from evaluation.report.retention_curves import Curve, curves_of, means_of
from evaluation.report.study_results import Result

LEVELS = (0.9, 0.5)  # a tracker breaks where its retention falls below a level

Points = Sequence[tuple[float, float]]  # (ratio, retention), in any order


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

    @property
    def smallest_ratio(self) -> float:
        """The smallest requested ratio of `seeds`, below which the tracker may break."""
        return min(point.requested for seed in self.seeds for point in self.curve.seeds[seed])


@dataclass(frozen=True)
class FamilyStability:
    """The mean over the trackers of a family, for one scale, method and kind of ratio.

    Attributes:
        family, scale, method, ratio_of: identity of the group.
        benchmark, metric: names of the benchmark and of the metric.
        trackers: names of the trackers. With one tracker, effects of the family and of the tracker cannot be separated.
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
    points = list(means_of([curve.seeds[seed] for seed in seeds]))
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
