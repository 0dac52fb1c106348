"""The lines of a figure: one line for each tracker and method, one point for each ratio, averaged over seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.report.estimates import Estimate, retention_estimate, score_estimate
from evaluation.report.formatting import DOT
from evaluation.report.study_results import (
    Identity,
    Result,
    identity_of,
    informative,
    number_at,
    number_reader,
    parent_result,
    retention_of,
)
from evaluation.tracking.metrics.bootstrap import Interval

Reader = Callable[[Result], float | None]
EstimateOf = Callable[[Sequence[Result]], Estimate | None]
SEQUENCES, SEEDS = "sequences", "seeds"  # what the bands of a figure span


@dataclass(frozen=True)
class Point:
    """One ratio of a series: means over seeds, the value of each seed, and the intervals of the means where known."""

    x: float
    mean: float
    values: tuple[float, ...]
    label: str
    interval: Interval | None = None
    x_interval: Interval | None = None

    @property
    def seeds(self) -> tuple[float, float]:
        """The smallest and the largest value of a seed."""
        return min(self.values), max(self.values)

    def ends(self, band: str) -> tuple[float, float]:
        """Returns the ends of the band that `band_of` names; both are the mean without one."""
        if band == SEQUENCES and self.interval is not None:
            return self.interval
        return self.seeds if band == SEEDS else (self.mean, self.mean)


@dataclass(frozen=True)
class Series:
    """One line of a figure.

    Attributes:
        label: in the legend.
        hue: number of the colour and of the marker. Lines differ in both, so colour is never the only difference.
        dash: number of the line style and of the marker's fill.
        identity: of its results.
        points: by falling ratio.
    """

    label: str
    hue: int
    dash: int
    identity: Identity
    points: tuple[Point, ...]


def series_of(
    results: Sequence[Result], x: Reader, y: Reader, estimate: EstimateOf, x_estimate: EstimateOf | None = None
) -> list[Series]:
    """Returns the lines of `y` against `x`, over the seeds that have both. Lines without a point are left out.

    Args:
        results: of finished jobs.
        x, y: read the coordinates of a result.
        estimate, x_estimate: return the interval of the mean of `y` and of `x` over seeds.
    """
    labels = _labels(results)
    trackers = list(dict.fromkeys(identity[0] for identity in labels))
    lines = []
    for index, (identity, label) in enumerate(labels.items()):
        hue = index if len(trackers) == 1 else trackers.index(identity[0])
        dash = [other for other in labels if other[0] == identity[0]].index(identity)
        members = [result for result in results if identity_of(result) == identity]
        lines.append(Series(label, hue, dash, identity, tuple(_points(members, x, y, estimate, x_estimate))))
    return [line for line in lines if line.points]


def retention_series(finished: Sequence[Result], benchmark: str, metric: str) -> list[Series]:
    """Returns the lines of retention against ratio, over the `informative` seeds of each ratio."""
    settings: dict[tuple, list[Result]] = {}
    for result in with_parents(finished):
        settings.setdefault((identity_of(result), result.get("ratio")), []).append(result)
    return series_of(
        [result for seeds in settings.values() for result in informative(seeds, benchmark, metric)],
        number_reader("ratio"),
        lambda result: retention_of(result, benchmark, metric),
        lambda seeds: retention_estimate(seeds, benchmark, metric),
    )


def score_series(
    finished: Sequence[Result], x: Reader, benchmark: str, metric: str, x_estimate: EstimateOf | None = None
) -> list[Series]:
    """Returns the lines of a score against `x`."""
    score = number_reader("metrics", benchmark, metric)
    return series_of(finished, x, score, lambda seeds: score_estimate(seeds, benchmark, metric), x_estimate)


def band_of(lines: Sequence[Series]) -> str:
    """Returns what bands and whiskers of a figure span, so that all of them mean the same.

    Returns:
        `SEQUENCES` for 95 % intervals over sequences, if all points have one; otherwise `SEEDS` for the smallest to the
        largest seed, or "" without bands.
    """
    points = [point for line in lines for point in line.points]
    if points and all(point.interval is not None for point in points):
        return SEQUENCES
    return SEEDS if any(len(point.values) > 1 for point in points) else ""


def with_parents(results: Sequence[Result]) -> list[Result]:
    """Returns the results and, for lines without a dense job, a result of their parent at ratio 1."""
    dense = {(identity_of(result), result.get("seed")) for result in results if result.get("ratio") == 1}
    parents = {}
    for result in results:
        at = (identity_of(result), result.get("seed"))
        if at not in dense and result.get("parent"):
            parents[at] = parent_result(result)
    return [*parents.values(), *results]


def _labels(results: Sequence[Result]) -> dict[Identity, str]:
    """Returns a label for each line: its tracker, and whatever else differs between the lines of the study."""
    identities = sorted({identity_of(result) for result in results}, key=str)
    varies = [index == 0 or len(set(column)) > 1 for index, column in enumerate(zip(*identities, strict=True))]
    return {
        identity: DOT.join(str(part) for part, used in zip(identity, varies, strict=True) if used)
        for identity in identities
    }


def _points(
    results: Sequence[Result], x: Reader, y: Reader, estimate: EstimateOf, x_estimate: EstimateOf | None
) -> Iterator[Point]:
    for ratio in sorted({result["ratio"] for result in results if number_at(result, "ratio")}, reverse=True):
        seeds = [result for result in results if result.get("ratio") == ratio]
        found = [(a, b, result) for result in seeds if (a := x(result)) is not None and (b := y(result)) is not None]
        if found:
            xs, ys, used = zip(*found, strict=True)
            mean, x_mean = estimate(used), x_estimate(used) if x_estimate else None
            intervals = (found.interval if found else None for found in (mean, x_mean))
            yield Point(fmean(xs), fmean(ys), ys, f"{ratio:g}", *intervals)
