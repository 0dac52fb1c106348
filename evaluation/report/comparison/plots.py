"""Draws success and precision curves of several trackers with bootstrap bands."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evaluation.report.line_style import draw_swatches, styled_line
from evaluation.report.rendered_figure import RenderedFigure, render
from evaluation.report.style import HUES, style
from evaluation.tracking.metrics.curves import Curve

MARKS = 6  # markers on a curve


def draw_curves(curves: Mapping[str, Sequence[Curve]]) -> Iterator[RenderedFigure]:
    """Yields a figure for each kind of curve, with a line and a band for each tracker.

    Args:
        curves: by tracker; each tracker has the same kinds in the same order.
    """
    for kinds in zip(*curves.values(), strict=True):
        yield _draw(dict(zip(curves, kinds, strict=True)))


def draw_key(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the legend for the page: (swatch as SVG element, name) for each tracker."""
    with style():
        return draw_swatches("key", [styled_line(number, number, name) for number, name in enumerate(names)])


def _draw(curves: Mapping[str, Curve]) -> RenderedFigure:
    kind = next(iter(curves.values()))
    with style():
        figure = Figure(figsize=(3.6, 2.8), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y")
        axes.set_xlabel(kind.axis)
        axes.set_ylabel("share of frames")
        axes.set_xlim(kind.thresholds[0], kind.thresholds[-1])
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        lines = []
        for number, (name, curve) in enumerate(curves.items()):
            if (band := curve.band()) is not None:
                axes.fill_between(curve.thresholds, *band, color=HUES[number % len(HUES)], alpha=0.14, linewidth=0)
            axes.add_line(_marked_line(number, name, curve, len(curves)))
            lines.append(styled_line(number, number, name))
        title = f"{kind.name[0].upper()}{kind.name[1:]} by {kind.axis}"
        slug = re.sub(r"\W+", "-", kind.name.partition(" (")[0])
        return render(figure, slug, title, _describe(curves), lines)


def _describe(curves: Mapping[str, Curve]) -> str:
    """Returns the curves in words, for screen readers."""
    sentences = []
    for name, curve in curves.items():
        shown = np.linspace(0, len(curve.thresholds) - 1, 5).round().astype(int)
        mean = curve.mean()
        points = ", ".join(f"{mean[i]:.0%} at {curve.thresholds[i]:g}" for i in shown)
        sentences.append(f"{name}: {points}.")
    return " ".join(sentences)


def _marked_line(number: int, name: str, curve: Curve, of: int) -> Line2D:
    """Returns the curve of the tracker with a number from 0, of so many, whose markers stand at different points."""
    line = styled_line(number, number, name, curve.thresholds, curve.mean())
    step = max(1, len(curve.thresholds) // MARKS)
    line.set_markevery((step * number // of, step))
    return line
