"""How figures look: palette, markers and matplotlib's settings, which are restored after each figure."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib

# Okabe and Ito's palette, darkened where needed to reach 3:1 on white. The page maps each to a CSS variable, so that
# dark mode can lighten them again; hence no two entries (inks included) may be equal.
HUES = ("#0072b2", "#d55e00", "#00875f", "#b5558f", "#8a6d00", "#4b4bb7", "#7a7a7a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)))
FILLS = ("full", "none", "left", "bottom")
# Ink is readable on the full colour of the heatmap, too, so every cell has the same ink.
INK, SOFT, RULE, FLOOR, HEAT = "#1b1b1a", "#5e5e5b", "#dddddb", "#8c8c89", "#5fa3c7"
TOKENS = {INK: "ink", SOFT: "soft", RULE: "rule", FLOOR: "floor", HEAT: "heat"} | {
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


@contextmanager
def style() -> Iterator[None]:
    """Within it matplotlib draws in the report's style, whatever its caller's settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the report
        matplotlib.rcParams.update(STYLE)
        yield
