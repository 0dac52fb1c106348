"""The heatmap of kept fractions, as the files show it; the page has a table of the same cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.report.render import Plot, render
from evaluation.report.style import HEAT, INK, RULE, style
from evaluation.report.words import percent


@dataclass(frozen=True)
class Heat:
    """Kept fractions (None: not known) of `groups` (columns) in `rows`; `breaks` are the rows that open a new block."""

    rows: tuple[str, ...]
    groups: tuple[str, ...]
    kept: tuple[tuple[float | None, ...], ...]
    breaks: tuple[int, ...]


def heatmap(name: str, title: str, heat: Heat) -> Plot:
    """Kept fraction of each group, one row a job; ink density is the fraction, so an empty cell is an empty group."""
    with style():
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
        return render(figure, name, title, description)


def _tops(heat: Heat) -> list[float]:
    return [row + 0.35 * sum(start <= row for start in heat.breaks if start) for row in range(len(heat.rows))]


def _cell(axes: Axes, column: int, top: float, kept: float | None, digits: bool) -> None:
    fill = (HEAT, kept) if kept else "none"
    corner = (column + 0.04, top + 0.06)
    axes.add_patch(Rectangle(corner, 0.92, 0.88, facecolor=fill, edgecolor=RULE, linewidth=0.4, clip_on=False))
    if digits or not kept:
        axes.text(column + 0.5, top + 0.53, percent(kept), ha="center", va="center", fontsize=5.8, color=INK)


def _span(fractions: Sequence[float]) -> str:
    if not fractions:
        return "not known"
    return f"{min(fractions):.0%} to {max(fractions):.0%} kept, {sum(kept == 0 for kept in fractions)} groups empty"
