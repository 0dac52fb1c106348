"""The picture of a profile: the time of a frame against accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from evaluation.report.line_style import styled_line
from evaluation.report.rendered_figure import RenderedFigure, render
from evaluation.report.style import SOFT, style
from evaluation.tracking.metrics.bootstrap import Interval


@dataclass(frozen=True)
class ProfilePoint:
    """One tracker in one runtime: milliseconds of a frame (median and 95th percentile), and its score."""

    tracker: str
    runtime: str
    ms: float
    p95: float
    score: float
    interval: Interval | None


def draw_profile(points: Sequence[ProfilePoint], metric: str, benchmark: str, still: float | None) -> RenderedFigure:
    """Draws the score of each tracker against the time of a frame in each runtime, from slow (left) to fast (right).

    Args:
        points: trackers in any order, their runtimes in any order.
        metric: name of the score.
        benchmark: which the score is of.
        still: score of a box that never moves; None if it is not known.
    """
    names = list(dict.fromkeys(point.tracker for point in points))
    with style():
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y")
        axes.set_xscale("log")
        low, high = min(point.ms for point in points) / 1.5, max(point.p95 for point in points) * 1.5
        axes.set_xlim(high, low)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("ms of a frame, logarithmic; faster to the right")
        axes.set_ylabel(f"{metric}, {benchmark}")
        handles = [styled_line(hue, 0, name) for hue, name in enumerate(names)]
        for hue, name in enumerate(names):
            own = sorted((point for point in points if point.tracker == name), key=lambda point: point.ms)
            line = styled_line(hue, 0, name, [point.ms for point in own], [point.score for point in own])
            axes.add_line(line)
            for number, point in enumerate(own):
                color = line.get_color()
                axes.hlines(point.score, point.ms, point.p95, color=color, linewidth=0.8, alpha=0.6)
                if point.interval is not None and number == 0:
                    axes.vlines(point.ms, *point.interval, color=color, linewidth=0.8, alpha=0.6)
                below = number % 2  # neighbours that are close would write over each other
                axes.annotate(
                    point.runtime, (point.ms, point.score), (0, -5 if below else 5), textcoords="offset points",
                    ha="center", va="top" if below else "bottom", color=SOFT, fontsize=6.5,
                )  # fmt: skip
        ends = [end for point in points for end in (point.score, *(point.interval or ()))]
        axes.set_ylim(0, 1.12 * max(ends) or 1)
        if still is not None:
            axes.axhline(still, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.annotate(
                "still box", (0, still), (2, -2), xycoords=("axes fraction", "data"), textcoords="offset points",
                va="top", color=SOFT, fontsize=6.5,
            )  # fmt: skip
        said = [f"{p.tracker}, {p.runtime}: {metric} {p.score:.3f} at {p.ms:.3g} ms." for p in points]
        note = "Whiskers: 95% interval over sequences, and the 95th percentile of the time."
        title = f"{metric} against the time of a frame"
        return render(figure, "latency_accuracy", title, " ".join(said), handles, note)
