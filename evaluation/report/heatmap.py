"""Draws the heatmap of kept units for the files. The page has a table of the same cells."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.report.formatting import format_percent
from evaluation.report.kept_units import KeptUnits
from evaluation.report.rendered_figure import RenderedFigure, render
from evaluation.report.style import HEAT, INK, RULE, style


def draw_heatmap(name: str, title: str, units: KeptUnits) -> RenderedFigure:
    """Draws the kept fraction of each group, one row for each ratio. Stronger colour means that more is kept."""
    with style():
        columns, tops = len(units.groups), _tops(units)
        cell = min(0.42, max(0.155, 9 / columns))
        left, below = 0.065 * max(map(len, units.rows)) + 0.1, 0.058 * max(map(len, units.groups)) + 0.12
        row, height = 0.22, tops[-1] + 1
        size = (left + columns * cell + 0.05, below + height * row + 0.05)
        figure = Figure(figsize=size)
        axes = figure.add_axes((left / size[0], below / size[1], columns * cell / size[0], height * row / size[1]))
        axes.set(xlim=(0, columns), ylim=(height, 0))
        axes.set_xticks([column + 0.5 for column in range(columns)], units.groups, rotation=90, fontsize=6.5)
        axes.set_yticks([top + 0.5 for top in tops], units.rows, fontsize=7)
        axes.tick_params(length=0, pad=3)
        axes.spines[:].set_visible(False)
        for top, fractions in zip(tops, units.kept, strict=True):
            for column, kept in enumerate(fractions):
                _cell(axes, column, top, kept, digits=cell >= 0.24)
        description = " ".join(
            f"{label}: {_describe_row([kept for kept in fractions if kept is not None])}."
            for label, fractions in zip(units.rows, units.kept, strict=True)
        )
        return render(figure, name, title, description)


def _tops(units: KeptUnits) -> list[float]:
    """Returns the upper edge of each row, with a gap before each block."""
    return [row + 0.35 * sum(start <= row for start in units.breaks if start) for row in range(len(units.rows))]


def _cell(axes: Axes, column: int, top: float, kept: float | None, digits: bool) -> None:
    fill = (HEAT, kept) if kept else "none"
    corner = (column + 0.04, top + 0.06)
    axes.add_patch(Rectangle(corner, 0.92, 0.88, facecolor=fill, edgecolor=RULE, linewidth=0.4, clip_on=False))
    if digits or not kept:
        axes.text(column + 0.5, top + 0.53, format_percent(kept), ha="center", va="center", fontsize=5.8, color=INK)


def _describe_row(fractions: Sequence[float]) -> str:
    if not fractions:
        return "not known"
    return f"{min(fractions):.0%} to {max(fractions):.0%} kept, {sum(kept == 0 for kept in fractions)} groups empty"
