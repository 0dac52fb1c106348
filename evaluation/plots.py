"""The study's figures: drawn once with matplotlib, written as PNG and SVG files, and set inline into the report.

Nothing here knows what a tracker or a result file is; `evaluation.report` turns results into `Series` and `Heat`.
The object-oriented API only: no pyplot, so no global figure list, and style is restored after each call.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

# Okabe and Ito's palette, darkened where needed to reach 3:1 on white. The page maps each to a CSS variable, so that
# dark mode can lighten them again; hence no two entries (inks included) may be equal.
HUES = ("#0072b2", "#d55e00", "#00875f", "#b5558f", "#8a6d00", "#4b4bb7", "#7a7a7a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)))
FILLS = ("full", "none", "left", "bottom")
INK, SOFT, RULE, FLOOR, HEAT, ON_HEAT = "#1b1b1a", "#5e5e5b", "#dddddb", "#8c8c89", "#2a6f97", "#fefefe"
TOKENS = {INK: "ink", SOFT: "soft", RULE: "rule", FLOOR: "floor", HEAT: "heat", ON_HEAT: "on-heat"} | {
    hue: f"hue-{index}" for index, hue in enumerate(HUES)
}

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "text.color": INK,
    "text.parse_math": False,  # a name with a dollar sign is a name
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "study",  # ids depend on content alone: the same data give the same bytes
}
_SVG = "{http://www.w3.org/2000/svg}"
_PX_PER_INCH = 96


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


@dataclass(frozen=True)
class Heat:
    """Kept fractions (None: not known) of `groups` (columns) in `rows`; `breaks` are the rows that open a new block."""

    rows: tuple[str, ...]
    groups: tuple[str, ...]
    kept: tuple[tuple[float | None, ...], ...]
    breaks: tuple[int, ...]


@dataclass(frozen=True)
class Plot:
    """A rendered figure: the two files, and the SVG element for the page (without legend, the page has its own)."""

    name: str
    title: str
    description: str
    svg: bytes
    png: bytes
    inline: str


def retention(
    name: str, series: Sequence[Series], floor: tuple[float, float] | None, metric: str, of: str, large: bool
) -> Plot:
    """Retention of `metric` against the kept ratio, from dense (left) to small (right); `floor` is the still box's."""
    with _style():
        figure, axes = _axes((4.2, 3.15) if large else (3.3, 2.2))
        _ratio_axis(axes, sorted({point.x for line in series for point in line.points}), 1 if large else 1.6)
        axes.set_xlabel(f"fraction of {of} kept")
        axes.set_ylabel(f"{metric} retention")
        _floor(axes, floor, side="left")
        for line in series:
            _draw_line(axes, line, band=True)
        _percent_axis(axes, series, floor)
        description = _describe(series, "{:g}".format, lambda y: f"{y:.0%}") + _describe_floor(
            floor, lambda y: f"{y:.0%}"
        )
        return _render(figure, name, f"{metric} retention against the fraction of {of} kept", description, series)


def tradeoff(
    name: str,
    series: Sequence[Series],
    floor: tuple[float, float] | None,
    metric: str,
    cost: str,
    quantity: Callable[[float], str],
    log: bool,
) -> Plot:
    """`metric` against a cost (latency, parameters, MACs); `quantity` writes one value of the cost."""
    with _style():
        figure, axes = _axes((3.3, 2.5))
        axes.set_xlabel(cost)
        axes.set_ylabel(metric)
        _cost_axis(axes, [point.x for line in series for point in line.points], quantity, log)
        _floor(axes, floor, side="right")
        for line in series:
            _draw_line(axes, line, band=False)
            if len(series) == 1:
                _label_points(axes, line)
        highest = max(point.high for line in series for point in line.points)
        axes.set_ylim(0, 1.15 * max(highest, floor[1] if floor else 0) or 1)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        description = _describe(series, quantity, lambda y: f"{y:.3f}") + _describe_floor(floor, lambda y: f"{y:.3f}")
        return _render(figure, name, f"{metric} against {cost}", description, series)


def heatmap(name: str, title: str, heat: Heat) -> Plot:
    """Kept fraction of each group, one row a job; ink density is the fraction, so an empty cell is an empty group."""
    with _style():
        columns, tops = len(heat.groups), _tops(heat)
        cell = min(0.42, max(0.155, 9 / columns))
        left, below = 0.065 * max(map(len, heat.rows)) + 0.1, 0.058 * max(map(len, heat.groups)) + 0.12
        row, height = 0.22, tops[-1] + 1
        size = (left + columns * cell + 0.05, below + height * row + 0.05)
        figure = Figure(figsize=size)
        axes = figure.add_axes((left / size[0], below / size[1], columns * cell / size[0], height * row / size[1]))
        axes.set(xlim=(0, columns), ylim=(height, 0))
        axes.set_xticks([column + 0.5 for column in range(columns)], heat.groups, rotation=90, fontsize=6.5)
        axes.set_yticks([top + 0.5 for top in tops], heat.rows, fontsize=7)
        axes.tick_params(length=0, pad=3)
        axes.spines[:].set_visible(False)
        for top, fractions in zip(tops, heat.kept, strict=True):
            for column, kept in enumerate(fractions):
                _cell(axes, column, top, kept, digits=cell >= 0.24)
        description = " ".join(
            f"{label}: {_span([kept for kept in fractions if kept is not None])}."
            for label, fractions in zip(heat.rows, heat.kept, strict=True)
        )
        return _render(figure, name, title, description, ())


def key(name: str, series: Sequence[Series], floor: bool) -> list[tuple[str, str]]:
    """The legend alone, for the page: (swatch as SVG element, label) for each series, and for the floor if drawn."""
    x, y = (0.04, 0.5, 0.96), (0.5, 0.5, 0.5)
    with _style():
        lines = [_handle(line, x, y) for line in series]
        if floor:
            lines.append(Line2D(x, y, color=FLOOR, linewidth=1.2, linestyle=(0, (2, 2)), label="still box"))
        return [(_swatch(f"{name}-{index}", line), str(line.get_label())) for index, line in enumerate(lines)]


# --- drawing ---------------------------------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the report
        matplotlib.rcParams.update(STYLE)
        yield


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


def _tops(heat: Heat) -> list[float]:
    return [row + 0.35 * sum(start <= row for start in heat.breaks if start) for row in range(len(heat.rows))]


def _cell(axes: Axes, column: int, top: float, kept: float | None, digits: bool) -> None:
    fill = (HEAT, 0.06 + 0.92 * kept) if kept else "none"
    corner = (column + 0.04, top + 0.06)
    axes.add_patch(Rectangle(corner, 0.92, 0.88, facecolor=fill, edgecolor=RULE, linewidth=0.4, clip_on=False))
    if digits or kept is None or kept == 0:
        text = "\N{EN DASH}" if kept is None else f"{100 * kept:.0f}"
        # Between 0 and 1 % the rounded figure would claim an empty group.
        text = "<1" if kept and text == "0" else text
        ink = ON_HEAT if kept is not None and kept > 0.85 else INK
        axes.text(column + 0.5, top + 0.53, text, ha="center", va="center", fontsize=5.8, color=ink)


def _add_legend(figure: Figure, series: Sequence[Series]) -> None:
    width, height = figure.get_size_inches()
    columns = max(1, int(width / (0.6 + 0.057 * max(len(line.label) for line in series))))
    figure.set_size_inches(width, height + 0.17 * -(-len(series) // columns))
    figure.legend(
        handles=[_handle(line) for line in series],
        loc="outside lower center",
        ncols=columns,
        handlelength=2.6,
        columnspacing=1.2,
    )


# --- words -----------------------------------------------------------------------------------------------------------


def _describe(series: Sequence[Series], x: Callable[[float], str], y: Callable[[float], str]) -> str:
    lines = (
        f"{line.label}: " + ", ".join(f"{y(point.mean)} at {x(point.x)}" for point in line.points) + "."
        for line in series
    )
    return " ".join(lines)


def _describe_floor(floor: tuple[float, float] | None, y: Callable[[float], str]) -> str:
    if floor is None:
        return ""
    low, high = map(y, floor)
    return f" A box that never moves: {low if low == high else f'{low} to {high}'}."


def _span(fractions: Sequence[float]) -> str:
    if not fractions:
        return "not known"
    return f"{min(fractions):.0%} to {max(fractions):.0%} kept, {sum(kept == 0 for kept in fractions)} groups empty"


# --- files and page --------------------------------------------------------------------------------------------------


def _render(figure: Figure, name: str, title: str, description: str, series: Sequence[Series]) -> Plot:
    svg = _svg(figure)
    inline = inline_svg(svg, name, title, description)
    if series:
        _add_legend(figure, series)
        svg = _svg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return Plot(name, title, description, svg, buffer.getvalue(), inline)


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def inline_svg(svg: bytes, name: str, title: str = "", description: str = "") -> str:
    """Matplotlib's `svg` as one element for an HTML page.

    Namespaces, metadata and the global style go (a page has its own); ids get the prefix `name`, so that several
    figures may share a page; known colours become CSS variables with the colour as fallback; title and description
    are what a screen reader says. Without a title the element is decoration.
    """
    root = ElementTree.fromstring(svg)
    _drop(root, {f"{_SVG}metadata", f"{_SVG}style"})
    referenced = set(re.findall(r"#([\w.-]+)", svg.decode()))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = dict(_attribute(key, value, name) for key, value in element.attrib.items())
        if element.get("id") and element.get("id") not in referenced:
            del element.attrib["id"]
        elif element.get("id"):
            element.set("id", f"{name}-{element.get('id')}")
    width, height = (float(root.get(side, "0").removesuffix("pt")) / 72 * _PX_PER_INCH for side in ("width", "height"))
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        # The page scales a figure by these: text neither shrinks below reading size nor outgrows the text around it.
        "style": f"--width: {width:.0f}px; --height: {height:.0f}px",
    }
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"} if title else {"aria-hidden": "true"}
    for tag, text in (("desc", description), ("title", title)) if title else ():
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(0, element)
    return ElementTree.tostring(root, encoding="unicode")


def _swatch(name: str, line: Line2D) -> str:
    figure = Figure(figsize=(0.36, 0.14))
    line.set_markevery([1])  # the line through three points, the marker on the middle one
    figure.add_artist(line)
    return inline_svg(_svg(figure), name)


def _drop(element: ElementTree.Element, tags: set[str]) -> None:
    for child in list(element):
        if child.tag in tags:
            element.remove(child)
        else:
            _drop(child, tags)


def _attribute(key: str, value: str, name: str) -> tuple[str, str]:
    key = key.rsplit("}", 1)[-1]
    if key == "href":
        return key, value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    return key, re.sub(r"#[0-9a-f]{6}\b", lambda match: _variable(match.group()), value)


def _variable(color: str) -> str:
    return f"var(--{TOKENS[color]}, {color})" if color in TOKENS else color
