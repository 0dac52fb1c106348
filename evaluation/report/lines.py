"""Results as lines: one line an identity, one point a ratio, averaged over seeds."""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from evaluation.report.plots import Point, Series
from evaluation.report.study_results import IDENTITY, Identity, Result, identity_of, number_at, reader, retention_of
from evaluation.report.words import DOT

Reader = Callable[[Result], float | None]


def lines_of(results: Sequence[Result], x: Reader, y: Reader) -> list[Series]:
    """The lines of `y` against `x`, over the seeds that have both; a line without a point is left out."""
    labels = _labels(results)
    trackers = list(dict.fromkeys(identity[0] for identity in labels))
    lines = []
    for index, (identity, label) in enumerate(labels.items()):
        hue = index if len(trackers) == 1 else trackers.index(identity[0])
        dash = [other for other in labels if other[0] == identity[0]].index(identity)
        members = [result for result in results if identity_of(result) == identity]
        lines.append(Series(label, hue, dash, tuple(_points(members, x, y))))
    return [line for line in lines if line.points]


def retention_lines(finished: Sequence[Result], benchmark: str, metric: str) -> list[Series]:
    """Retention against ratio."""
    return lines_of(with_parents(finished), reader("ratio"), lambda result: retention_of(result, benchmark, metric))


def with_parents(results: Sequence[Result]) -> list[Result]:
    """The results, and for lines without a dense job their parent in its place: the point that retention refers to."""
    dense = {(identity_of(result), result.get("seed")) for result in results if result.get("ratio") == 1}
    parents = {}
    for result in results:
        at = (identity_of(result), result.get("seed"))
        if at not in dense and result.get("parent"):
            kept = {key: result.get(key) for key in (*IDENTITY, "family", "seed", "still_box")}
            parents[at] = kept | result["parent"] | {"ratio": 1}
    return [*parents.values(), *results]


def _labels(results: Sequence[Result]) -> dict[Identity, str]:
    """A name for each line: its tracker, and of the rest only what differs within the study."""
    identities = sorted({identity_of(result) for result in results}, key=str)
    varies = [index == 0 or len(set(column)) > 1 for index, column in enumerate(zip(*identities, strict=True))]
    return {
        identity: DOT.join(str(part) for part, shown in zip(identity, varies, strict=True) if shown)
        for identity in identities
    }


def _points(results: Sequence[Result], x: Reader, y: Reader) -> Iterator[Point]:
    for ratio in sorted({result["ratio"] for result in results if number_at(result, "ratio")}, reverse=True):
        pairs = [(x(result), y(result)) for result in results if result.get("ratio") == ratio]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            xs, ys = zip(*pairs, strict=True)
            yield Point(fmean(xs), fmean(ys), min(ys), max(ys), f"{ratio:g}")
