"""Renders a figure for its two files and for the page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.report.svg import inline_svg, svg_file


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as files and as part of a page.

    Attributes:
        name: of the files, without suffix.
        title, description: text for screen readers.
        note: what its bands or whiskers mean; "" without any.
        svg, png: content of the files.
        inline: an SVG element for the page, without a legend, since the page has its own.
    """

    name: str
    title: str
    description: str
    note: str
    svg: bytes
    png: bytes
    inline: str


def render(
    figure: Figure, name: str, title: str, description: str, legend: Sequence[Line2D] = (), note: str = ""
) -> RenderedFigure:
    """Renders the figure as files with `legend` and `note` below, and as an SVG element without these."""
    svg = svg_file(figure)
    inline = inline_svg(svg, name, title, description)
    if legend:
        _add_legend(figure, legend, note)
        svg = svg_file(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return RenderedFigure(name, title, description, note, svg, buffer.getvalue(), inline)


def _add_legend(figure: Figure, lines: Sequence[Line2D], note: str) -> None:
    width, height = figure.get_size_inches()
    columns = max(1, int(width / (0.6 + 0.057 * max(len(str(line.get_label())) for line in lines))))
    rows = -(-len(lines) // columns) + bool(note)
    figure.set_size_inches(width, height + 0.17 * rows)
    figure.legend(
        handles=lines,
        loc="outside lower center",
        ncols=columns,
        handlelength=2.6,
        columnspacing=1.2,
        title=note or None,
        title_fontsize="small",
    )
