"""The study's curves: drawn once with matplotlib, written as PNG and SVG files, and set inline into the report.

Nothing here knows what a tracker or a result file is; `evaluation.report.lines` turns results into `Series`.
The object-oriented API only: no pyplot, so no global figure list, and style is restored after each call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from evaluation.report.render import Plot, render
from evaluation.report.style import DASHES, FILLS, FLOOR, HUES, INK, MARKERS, SOFT, style
from evaluation.report.svg import inline_svg, svg_file
from evaluation.report.words import between


@dataclass(frozen=True)
class Point:
    """One ratio of a series: the mean over seeds, and the smallest and largest value among them."""

    x: float
    mean: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Series:
    """One line: `hue` picks colour and marker, `dash` line style and marker fill: nothing is told by colour alone."""

    label: str
    hue: int
    dash: int
    points: tuple[Point, ...]


def retention(
    name: str, series: Sequence[Series], floor: tuple[float, float] | None, metric: str, of: str, large: bool
) -> Plot:
    """Retention of `metric` against the kept ratio, from dense (left) to small (right); `floor` is the still box's."""
    with style():
        figure, axes = _axes((4.2, 3.15) if large else (3.3, 2.2))
        _ratio_axis(axes, sorted({point.x for line in series for point in line.points}), 1 if large else 1.6)
        axes.set_xlabel(f"fraction of {of} kept")
        axes.set_ylabel(f"{metric} retention")
        _floor(axes, floor, side="left")
        for line in series:
            _draw_line(axes, line, band=True)
        _percent_axis(axes, series, floor)
        title = f"{metric} retention against the fraction of {of} kept"
        description = _describe(series, floor, "{:g}".format, "{:.0%}".format)
        return render(figure, name, title, description, [_handle(line) for line in series])


def tradeoff(
    name: str,
    series: Sequence[Series],
    front: Sequence[Point],
    floor: tuple[float, float] | None,
    metric: str,
    cost: str,
    quantity: Callable[[float], str],
    log: bool,
) -> Plot:
    """`metric` against a cost (latency, parameters, MACs) with its Pareto front, from cheap to dear.

    `quantity` writes one value of the cost.
    """
    with style():
        figure, axes = _axes((3.3, 2.5))
        axes.set_xlabel(cost)
        axes.set_ylabel(metric)
        _cost_axis(axes, [point.x for line in series for point in line.points], quantity, log)
        _floor(axes, floor, side="right")
        _draw_front(axes, front)
        for line in series:
            _draw_line(axes, line, band=False)
            if len(series) == 1:
                _label_points(axes, line)
        highest = max(point.high for line in series for point in line.points)
        axes.set_ylim(0, 1.15 * max(highest, floor[1] if floor else 0) or 1)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        description = _describe(series, floor, quantity, "{:.3f}".format)
        legend = [*(_handle(line) for line in series), *([_front_handle()] if front else [])]
        return render(figure, name, f"{metric} against {cost}", description, legend)


def key(name: str, series: Sequence[Series], floor: bool, front: bool) -> list[tuple[str, str]]:
    """The legend alone, for the page: (swatch as SVG element, label) for each series, and floor and front if drawn."""
    x, y = (0.04, 0.5, 0.96), (0.5, 0.5, 0.5)
    with style():
        lines = [_handle(line, x, y) for line in series]
        if floor:
            lines.append(Line2D(x, y, color=FLOOR, linewidth=1.2, linestyle=(0, (2, 2)), label="still box"))
        if front:
            lines.append(_front_handle(x, y))
        return [(_swatch(f"{name}-{index}", line), str(line.get_label())) for index, line in enumerate(lines)]


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y")
    return figure, axes


def _draw_line(axes: Axes, line: Series, band: bool) -> None:
    x, y = [point.x for point in line.points], [point.mean for point in line.points]
    low, high = [point.low for point in line.points], [point.high for point in line.points]
    color = _color(line)
    if low != high and band:
        axes.fill_between(x, low, high, color=color, alpha=0.14, linewidth=0)
    elif low != high:
        axes.vlines(x, low, high, color=color, linewidth=0.8, alpha=0.6)
    axes.add_line(_handle(line, x, y))
    axes.update_datalim(list(zip(x, y, strict=True)))


def _draw_front(axes: Axes, front: Sequence[Point]) -> None:
    """The edge of what is beaten, and a ring around each point on it."""
    if not front:
        return
    x, y = [point.x for point in front], [point.mean for point in front]
    edge = _front_handle([*x, 1e3 * max(x)], [*y, y[-1]])  # the dearest beats all that is dearer still
    edge.set(drawstyle="steps-post", markevery=range(len(x)))
    axes.add_line(edge)


def _front_handle(x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    return Line2D(
        x, y, color=INK, linewidth=0.7, marker="o", markersize=8, markeredgewidth=0.7, fillstyle="none",
        label="Pareto front",
    )  # fmt: skip


def _handle(line: Series, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    return Line2D(
        x,
        y,
        color=_color(line),
        linestyle=DASHES[line.dash % len(DASHES)],
        linewidth=1.3,
        marker=MARKERS[line.hue % len(MARKERS)],
        markersize=4.5,
        markeredgewidth=1,
        fillstyle=FILLS[line.dash % len(FILLS)],
        label=line.label,
    )


def _color(line: Series) -> str:
    return HUES[line.hue % len(HUES)]


def _label_points(axes: Axes, line: Series) -> None:
    for point in line.points:
        axes.annotate(
            point.label,
            (point.x, point.high),
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
    # Without room on both sides a single ratio would collapse the axis; growing with the span keeps the margins even.
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
    highest = max([point.high for line in series for point in line.points] + [floor[1] if floor else 0, 1])
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
    return " ".join([*sentences, f"A box that never moves: {between(floor, y)}."] if floor else sentences)


def _swatch(name: str, line: Line2D) -> str:
    figure = Figure(figsize=(0.36, 0.14))
    line.set_markevery([1])  # the line through three points, the marker on the middle one
    figure.add_artist(line)
    return inline_svg(svg_file(figure), name)
