"""The table at the end of a command: what one result says, in at most 80 columns. Any key may be missing."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from evaluation.report.estimates import Estimate
from evaluation.report.evidence import evidence_of, interval_at, is_child, noise_words, speed_words
from evaluation.report.formatting import DASH, WIDTH, format_percent, format_si, wrapped
from evaluation.report.sentences import timing
from evaluation.report.study_results import (
    Result,
    benchmarks_of,
    keys_at,
    metrics_of,
    number_at,
    retention_of,
    value_at,
)

SPEEDUP = (
    "A speed-up is the median over rounds of parent / child, and not the quotient of the two times above: other work "
    "on the machine slows both in a round."
)
PRESENCE = {"AUC": "AUC", "found AUC": "found_AUC", "false alarms": "false_alarms", "misses": "misses"}  # label: key
Row = tuple[str, ...]


def result_table(result: Result) -> str:
    """Returns the scores, the size and the speed of a tracker, those of its parent, and what they are evidence of.

    Args:
        result: of a job or of an evaluation.
    """
    child = is_child(result)
    heading = ("", "parent", "child", "retention") if child else ("", "score", "box that never moves")
    blocks: list[tuple[str, list[Row]]] = [
        (_describe_benchmark(result, benchmark), list(_score_rows(result, benchmark, child)))
        for benchmark in benchmarks_of([result])
    ]
    blocks += [
        (_describe_presence(result, benchmark), list(_presence_rows(result, benchmark, child)))
        for benchmark in keys_at([result], "presence")
    ]
    blocks.append(("size and speed", [row for row in _size_rows(result, child) if any(row[1:])]))
    widths = [
        max(len(cell) for cell in column) for column in zip(heading, *(r for _, b in blocks for r in b), strict=True)
    ]
    lines = [_aligned(heading, widths)]
    for title, rows in blocks:
        lines += textwrap.wrap(title, WIDTH) + [_aligned(row, widths) for row in rows]
    paragraphs = [lines, map(wrapped, _protocol_notes(result, child)), map(wrapped, evidence_of(result))]
    return "\n\n".join(text for paragraph in paragraphs if (text := "\n".join(paragraph)))


def _describe_benchmark(result: Result, benchmark: str) -> str:
    """Returns the name of a benchmark with its protocol and its size."""
    report = value_at(result, "metrics", benchmark)
    counts = [f"{report[count]:,} {count}" for count in ("sequences", "frames") if number_at(report, count) is not None]
    return f"{benchmark}: " + ", ".join([f"{report.get('protocol')} protocol", *counts])


def _score_rows(result: Result, benchmark: str, child: bool) -> Iterator[Row]:
    """Yields each metric with its intervals: parent, child and retention, or the tracker and a box that never moves."""
    for metric in metrics_of([result], benchmark):

        def estimate(value: float | None, *path: str, metric: str = metric) -> Estimate | None:
            return None if value is None else Estimate(value, interval_at(result, *path, benchmark, metric))

        score = estimate(number_at(result, "metrics", benchmark, metric), "intervals")
        if child:
            parent = estimate(number_at(result, "parent", "metrics", benchmark, metric), "parent", "intervals")
            kept = estimate(retention_of(result, benchmark, metric), "retention_intervals")
            cells = parent and parent.score(), score and score.score(), kept and kept.percent()
        else:
            still = number_at(result, "still_box", benchmark, metric)
            cells = score and score.score(), None if still is None else f"{still:.3f}"
        yield metric, *(cell or DASH for cell in cells)


def _describe_presence(result: Result, benchmark: str) -> str:
    """Returns of which frames the presence of the object is told apart."""
    report = value_at(result, "presence", benchmark)
    return f"{benchmark}, presence: {report['present']:,} frames show the object, {report['absent']:,} do not"


def _presence_rows(result: Result, benchmark: str, child: bool) -> Iterator[Row]:
    """Yields how well presence and absence of the object are told apart: parent and child, or the tracker."""
    for label, key in PRESENCE.items():
        values = [number_at(result, *of, "presence", benchmark, key) for of in ((("parent",), ()) if child else ((),))]
        yield label, *(DASH if value is None else f"{value:.3f}" for value in values), ""


def _size_rows(result: Result, child: bool) -> Iterator[Row]:
    """Yields the size of the network and of its file, its latency, and the frames per second of the tracking."""

    def row(label: str, form: Callable[[float], str], *path: str, share: str | None = None) -> Row:
        whole, part = number_at(result, "parent", *path), number_at(result, *path)
        cells = tuple("" if value is None else form(value) for value in (whole, part))
        if not child:
            return label, cells[1], ""
        fraction = f"{format_percent(part / whole)}%" if part is not None and whole else ""
        return label, *cells, fraction if share is None else share

    yield row("params", "{:,.0f}".format, "params")
    yield row("MACs", lambda value: format_si(value, " "), "macs", "total")
    yield row("file", lambda value: format_si(value, " ") + "B", "bytes")
    for device in keys_at([result], "latency"):
        times = speed_words(value_at(result, "speedup", device) or {}).partition(" (")[0]
        yield row(device, "{:.2f} ms".format, "latency", device, "ms", share=times)
    for benchmark in keys_at([result], "speed"):
        if not child:
            yield row("tracking", "{:.1f} fps".format, "speed", benchmark, "fps")


def _protocol_notes(result: Result, child: bool) -> Iterator[str]:
    """Yields the protocols of the numbers, the box that never moves, and the speed-up with its noise."""
    if protocol := result.get("interval_protocol"):
        yield f"In brackets: {protocol}."
    for benchmark in benchmarks_of([result]) if child else ():
        still = [
            f"{metric} {value:.3f}"
            for metric in metrics_of([result], benchmark)
            if (value := number_at(result, "still_box", benchmark, metric)) is not None
        ]
        if still:
            yield f"A box that never moves on {benchmark}: {', '.join(still)}."
    for report in (value_at(result, "presence") or {}).values():
        yield f"Presence, over {report['protocol']}."
    for device in keys_at([result], "latency"):
        yield from (f"{note}." for note in timing([result], device))
        if speedup := value_at(result, "speedup", device):
            yield "; ".join(filter(None, [f"{device}: {speed_words(speedup)}", noise_words(speedup)])) + "."
    if keys_at([result], "speedup"):
        yield SPEEDUP


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """Returns the cells of a row under those of the other rows, labels left and numbers right."""
    label, *cells = row
    texts = [label.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
    return "  ".join(texts).rstrip()
