"""What the study says in words: every sentence and number is computed from the results."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from evaluation.report.lines import lines_of, with_parents
from evaluation.report.plots import Series
from evaluation.report.stability import LEVELS, Stability
from evaluation.report.study_results import (
    RATIO_OF,
    Result,
    benchmarks_of,
    floor_of,
    keys_at,
    leading,
    number_at,
    protocol_of,
    reader,
    seeds_of,
    value_at,
)
from evaluation.report.words import DOT, between, join

KEEPS = LEVELS[0]  # the headline asks for the smallest ratio that retains at least this much


def scope(finished: Sequence[Result]) -> list[str]:
    """What the numbers stand on: each benchmark's protocol and size, and how trackers differ from the originals."""
    notes = []
    for benchmark in benchmarks_of(finished):
        parts = [f"{protocol} protocol"] if (protocol := protocol_of(finished, benchmark)) else []
        for count in ("sequences", "frames"):
            found = {number_at(result, "metrics", benchmark, count) for result in finished} - {None}
            parts += [" or ".join(f"{value:,}" for value in sorted(found)) + f" {count}"] if found else []
        notes.append(f"{benchmark}: " + ", ".join(parts))
    departures_from_original = {
        result["tracker"]: result["departures_from_original"]
        for result in finished
        if result.get("departures_from_original")
    }
    return notes + [
        f"{name} here has what the original has not: {join(added)}." for name, added in departures_from_original.items()
    ]


def headline(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """How far the leading metric holds and where it is lost; `lines` are its retention against ratio."""
    if not finished:
        return ["No job finished, so there is nothing to compare yet."]
    benchmark, metric = leading(finished)
    floor, ratio, score = floor_of(finished, benchmark, metric), reader("ratio"), reader("metrics", benchmark, metric)
    pruned = [line for line in lines if any(point.x < 1 for point in line.points)]
    if not pruned:
        scores = lines_of(finished, ratio, score)
        return [*_reached(scores, benchmark, metric, floor), *_lost(scores, floor)]
    relative = floor_of(finished, benchmark, metric, relative=True)
    scores = lines_of(with_parents(finished), ratio, score)
    return [*_threshold(pruned, metric), *_smallest(pruned, metric, relative), *_lost(scores, floor)]


def noise(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """What is known about the spread between trainings."""
    seeds, (_, metric) = len(seeds_of(finished)), leading(finished)
    if not finished:
        return []
    if seeds == 1:
        return ["One seed: the spread between trainings is not known, so small differences are not evidence."]
    spans = [(point.high - point.low, line.label, point.label) for line in lines for point in line.points]
    widest, label, ratio = max(spans, default=(0, "", ""))
    if not widest:
        return [f"{seeds} seeds, but none that differ at one ratio: the spread between trainings is not known."]
    return [
        f"{seeds} seeds: lines are means, bands and bars span the smallest to the largest seed. The widest span of "
        f"{metric} retention is {100 * widest:.0f} points ({label}, ratio {ratio}); "
        "differences within it are not evidence."
    ]


def latency(finished: Sequence[Result]) -> list[str]:
    """How each device was timed."""
    notes = []
    for device in keys_at(finished, "latency"):
        for result in finished:
            protocol, threads = (value_at(result, "latency", device, key) for key in ("protocol", "threads"))
            if protocol:
                notes.append(f"{device}: {protocol}" + (f", {threads} thread{'s' * (threads > 1)}" if threads else ""))
    return list(dict.fromkeys(notes))


def stability(rows: Sequence[Stability]) -> list[str]:
    """How areas and breaking ratios are meant, over which ratios, and what they had to leave out."""
    if not rows:
        return []
    reach = {(row.curve.identity[-1], row.down_to) for row in rows if row.area is not None}
    ranges = join([f"{end:.3g} ({RATIO_OF.get(of, of)})" for of, end in sorted(reach, key=str)])
    levels = join([f"{level:.0%}" for level in LEVELS], " or ")
    left_out = list(dict.fromkeys(note for row in rows for note in _left_out(row)))
    if not reach:  # there is no number to explain
        return left_out
    return [
        f"Area: retention averaged over the logarithm of the ratio, from 1 to {ranges}, which all curves reach. 1 "
        "means that nothing is lost; \u00b1 is the standard deviation over seeds.",
        f"Below {levels}: the largest ratio at which the mean over seeds retains less, on a line over the logarithm of "
        "the ratio between tested ones; in brackets the smallest and the largest of the seeds. A ratio after < is the "
        "smallest tested: not broken there. Ratios are those achieved.",
        *left_out,
    ]


def families(trackers: Sequence[Sequence[str]]) -> list[str]:
    """What the comparison of families stands on: the trackers of each."""
    if not trackers:
        return []
    notes = ["Means over the trackers of a family at equal method, of breaking ratios geometric, if all of them break."]
    if any(len(names) == 1 for names in trackers):
        notes.append("Where a family has one tracker, what is due to the one and to the other cannot be told apart.")
    return notes


def _left_out(row: Stability) -> Iterator[str]:
    """What a curve lacks, and which of its seeds its numbers are not of."""
    curve, label = row.curve, DOT.join(str(part) for part in row.curve.identity if part is not None)
    lacks: dict[Any, list[str]] = {}
    for seed, ratio in curve.missing:
        lacks.setdefault(seed, []).append(f"{ratio:g}")
    if lacks:
        listed = "; ".join(f"seed {seed} has no ratio {join(ratios)}" for seed, ratios in lacks.items())
        partial = [seed for seed in curve.telling if seed in curve.seeds and seed not in row.seeds]
        ending = f" Its numbers are without seed {join([str(seed) for seed in partial])}." if partial else ""
        yield f"{label}: {listed}.{ending}"
    for seed in curve.seeds:
        if seed not in curve.telling:
            yield (
                f"{label}, seed {seed}: the parent\u2019s {curve.metric} on {curve.benchmark} is no better than a "
                "still box\u2019s, so its retention says nothing and is left out of areas and breaking ratios."
            )


def _reached(scores: Sequence[Series], benchmark: str, metric: str, floor: tuple[float, float] | None) -> Iterator[str]:
    """The score of each line's first point, for a study without a pruned one."""
    for line in scores:
        point = line.points[0]
        yield f"{line.label} reaches {metric} {point.mean:.3f} on {benchmark} at ratio {point.label}."
    if floor and scores:
        yield f"A box that never moves reaches {between(floor, '{:.3f}'.format)}."


def _threshold(lines: Sequence[Series], metric: str) -> Iterator[str]:
    """The smallest ratio down to which every tested one retains `KEEPS`."""
    holds: dict[float, list[str]] = {}
    fails = []
    for line in lines:
        held = [point.x for point in takewhile(lambda point: point.mean >= KEEPS, line.points) if point.x < 1]
        if held:
            holds.setdefault(min(held), []).append(line.label)
        else:
            fails.append(line.label)
    below = f"{join(fails)} {'falls' if len(fails) == 1 else 'fall'}" if fails else ""
    if holds:
        listed = "; ".join(f"{ratio:g} for {join(labels)}" for ratio, labels in sorted(holds.items()))
        also = f"; {below} below that at the first pruned ratio" if fails else ""
        yield f"At least {KEEPS:.0%} of the parent\u2019s {metric} is retained down to ratio {listed}{also}."
    else:
        yield f"At the first pruned ratio {below} below {KEEPS:.0%} of the parent\u2019s {metric}."


def _smallest(lines: Sequence[Series], metric: str, floor: tuple[float, float] | None) -> Iterator[str]:
    """Who retains how much at the smallest ratio that all lines have, against the still box."""
    common = set.intersection(*({point.x for point in line.points if point.x < 1} for line in lines))
    if not common:
        return
    ratio = min(common)
    kept = {line.label: point.mean for line in lines for point in line.points if point.x == ratio}
    ranked = sorted(kept.items(), key=lambda item: -item[1])
    listed = join([f"{value:.0%} for {label}" for label, value in ranked])
    box = f"; a box that never moves reaches {between(floor, '{:.0%}'.format)}" if floor else ""
    which = "the smallest tested" if len(lines) == 1 else "the smallest that all share"
    yield f"At ratio {ratio:g}, {which}, {metric} retention is {listed}{box}."


def _lost(scores: Sequence[Series], floor: tuple[float, float] | None) -> Iterator[str]:
    """From where on lines are no better than a box that never moves; by the metric itself, as parents differ."""
    listed = []
    for line in scores if floor else ():
        lost = [point.x for point in takewhile(lambda point: point.mean <= floor[1], reversed(line.points))]
        if lost:
            listed.append(f"{line.label} {'at' if len(lost) == 1 else 'from'} ratio {max(lost):g}")
            listed[-1] += "" if len(lost) == 1 else " down"
    if listed:
        yield f"No better than a box that never moves: {join(listed)}."
