"""Lines of figures and of legends: colour, dashes and marker differ, so colour is never the only difference."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.report.style import DASHES, FILLS, HUES, MARKERS
from evaluation.report.svg import inline_svg, svg_file

Values = Sequence[float] | np.ndarray


def styled_line(hue: int, dash: int, label: str, x: Values = (), y: Values = ()) -> Line2D:
    """Returns a line; call it in the block of `style`.

    Args:
        hue: number of the colour and of the marker.
        dash: number of the line style and of the marker's fill.
        label: in the legend.
        x, y: the points.
    """
    return Line2D(
        x,
        y,
        color=HUES[hue % len(HUES)],
        linestyle=DASHES[dash % len(DASHES)],
        linewidth=1.3,
        marker=MARKERS[hue % len(MARKERS)],
        markersize=4.5,
        markeredgewidth=1,
        fillstyle=FILLS[dash % len(FILLS)],
        label=label,
    )


def draw_swatches(name: str, lines: Sequence[Line2D]) -> list[tuple[str, str]]:
    """Returns a legend for the page: (swatch as SVG element, label) for each line.

    Args:
        name: start of the ids in the elements, unique in the page.
        lines: the lines, whose points are replaced.
    """
    return [(_swatch(f"{name}-{index}", line), str(line.get_label())) for index, line in enumerate(lines)]


def _swatch(name: str, line: Line2D) -> str:
    figure = Figure(figsize=(0.36, 0.14))
    line.set_data((0.04, 0.5, 0.96), (0.5, 0.5, 0.5))
    line.set_markevery([1])  # the line through three points, the marker on the middle one
    figure.add_artist(line)
    return inline_svg(svg_file(figure), name)
