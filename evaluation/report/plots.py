"""Draws the study's lines with matplotlib, for the PNG and SVG files and for the page.

`evaluation.report.series` turns results into the lines. pyplot is not used, since it keeps a global list of figures.
The style of matplotlib is restored after each call.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from evaluation.report.formatting import format_range
from evaluation.report.line_style import draw_swatches, styled_line
from evaluation.report.rendered_figure import RenderedFigure, render
from evaluation.report.series import SEEDS, SEQUENCES, Point, Series, band_of
from evaluation.report.style import FLOOR, HUES, INK, SOFT, style

BANDS = {
    SEQUENCES: "Bands: 95% interval over sequences, paired with the parent.",
    SEEDS: "Bands: smallest to largest seed.",
    "": "",
}
WHISKERS = {
    SEQUENCES: "Whiskers: 95% interval over sequences.",
    SEEDS: "Whiskers: smallest to largest seed.",
    "": "",
}
ACROSS = "Whiskers across: 95% interval of the paired speed-up."
DOTS = "Small dots: single seeds."


def draw_retention(
    name: str, series: Sequence[Series], floor: tuple[float, float] | None, metric: str, ratio_of: str, large: bool
) -> RenderedFigure:
    """Draws the retention of `metric` against the kept ratio, from dense (left) to small (right).

    Args:
        name: of the files.
        series: the lines.
        floor: smallest and largest retention of the still box; None if not known.
        metric: name of the metric.
        ratio_of: what the ratio is a fraction of, in words.
        large: whether the figure is the first and largest one.
    """
    with style():
        figure, axes = _axes((4.2, 3.15) if large else (3.3, 2.2))
        _ratio_axis(axes, sorted({point.x for line in series for point in line.points}), 1 if large else 1.6)
        axes.set_xlabel(f"fraction of {ratio_of} kept")
        axes.set_ylabel(f"{metric} retention")
        _floor(axes, floor, side="left")
        band = band_of(series)
        for line in series:
            _draw_line(axes, line, band, area=True)
        _percent_axis(axes, series, floor)
        title = f"{metric} retention against the fraction of {ratio_of} kept"
        description = _describe(series, floor, "{:g}".format, "{:.0%}".format)
        note = " ".join(filter(None, (BANDS[band], DOTS if band == SEQUENCES and _several_seeds(series) else "")))
        return render(figure, name, title, description, [_handle(line) for line in series], note)


def draw_tradeoff(
    name: str,
    series: Sequence[Series],
    front: Sequence[Point],
    floor: tuple[float, float] | None,
    metric: str,
    cost: str,
    quantity: Callable[[float], str],
    log: bool,
) -> RenderedFigure:
    """Draws `metric` against a cost (latency, parameters, MACs) with its Pareto front.

    Args:
        name: of the files.
        series: the lines.
        front: the points of the Pareto front, by rising cost.
        floor: smallest and largest score of the still box; None if not known.
        metric: name of the metric.
        cost: name of the cost with its unit.
        quantity: formats one value of the cost.
        log: whether the axis of the cost is logarithmic.
    """
    with style():
        figure, axes = _axes((3.3, 2.5))
        axes.set_xlabel(cost)
        axes.set_ylabel(metric)
        ends = [(point.x_interval or (point.x,))[-1] for line in series for point in line.points]
        _cost_axis(axes, [*ends, *(point.x for line in series for point in line.points)], quantity, log)
        _floor(axes, floor, side="right")
        _draw_front(axes, front)
        band = band_of(series)
        for line in series:
            _draw_line(axes, line, band, area=False)
            if len(series) == 1:
                _label_points(axes, line, band)
        highest = max(point.ends(band)[1] for line in series for point in line.points)
        axes.set_ylim(0, 1.15 * max(highest, floor[1] if floor else 0) or 1)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        description = _describe(series, floor, quantity, "{:.3f}".format)
        legend = [*(_handle(line) for line in series), *([_front_handle()] if front else [])]
        across = any(point.x_interval is not None for line in series for point in line.points)
        note = " ".join(filter(None, (WHISKERS[band], ACROSS if across else "")))
        return render(figure, name, f"{metric} against {cost}", description, legend, note)


def draw_legend(name: str, series: Sequence[Series], floor: bool, front: bool) -> list[tuple[str, str]]:
    """Returns the legend for the page: (swatch as SVG element, label) for each line, the floor and the front."""
    with style():
        lines = [_handle(line) for line in series]
        if floor:
            lines.append(Line2D((), (), color=FLOOR, linewidth=1.2, linestyle=(0, (2, 2)), label="still box"))
        if front:
            lines.append(_front_handle())
        return draw_swatches(name, lines)


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y")
    return figure, axes


def _several_seeds(series: Sequence[Series]) -> bool:
    return any(len(point.values) > 1 for line in series for point in line.points)


def _draw_line(axes: Axes, line: Series, band: str, area: bool) -> None:
    """Draws a line with its bands, as an area or as whiskers. If bands span sequences, small dots show single seeds."""
    x, y = [point.x for point in line.points], [point.mean for point in line.points]
    low, high = zip(*(point.ends(band) for point in line.points), strict=True)
    color = HUES[line.hue % len(HUES)]
    if area and low != high:
        axes.fill_between(x, low, high, color=color, alpha=0.14, linewidth=0)
    elif low != high:
        axes.vlines(x, low, high, color=color, linewidth=0.8, alpha=0.6)
    for point in line.points:
        if point.x_interval is not None:
            axes.hlines(point.mean, *point.x_interval, color=color, linewidth=0.8, alpha=0.6)
    if area and band == SEQUENCES:
        seeds = [(point.x, value) for point in line.points if len(point.values) > 1 for value in point.values]
        if seeds:
            axes.plot(*zip(*seeds, strict=True), ".", color=color, markersize=2.5)
    axes.add_line(_handle(line, x, y))
    axes.update_datalim(list(zip(x, y, strict=True)))


def _draw_front(axes: Axes, front: Sequence[Point]) -> None:
    """Draws the Pareto front as steps, and a ring around each of its points."""
    if not front:
        return
    x, y = [point.x for point in front], [point.mean for point in front]
    edge = _front_handle([*x, 1e3 * max(x)], [*y, y[-1]])  # the last step continues to the right edge
    edge.set(drawstyle="steps-post", markevery=range(len(x)))
    axes.add_line(edge)


def _front_handle(x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    return Line2D(
        x, y, color=INK, linewidth=0.7, marker="o", markersize=8, markeredgewidth=0.7, fillstyle="none",
        label="Pareto front",
    )  # fmt: skip


def _handle(line: Series, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    return styled_line(line.hue, line.dash, line.label, x, y)


def _label_points(axes: Axes, line: Series, band: str) -> None:
    for point in line.points:
        axes.annotate(
            point.label,
            (point.x, point.ends(band)[1]),
            (0, 5),
            textcoords="offset points",
            ha="center",
            color=SOFT,
            fontsize=6.5,
        )


def _floor(axes: Axes, floor: tuple[float, float] | None, side: Literal["left", "right"]) -> None:
    if floor is None:
        return
    low, high = floor
    if low != high:
        axes.axhspan(low, high, color=FLOOR, alpha=0.16, linewidth=0)
    for value in sorted({low, high}):
        axes.axhline(value, color=FLOOR, linewidth=0.9, linestyle=(0, (2, 2)))
    at, shift = (0, 2) if side == "left" else (1, -2)
    axes.annotate(
        "still box", (at, low), (shift, -2), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha=side, va="top", color=SOFT, fontsize=6.5,
    )  # fmt: skip


def _ratio_axis(axes: Axes, ratios: Sequence[float], crowding: float) -> None:
    axes.set_xscale("log")
    first, last = max(ratios), min(ratios)
    # Without a margin, an axis with a single ratio would have no width. The margin grows with the span of the axis.
    room = max(1.15, (first / last) ** 0.06)
    axes.set_xlim(first * room, last / room)
    span = first / last * room**2
    ticks: list[float] = []
    for ratio in reversed(ratios):
        if not ticks or ticks[-1] / ratio >= span ** (0.075 * crowding):
            ticks.append(ratio)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _percent_axis(axes: Axes, series: Sequence[Series], floor: tuple[float, float] | None) -> None:
    band = band_of(series)
    highest = max([point.ends(band)[1] for line in series for point in line.points] + [floor[1] if floor else 0, 1])
    axes.set_ylim(0, 1.06 * highest)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _cost_axis(axes: Axes, values: Sequence[float], quantity: Callable[[float], str], log: bool) -> None:
    if log:
        axes.set_xscale("log")
        low, high = min(values) / 1.6, max(values) * 1.6
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, 1.12 * max(values) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))


def _describe(
    series: Sequence[Series],
    floor: tuple[float, float] | None,
    x: Callable[[float], str],
    y: Callable[[float], str],
) -> str:
    sentences = [
        f"{line.label}: " + ", ".join(f"{y(point.mean)} at {x(point.x)}" for point in line.points) + "."
        for line in series
    ]
    return " ".join([*sentences, f"A box that never moves: {format_range(floor, y)}."] if floor else sentences)
