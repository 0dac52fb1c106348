"""What the numbers of a result are evidence of, in plain sentences. A key that a result lacks gives no sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.report.formatting import format_range, with_interval
from evaluation.report.study_results import Result, benchmarks_of, metrics_of, number_at, value_at
from evaluation.tracking.metrics.bootstrap import FEW_SEQUENCES, Interval

ONE_SEED = "One seed: the spread between trainings is not known, so small differences are no evidence."


def evidence_of(result: Result) -> list[str]:
    """Returns what the result of one job means for a decision: the main metric of each benchmark, seed and speed."""
    notes: list[str] = []
    for benchmark in benchmarks_of([result]):
        metric = next(iter(metrics_of([result], benchmark)), "")
        notes += _score_notes(result, benchmark, metric)
    notes += [speed_note(device, speedup) for device, speedup in (value_at(result, "speedup") or {}).items()]
    notes += [ONE_SEED] if is_child(result) else []
    return list(dict.fromkeys(note for note in notes if note))


def is_child(result: Result) -> bool:
    """Returns whether the result is that of a pruned tracker, which has a parent."""
    ratio = number_at(result, "ratio")
    return ratio is not None and ratio < 1


def interval_at(result: Result, *path: str) -> Interval | None:
    """Returns the interval at `path`; None if there is none."""
    low, high = (number_at(result, *path, end) for end in ("low", "high"))
    return None if low is None or high is None else Interval(low, high)


def too_few(sequences: float | None) -> bool:
    """Returns whether a score over this number of sequences says nothing about other videos."""
    return sequences is not None and sequences < FEW_SEQUENCES


def few_note(sequences: float | None) -> str:
    """Returns the sentence about too few sequences; "" if there are enough or if their number is not known."""
    if sequences is None or not too_few(sequences):
        return ""
    subject = "1 sequence is" if sequences == 1 else f"{sequences:g} sequences are"
    return f"{subject} too few: no evidence about other videos."


def retention_note(metric: str, interval: Interval | None) -> str:
    """Returns whether the child is worse than its parent; "" without an interval of the retention."""
    if interval is None:
        return ""
    # A digit more where 99.6% would become 100%, and seem to be no loss.
    digits = int(any(end != 1 and round(100 * end) == 100 for end in interval))
    ends = f"{format_range(interval, lambda end: f'{100 * end:.{digits}f}')}%"
    if interval[0] <= 1 <= interval[1]:
        return f"The interval of the {metric} retention ({ends}) holds 100%: no evidence of a loss."
    verdict = "less" if interval[1] < 1 else "more"
    return f"The child reaches {verdict} than its parent: {ends} of the {metric}."


def still_box_note(who: str, metric: str, score: float | None, interval: Interval | None, still: float | None) -> str:
    """Returns whether a tracker is no better than a box that never moves; "" if it is better.

    Args:
        who: the tracker in words, e.g. "the child".
        metric: its name.
        score: of the tracker.
        interval: of the score; None if it is not known or no evidence.
        still: the score of the box that never moves.
    """
    if score is None or still is None:
        return ""
    if score <= still:
        return f"No better than a box that never moves: {who} reaches {metric} {score:.3f}, the box {still:.3f}."
    if interval is not None and interval[0] <= still:
        return (
            f"The interval of {metric} of {who} holds the score of a box that never moves ({still:.3f}): no evidence "
            "that it follows the object."
        )
    return ""


def speed_note(device: str, speedup: Mapping[str, Any]) -> str:
    """Returns that a speed-up is no evidence or a loss; "" if the child is faster, or without an interval.

    Args:
        device: type of the device.
        speedup: "low" and "high", and those of the parent against itself under "noise".
    """
    measured, noise = interval_at(dict(speedup)), interval_at(dict(speedup), "noise")
    if measured is None or (faster := is_faster(measured, [noise] if noise else [])):
        return ""
    if faster is None:
        return f"On {device} no evidence that the child is faster: an unpruned tracker differs as much from itself."
    return f"On {device} the child is slower than its parent."


def is_faster(speedup: Interval, noise: Sequence[Interval]) -> bool | None:
    """Returns whether a child is faster than its parent, or slower; None if the speed-up is no evidence of either.

    Args:
        speedup: interval of the paired speed-up.
        noise: intervals of the parent against itself, which the speed-up must leave. Without any, it must leave 1.
    """
    if speedup.low > max([1, *(ends.high for ends in noise)]):
        return True
    return False if speedup.high < min([1, *(ends.low for ends in noise)]) else None


def speed_words(speedup: Mapping[str, Any]) -> str:
    """Returns a paired speed-up, e.g. "1.47 times faster (1.42 to 1.52)"; "" if there is none."""
    ratio, interval = number_at(dict(speedup), "ratio"), interval_at(dict(speedup))
    if ratio is None:
        return ""
    verdict = "faster" if ratio >= 1 else "as fast"
    return with_interval(ratio, interval, lambda value: f"{value:.2f} times {verdict}", "{:.2f}".format)


def noise_words(speedup: Mapping[str, Any], who: str = "an unpruned one") -> str:
    """Returns how much an unpruned tracker differs from itself, e.g. "an unpruned one against itself: 0.99 to 1.01"."""
    interval = interval_at(dict(speedup), "noise")
    return "" if interval is None else f"{who} against itself: {format_range(interval, '{:.2f}'.format)}"


def _score_notes(result: Result, benchmark: str, metric: str) -> Sequence[str]:
    sequences = number_at(result, "metrics", benchmark, "sequences")
    few, still = too_few(sequences), number_at(result, "still_box", benchmark, metric)

    def against_still_box(who: str, *path: str) -> str:
        score = number_at(result, *path, "metrics", benchmark, metric)
        interval = None if few else interval_at(result, *path, "intervals", benchmark, metric)
        return still_box_note(who, metric, score, interval, still)

    if not is_child(result):
        return [few_note(sequences), against_still_box("the tracker")]
    notes = [few_note(sequences), against_still_box("the child")]
    if parent := against_still_box("the parent", "parent"):
        return [*notes, f"{parent} A retention of it has no meaning."]
    interval = interval_at(result, "retention_intervals", benchmark, metric)
    return notes if few else [*notes, retention_note(metric, interval)]
