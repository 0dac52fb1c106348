"""The sentences of the report. Every sentence and number is computed from the results."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from evaluation.report.formatting import DOT, format_range, join_words
from evaluation.report.series import Series, series_of, with_parents
from evaluation.report.stability import LEVELS, Stability
from evaluation.report.study_results import (
    RATIO_OF,
    Result,
    benchmarks_of,
    floor_of,
    keys_at,
    leading_metric,
    number_at,
    number_reader,
    protocol_of,
    seeds_of,
    value_at,
    without_repeats,
)

KEEPS = LEVELS[0]  # the headline names the smallest ratio that retains at least this share


def scope(finished: Sequence[Result]) -> list[str]:
    """Returns the protocol and the size of each benchmark, and the trackers' departures from the originals."""
    notes = []
    for benchmark in benchmarks_of(finished):
        parts = [f"{protocol} protocol"] if (protocol := protocol_of(finished, benchmark)) else []
        for count in ("sequences", "frames"):
            numbers = (number_at(result, "metrics", benchmark, count) for result in finished)
            values = {number for number in numbers if number is not None}
            parts += [" or ".join(f"{value:,}" for value in sorted(values)) + f" {count}"] if values else []
        notes.append(f"{benchmark}: " + ", ".join(parts))
    departures = {
        result["tracker"]: result["departures_from_original"]
        for result in finished
        if result.get("departures_from_original")
    }
    return notes + [f"{name} departs from the original: {join_words(words)}." for name, words in departures.items()]


def repeats(results: Sequence[Result]) -> list[str]:
    """Returns which finished jobs repeat another one, and so are left out of all tables but `study.csv`."""
    finished = [result for result in results if result.get("status") == "finished"]
    used = {id(result) for result in without_repeats(finished)}
    names = [str(result.get("job")) for result in finished if id(result) not in used]
    if not names:
        return []
    what = "job has" if len(names) == 1 else "jobs have"
    return [
        f"{len(names)} {what} the configuration and the seed of another job, and no new number: {join_words(names)}."
    ]


def headline(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """Returns the ratios down to which the leading metric is retained and at which it is lost.

    Args:
        finished: results of finished jobs.
        lines: retention of the leading metric against ratio.
    """
    if not finished:
        return ["No job finished, so there is nothing to compare yet."]
    benchmark, metric = leading_metric(finished)
    floor, ratio, score = (
        floor_of(finished, benchmark, metric),
        number_reader("ratio"),
        number_reader("metrics", benchmark, metric),
    )
    pruned = [line for line in lines if any(point.x < 1 for point in line.points)]
    if not pruned:
        scores = series_of(finished, ratio, score)
        return [*_reached(scores, benchmark, metric, floor), *_lost(scores, floor)]
    relative = floor_of(finished, benchmark, metric, relative=True)
    scores = series_of(with_parents(finished), ratio, score)
    return [*_threshold(pruned, metric), *_smallest(pruned, metric, relative), *_lost(scores, floor)]


def noise(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """Returns what the seeds show about the spread between trainings."""
    seeds, (_, metric) = len(seeds_of(finished)), leading_metric(finished)
    if not finished:
        return []
    if seeds == 1:
        return ["One seed: the spread between trainings is not known, so small differences are not evidence."]
    spans = [(point.high - point.low, line.label, point.label) for line in lines for point in line.points]
    widest, label, ratio = max(spans, default=(0, "", ""))
    if not widest:
        return [f"{seeds} seeds, but no ratio with different results: the spread between trainings is not known."]
    return [
        f"{seeds} seeds: lines are means, bands and bars span the smallest to the largest seed. The widest span of "
        f"{metric} retention is {100 * widest:.0f} points ({label}, ratio {ratio}); "
        "differences within it are not evidence."
    ]


def latency(finished: Sequence[Result]) -> list[str]:
    """Returns the timing protocol of each device."""
    notes = []
    for device in keys_at(finished, "latency"):
        for result in finished:
            protocol, threads = (value_at(result, "latency", device, key) for key in ("protocol", "threads"))
            if protocol:
                notes.append(f"{device}: {protocol}" + (f", {threads} thread{'s' * (threads > 1)}" if threads else ""))
    return list(dict.fromkeys(notes))


def stability(rows: Sequence[Stability]) -> list[str]:
    """Returns the definitions of area and breaking ratio, the ratios that they cover, and the results left out."""
    if not rows:
        return []
    reach = {(row.curve.identity[-1], row.down_to) for row in rows if row.area is not None}
    ranges = join_words([f"{end:.3g} ({RATIO_OF.get(of, of)})" for of, end in sorted(reach, key=str)])
    levels = join_words([f"{level:.0%}" for level in LEVELS], " or ")
    left_out = list(dict.fromkeys(note for row in rows for note in _left_out(row)))
    if not reach:  # no area, so there is nothing to define
        return left_out
    return [
        f"Area: retention averaged over the logarithm of the ratio, from 1 to {ranges}, which all curves reach. 1 "
        "means that nothing is lost; \u00b1 is the standard deviation over seeds.",
        f"Below {levels}: the largest ratio at which the mean retention over seeds is below this level. Between tested "
        "ratios, retention is interpolated linearly in the logarithm of the ratio. The smallest and the largest value "
        "of a seed are in brackets. A ratio after < is the smallest tested one, where retention is not below the "
        "level. Ratios are achieved ratios.",
        *left_out,
    ]


def families(trackers: Sequence[Sequence[str]]) -> list[str]:
    """Returns the definition of a family's numbers, and a warning if a family has one tracker only."""
    if not trackers:
        return []
    notes = [
        "Numbers are means over the trackers of a family with the same method. Breaking ratios are geometric means, "
        "and are given only if all trackers break."
    ]
    if any(len(names) == 1 for names in trackers):
        notes.append("If a family has one tracker, effects of the family and of the tracker cannot be separated.")
    return notes


def _left_out(row: Stability) -> Iterator[str]:
    """Yields the ratios that a curve lacks, and the seeds that its numbers leave out."""
    curve, label = row.curve, DOT.join(str(part) for part in row.curve.identity if part is not None)
    lacks: dict[Any, list[str]] = {}
    for seed, ratio in curve.missing:
        lacks.setdefault(seed, []).append(f"{ratio:g}")
    if lacks:
        listed = "; ".join(f"seed {seed} has no ratio {join_words(ratios)}" for seed, ratios in lacks.items())
        partial = [seed for seed in curve.informative if seed in curve.seeds and seed not in row.seeds]
        ending = f" Its numbers are without seed {join_words([str(seed) for seed in partial])}." if partial else ""
        yield f"{label}: {listed}.{ending}"
    for seed in curve.seeds:
        if seed not in curve.informative:
            yield (
                f"{label}, seed {seed}: the parent\u2019s {curve.metric} on {curve.benchmark} is no better than a "
                "still box\u2019s, so its retention has no meaning and is left out of areas and breaking ratios."
            )


def _reached(scores: Sequence[Series], benchmark: str, metric: str, floor: tuple[float, float] | None) -> Iterator[str]:
    """Yields the score of each line's first point, for a study without a pruned tracker."""
    for line in scores:
        point = line.points[0]
        yield f"{line.label} reaches {metric} {point.mean:.3f} on {benchmark} at ratio {point.label}."
    if floor and scores:
        yield f"A box that never moves reaches {format_range(floor, '{:.3f}'.format)}."


def _threshold(lines: Sequence[Series], metric: str) -> Iterator[str]:
    """Yields the smallest ratio of each line down to which all tested ratios retain at least `KEEPS`."""
    holds: dict[float, list[str]] = {}
    fails = []
    for line in lines:
        held = [point.x for point in takewhile(lambda point: point.mean >= KEEPS, line.points) if point.x < 1]
        if held:
            holds.setdefault(min(held), []).append(line.label)
        else:
            fails.append(line.label)
    below = f"{join_words(fails)} {'falls' if len(fails) == 1 else 'fall'}" if fails else ""
    if holds:
        listed = "; ".join(f"{ratio:g} for {join_words(labels)}" for ratio, labels in sorted(holds.items()))
        also = f"; {below} below that at the first pruned ratio" if fails else ""
        yield f"At least {KEEPS:.0%} of the parent\u2019s {metric} is retained down to ratio {listed}{also}."
    else:
        yield f"At the first pruned ratio {below} below {KEEPS:.0%} of the parent\u2019s {metric}."


def _smallest(lines: Sequence[Series], metric: str, floor: tuple[float, float] | None) -> Iterator[str]:
    """Yields the retention of each line at the smallest ratio that all lines have, and that of the still box."""
    common = set.intersection(*({point.x for point in line.points if point.x < 1} for line in lines))
    if not common:
        return
    ratio = min(common)
    kept = {line.label: point.mean for line in lines for point in line.points if point.x == ratio}
    ranked = sorted(kept.items(), key=lambda item: -item[1])
    listed = join_words([f"{value:.0%} for {label}" for label, value in ranked])
    box = f"; a box that never moves reaches {format_range(floor, '{:.0%}'.format)}" if floor else ""
    which = "the smallest tested" if len(lines) == 1 else "the smallest that all share"
    yield f"At ratio {ratio:g}, {which}, {metric} retention is {listed}{box}."


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
