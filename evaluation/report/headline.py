"""The headline of a study: sentences that answer how small a tracker can get. All are computed from the results."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from statistics import fmean

from evaluation.report.estimates import Estimate, retention_difference, speedup_estimate
from evaluation.report.evidence import interval_at, is_faster, too_few
from evaluation.report.formatting import format_percent, format_range, join_words
from evaluation.report.series import Point, Series, score_series, with_parents
from evaluation.report.stability import LEVELS
from evaluation.report.study_results import (
    Result,
    floor_of,
    identity_of,
    keys_at,
    leading_metric,
    number_at,
    number_reader,
)
from evaluation.tracking.metrics.bootstrap import Interval

KEEPS = LEVELS[0]  # the headline names the smallest ratio that retains at least this share
ANSWERS = 4  # lines that the headline describes; a study may have many


def headline(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """Returns what the study says: size, speed and retention of each tracker, and where it is lost.

    Args:
        finished: results of finished jobs.
        lines: retention of the leading metric against ratio.
    """
    if not finished:
        return ["No job finished, so there is nothing to compare yet."]
    benchmark, metric = leading_metric(finished)
    floor = floor_of(finished, benchmark, metric)
    pruned = [line for line in lines if any(point.x < 1 for point in line.points)]
    if not pruned:
        scores = score_series(finished, number_reader("ratio"), benchmark, metric)
        return [*_reached(scores, benchmark, metric, floor), *_lost(scores, floor)]
    scores = score_series(with_parents(finished), number_reader("ratio"), benchmark, metric)
    top = floor[1] if floor else None
    hopeless = {line.label for line in scores for point in line.points if point.x == 1 and _no_better(point, top)}
    sentences = [
        f"The parent of {label} is no better than a box that never moves, so its retention has no meaning."
        for label in sorted(hopeless)
    ]
    if meaningful := [line for line in pruned if line.label not in hopeless]:
        sentences += _threshold(meaningful, metric)
        sentences += _answers(finished, meaningful, metric)
        sentences += _smallest(finished, meaningful, benchmark, metric)
    return [*sentences, *_lost([line for line in scores if line.label not in hopeless], floor)]


def _reached(scores: Sequence[Series], benchmark: str, metric: str, floor: tuple[float, float] | None) -> Iterator[str]:
    """Yields the score of each line's first point, for a study without a pruned tracker."""
    for line in scores:
        point = line.points[0]
        score = Estimate(point.mean, point.interval).score()
        yield f"{line.label} reaches {metric} {score} on {benchmark} at ratio {point.label}."
    if floor and scores:
        yield f"A box that never moves reaches {format_range(floor, '{:.3f}'.format)}."


def _threshold(lines: Sequence[Series], metric: str) -> Iterator[str]:
    """Yields the smallest ratio of each line down to which all tested ratios retain at least `KEEPS`."""
    holds: dict[float, list[str]] = {}
    fails = []
    for line in lines:
        if held := _smallest_held(line):
            holds.setdefault(held.x, []).append(line.label)
        else:
            fails.append(line.label)
    below = f"{join_words(fails)} {'falls' if len(fails) == 1 else 'fall'}" if fails else ""
    if holds:
        listed = "; ".join(f"{ratio:g} for {join_words(labels)}" for ratio, labels in sorted(holds.items()))
        also = f"; {below} below that at the first pruned ratio" if fails else ""
        unsure = [line.label for line in lines if (held := _smallest_held(line)) and _reaches_below(held)]
        reach = f"the {'interval reaches' if len(unsure) == 1 else 'intervals reach'} below {KEEPS:.0%}"
        doubt = f" This is not certain for {join_words(unsure)}: {reach}." if unsure else ""
        yield f"At least {KEEPS:.0%} of the parent\u2019s {metric} is retained down to ratio {listed}{also}.{doubt}"
    else:
        yield f"At the first pruned ratio {below} below {KEEPS:.0%} of the parent\u2019s {metric}."


def _smallest_held(line: Series) -> Point | None:
    """Returns the last pruned point down to which all tested ratios retain at least `KEEPS`."""
    held = [point for point in takewhile(lambda point: point.mean >= KEEPS, line.points) if point.x < 1]
    return held[-1] if held else None


def _no_better(point: Point, floor: float | None) -> bool:
    return floor is not None and point.mean <= floor


def _reaches_below(point: Point) -> bool:
    return point.interval is not None and point.interval[0] < KEEPS


def _answers(finished: Sequence[Result], lines: Sequence[Series], metric: str) -> Iterator[str]:
    """Yields size, speed and retention of each line at the smallest ratio that retains `KEEPS`, or at its first one."""
    chosen = [(line, _smallest_held(line) or next(point for point in line.points if point.x < 1)) for line in lines]
    chosen.sort(key=lambda pair: (pair[1].mean < KEEPS, pair[1].x, -pair[1].mean))
    for line, point in chosen[:ANSWERS]:
        seeds = _results_at(finished, line, point)
        sizes = [share for result in seeds if (share := number_at(result, "achieved", "params")) is not None]
        facts = [f"{format_percent(fmean(sizes))}% of the parameters"] if sizes else []
        facts += _speeds(seeds)
        facts.append(f"keeps {_percent(point)} of {metric}")
        yield f"{line.label} at ratio {point.label}: {', '.join(facts)}."
    if len(chosen) > ANSWERS:
        yield f"The tables have the other {len(chosen) - ANSWERS}."


def _speeds(seeds: Sequence[Result]) -> Iterator[str]:
    """Yields the speed-up on each device, if it differs from what an unpruned tracker shows against itself."""
    for device in keys_at(seeds, "latency"):
        if (estimate := speedup_estimate(seeds, device)) is None:
            continue
        noise = [ends for result in seeds if (ends := interval_at(result, "speedup", device, "noise"))]
        if is_faster(estimate.interval or Interval(estimate.value, estimate.value), noise) is None:
            yield f"no evidence of a speed-up on {device}"
        else:
            times = f"{estimate.value:.1f}"
            faster = f"{times} times {'faster' if estimate.value > 1 else 'as fast'}"
            yield f"{'as fast as its parent' if times == '1.0' else faster} on {device}"


def _smallest(finished: Sequence[Result], lines: Sequence[Series], benchmark: str, metric: str) -> Iterator[str]:
    """Yields the retention of each line at the smallest ratio that all have, and which differences are evident."""
    common = set.intersection(*({point.x for point in line.points if point.x < 1} for line in lines))
    if not common:
        return
    ratio = min(common)
    kept = [(line, point) for line in lines for point in line.points if point.x == ratio]
    kept.sort(key=lambda pair: -pair[1].mean)
    listed = join_words([f"{_percent(point)} for {line.label}" for line, point in kept])
    floor = floor_of(finished, benchmark, metric, relative=True)
    box = f"; a box that never moves reaches {format_range(floor, '{:.0%}'.format)}" if floor else ""
    which = "the smallest tested" if len(lines) == 1 else "the smallest that all share"
    yield f"At ratio {ratio:g}, {which}, {metric} retention is {listed}{box}."
    best = _results_at(finished, *kept[0])
    sequences = number_at(best[0], "metrics", benchmark, "sequences")
    for other in kept[1:ANSWERS]:
        difference = retention_difference(best, _results_at(finished, *other), benchmark, metric)
        if difference is not None and difference.interval is not None:
            yield _difference(kept[0], other, difference, sequences)


def _difference(
    better: tuple[Series, Point], other: tuple[Series, Point], difference: Estimate, sequences: float | None
) -> str:
    """Returns whether a tracker keeps more than another one; both sequences and seeds must show it."""
    low, high = difference.interval or (0.0, 0.0)
    names = f"{better[0].label} and {other[0].label}"
    points = f"{100 * difference.value:.0f} points ({100 * low:.0f} to {100 * high:.0f})".replace("-", "\u2212")
    if low <= 0 <= high or too_few(sequences):
        return f"No evidence of a difference between {names}: {points}."
    seeds = [max(point.values) - min(point.values) for _, point in (better, other)]
    if difference.value <= max(seeds):
        return f"No evidence of a difference between {names}: {points} are no more than the span between seeds."
    return f"On the same sequences {better[0].label} keeps {points} more than {other[0].label}."


def _results_at(finished: Sequence[Result], line: Series, point: Point) -> list[Result]:
    own = [result for result in finished if identity_of(result) == line.identity]
    return [r for r in own if (ratio := number_at(r, "ratio")) is not None and f"{ratio:g}" == point.label]


def _percent(point: Point) -> str:
    return Estimate(point.mean, point.interval).percent()


def _lost(scores: Sequence[Series], floor: tuple[float, float] | None) -> Iterator[str]:
    """Yields the ratios from which on lines score no better than a box that never moves.

    It compares scores and not retention, since parents differ.
    """
    if floor is None:
        return
    listed = []
    for line in scores:
        lost = [point.x for point in takewhile(lambda point: point.mean <= floor[1], reversed(line.points))]
        if lost:
            listed.append(f"{line.label} {'at' if len(lost) == 1 else 'from'} ratio {max(lost):g}")
            listed[-1] += "" if len(lost) == 1 else " down"
    if listed:
        yield f"No better than a box that never moves: {join_words(listed)}."
