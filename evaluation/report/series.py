"""The lines of a figure: one line for each tracker and method, one point for each ratio, averaged over seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.report.formatting import DOT
from evaluation.report.study_results import (
    IDENTITY,
    Identity,
    Result,
    identity_of,
    number_at,
    number_reader,
    retention_of,
)

Reader = Callable[[Result], float | None]


@dataclass(frozen=True)
class Point:
    """One ratio of a series: the mean over seeds, and the smallest and the largest value of a seed."""

    x: float
    mean: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Series:
    """One line of a figure.

    Attributes:
        label: in the legend.
        hue: number of the colour and of the marker. Lines differ in both, so colour is never the only difference.
        dash: number of the line style and of the marker's fill.
        points: by falling ratio.
    """

    label: str
    hue: int
    dash: int
    points: tuple[Point, ...]


def series_of(results: Sequence[Result], x: Reader, y: Reader) -> list[Series]:
    """Returns the lines of `y` against `x`, over the seeds that have both. Lines without a point are left out."""
    labels = _labels(results)
    trackers = list(dict.fromkeys(identity[0] for identity in labels))
    lines = []
    for index, (identity, label) in enumerate(labels.items()):
        hue = index if len(trackers) == 1 else trackers.index(identity[0])
        dash = [other for other in labels if other[0] == identity[0]].index(identity)
        members = [result for result in results if identity_of(result) == identity]
        lines.append(Series(label, hue, dash, tuple(_points(members, x, y))))
    return [line for line in lines if line.points]


def retention_series(finished: Sequence[Result], benchmark: str, metric: str) -> list[Series]:
    """Returns the lines of retention against ratio."""
    return series_of(
        with_parents(finished), number_reader("ratio"), lambda result: retention_of(result, benchmark, metric)
    )


def with_parents(results: Sequence[Result]) -> list[Result]:
    """Returns the results and, for lines without a dense job, a result of their parent at ratio 1."""
    dense = {(identity_of(result), result.get("seed")) for result in results if result.get("ratio") == 1}
    parents = {}
    for result in results:
        at = (identity_of(result), result.get("seed"))
        if at not in dense and result.get("parent"):
            kept = {key: result.get(key) for key in (*IDENTITY, "family", "seed", "still_box")}
            parents[at] = kept | result["parent"] | {"ratio": 1}
    return [*parents.values(), *results]


def _labels(results: Sequence[Result]) -> dict[Identity, str]:
    """Returns a label for each line: its tracker, and whatever else differs between the lines of the study."""
    identities = sorted({identity_of(result) for result in results}, key=str)
    varies = [index == 0 or len(set(column)) > 1 for index, column in enumerate(zip(*identities, strict=True))]
    return {
        identity: DOT.join(str(part) for part, used in zip(identity, varies, strict=True) if used)
        for identity in identities
    }


def _points(results: Sequence[Result], x: Reader, y: Reader) -> Iterator[Point]:
    for ratio in sorted({result["ratio"] for result in results if number_at(result, "ratio")}, reverse=True):
        pairs = [(x(result), y(result)) for result in results if result.get("ratio") == ratio]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            xs, ys = zip(*pairs, strict=True)
            yield Point(fmean(xs), fmean(ys), min(ys), max(ys), f"{ratio:g}")
