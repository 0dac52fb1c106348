"""The sentences below the headline and below tables. Every sentence and number is computed from the results."""

from collections.abc import Iterator, Sequence
from typing import Any

from evaluation.report.evidence import ONE_SEED, few_note, interval_at
from evaluation.report.formatting import DOT, format_range, join_words
from evaluation.report.latency import speedup_of
from evaluation.report.series import Series
from evaluation.report.stability import LEVELS, Stability
from evaluation.report.study_results import (
    RATIO_OF,
    Result,
    benchmarks_of,
    keys_at,
    leading_metric,
    number_at,
    protocol_of,
    seeds_of,
    value_at,
    without_repeats,
)

MIXED = "The jobs have scored different sequences, so their numbers cannot be compared, and means over them mix videos."


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


def evidence(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """Returns what the numbers are no evidence of: few sequences, one seed, the spread between trainings.

    Args:
        finished: results of finished jobs.
        lines: retention of the leading metric against ratio.
    """
    few, benchmarks = [], benchmarks_of(finished)
    for benchmark in benchmarks:
        counts = dict.fromkeys(number_at(result, "metrics", benchmark, "sequences") for result in finished)
        name = f"{benchmark}: " if len(benchmarks) > 1 else ""
        few += [f"{name}{note}" for count in counts if (note := few_note(count))]
        few += [f"{name}{MIXED}"] if _mixes_sequences(finished, benchmark) else []
    return few + _spread(finished, lines)


def _mixes_sequences(finished: Sequence[Result], benchmark: str) -> bool:
    """Returns whether jobs have scored different sequences of a benchmark, by their number or by their names."""
    counts = {value for result in finished if (value := number_at(result, "metrics", benchmark, "sequences"))}
    rows = (value_at(result, "sequences", benchmark) for result in finished)
    return len(counts) > 1 or len({frozenset(found.names) for found in rows if found is not None}) > 1


def intervals(finished: Sequence[Result]) -> list[str]:
    """Returns what the brackets in tables hold."""
    protocols = list(dict.fromkeys(str(words) for result in finished if (words := result.get("interval_protocol"))))
    if not protocols:
        return []
    notes = [
        f"In brackets: {join_words(protocols, ' or ')}. If the interval of a retention contains 100%, there is no "
        "evidence of a loss."
    ]
    if len(seeds_of(finished)) > 1:
        notes.append(
            "With several seeds, numbers are means. Their intervals are over sequences, too. The spread between "
            "trainings stands under \u201cOver seeds\u201d: the smallest to the largest score of a seed."
        )
    return notes


def speeds(finished: Sequence[Result]) -> list[str]:
    """Returns how speeds were measured on each device, and how much an unpruned tracker differs from itself."""
    notes = []
    for device in keys_at(finished, "latency"):
        notes += timing(finished, device)
        paired = (value_at(result, "speedup", device, "protocol") for result in finished)
        notes += [f"{device}: {words}" for words in paired if words]
        noise = [ends for result in finished if (ends := interval_at(result, "speedup", device, "noise"))]
        if noise:
            span = min(low for low, _ in noise), max(high for _, high in noise)
            notes.append(
                f"Noise on {device}: an unpruned tracker against itself is {format_range(span, '{:.2f}'.format)} times "
                "as fast. A speed-up within this range is no evidence."
            )
    if any(speedup_of(result, device) for result in finished for device in keys_at([result], "latency")):
        notes.append(
            "Speed-ups are paired: child and parent took turns. Milliseconds are the median of the parent\u2019s over "
            "all of its jobs, divided by the speed-up, so that jobs can be compared."
        )
    return list(dict.fromkeys(notes))


def timing(finished: Sequence[Result], device: str) -> list[str]:
    """Returns the protocols of the latencies on a device."""
    notes = []
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
        f"Below {levels}: the largest ratio at which the mean retention over seeds is below this level. One seed only "
        "tells between which tested ratios it lies. With several seeds, retention is interpolated linearly in the "
        "logarithm of the achieved ratio, and the smallest and the largest value of a seed are in brackets. A ratio "
        "after < is the smallest tested one, where retention is not below the level.",
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
                "still box\u2019s, so its retention has no meaning and is left out of means, areas and breaking ratios."
            )


def _spread(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """Returns what the seeds show about the spread between trainings."""
    seeds, (_, metric) = len(seeds_of(finished)), leading_metric(finished)
    if not finished:
        return []
    if seeds == 1:
        return [ONE_SEED]
    spans = [
        (max(point.values) - min(point.values), line.label, point.label) for line in lines for point in line.points
    ]
    widest, label, ratio = max(spans, default=(0, "", ""))
    if not widest:
        return [f"{seeds} seeds, but no ratio with different results: the spread between trainings is not known."]
    return [
        f"{seeds} seeds: numbers are means. The widest span between seeds of {metric} retention is "
        f"{100 * widest:.0f} points ({label}, ratio {ratio}); differences within it are no evidence."
    ]
