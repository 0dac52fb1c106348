"""A comparison of trackers in words and cells, for the terminal and for the page."""

from typing import Any

from evaluation.report.estimates import Estimate
from evaluation.report.evidence import few_note, interval_at, noise_words
from evaluation.report.formatting import DASH, format_si, join_words, with_interval
from evaluation.report.study_results import number_at

Comparison = dict[str, Any]  # the content of comparison.json


def score_cell(tracker: dict[str, Any], report: str, metric: str) -> str:
    """Returns a score with its interval, e.g. "0.537 (0.48 to 0.59)"."""
    return Estimate(tracker["metrics"][report][metric], interval_at(tracker, "intervals", report, metric)).score()


def difference_cell(difference: dict[str, Any]) -> str:
    """Returns a difference with its interval, e.g. "+0.021 (+0.004 to +0.047)"."""
    form = "{:+.3f}".format
    return signs(with_interval(difference["value"], interval_at(difference, "interval"), form, form))


def signs(text: str) -> str:
    """Returns a text whose hyphens before digits are minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def size_cells(tracker: dict[str, Any]) -> tuple[str, ...]:
    """Returns the parameters and the multiply-accumulates of a frame; OpenCV's trackers do not tell them."""
    sizes = number_at(tracker, "params"), number_at(tracker, "macs", "total")
    return tuple(DASH if size is None else format_si(size) for size in sizes)


def speed_cell(comparison: Comparison, name: str) -> str:
    """Returns how many times faster than the first tracker a tracker is, with the interval."""
    speeds = comparison["speedup"].get(name, {}).values()
    return "; ".join(Estimate(speed["ratio"], interval_at(speed)).times() for speed in speeds) or (
        "1" if name == comparison["first"] and comparison["speedup"] else DASH
    )


def headline(comparison: Comparison) -> list[str]:
    """Returns a sentence for each tracker but the first: the main difference, and what it is evidence of."""
    first, metric, report = comparison["first"], comparison["metric"], comparison["benchmark"]
    sentences = []
    for name, found in comparison["differences"][report].items():
        difference = found[metric]
        scores = [comparison["trackers"][tracker]["metrics"][report][metric] for tracker in (name, first)]
        said = f"{metric} {scores[0]:.3f} against {scores[1]:.3f}, a difference of {difference_cell(difference)}"
        better = difference["verdict"] in ("better", "worse")
        between = f" than {first}" if better else f" between {name} and {first}"
        subject = f"{name} is " if better else ""
        verdict = difference["verdict"] if better else f"{difference['verdict'][0].upper()}{difference['verdict'][1:]}"
        sentences.append(f"{subject}{verdict}{between}: {said}.")
    return sentences


def notes(comparison: Comparison) -> list[str]:
    """Returns what the reader must know: too few sequences, a still box, the method of intervals, noise of speeds."""
    report, metric, first = comparison["benchmark"], comparison["metric"], comparison["first"]
    still = comparison["still_box"][report][metric]
    scores = {name: tracker["metrics"][report][metric] for name, tracker in comparison["trackers"].items()}
    lost = [name for name, score in scores.items() if score is not None and still is not None and score <= still]
    speeds = [of for found in comparison["speedup"].values() for of in found.values()]
    noise = next(filter(None, (noise_words(speed, first) for speed in speeds)), "")
    untimed = [name for name in comparison["trackers"] if speed_cell(comparison, name) == DASH]
    said = [
        few_note(comparison["trackers"][first]["metrics"][report]["sequences"]),
        f"A box that never moves has {metric} {still:.3f}." if still is not None else "",
        f"No better than a box that never moves: {', '.join(lost)}." if lost else "",
        f"{comparison['interval_protocol']}.",
        f"Speed: relative to {first}, timed in the same rounds; {noise}." if noise else "",
        f"No speed of {join_words(untimed)}: action=profile times exports and OpenCV's trackers, too."
        if untimed
        else "",
    ]
    return list(filter(None, said))


def protocol_words(comparison: Comparison) -> str:
    """Returns the main protocol with the number of sequences, which stands in its name if it is only a part."""
    report = comparison["trackers"][comparison["first"]]["metrics"][comparison["benchmark"]]
    counts = "" if report["protocol"].endswith(" sequences") else f", {report['sequences']:,} sequences"
    return f"{report['protocol']}{counts}, {report['frames']:,} frames"


def metrics_of_report(comparison: Comparison, report: str) -> list[str]:
    """Returns the names of the scores in a report that each sequence has."""
    return list(next(iter(comparison["differences"][report].values())))


def large_attributes(comparison: Comparison, fewest: int) -> list[dict[str, Any]]:
    """Returns the attributes with at least `fewest` sequences."""
    return [row for row in comparison["attributes"] if row["sequences"] >= fewest]
