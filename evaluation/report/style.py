"""The style of figures: palette, markers and settings of matplotlib, which are restored after each figure."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib

# The palette of Okabe and Ito, darkened where needed for a contrast of 3:1 on white. The page replaces each colour by a
# CSS variable, which dark mode lightens again. So no two colours (inks included) may be equal.
HUES = ("#0072b2", "#d55e00", "#00875f", "#b5558f", "#8a6d00", "#4b4bb7", "#7a7a7a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)))
FILLS = ("full", "none", "left", "bottom")
# INK is readable on the strongest colour of the heatmap, so all cells use it.
INK, SOFT, RULE, FLOOR, HEAT = "#1b1b1a", "#5e5e5b", "#dddddb", "#8c8c89", "#5fa3c7"
TOKENS = {INK: "ink", SOFT: "soft", RULE: "rule", FLOOR: "floor", HEAT: "heat"} | {
    hue: f"hue-{index}" for index, hue in enumerate(HUES)
}

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name does not start a formula
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
    "svg.hashsalt": "study",  # ids depend only on the content, so the same data give the same bytes
}


@contextmanager
def style() -> Iterator[None]:
    """Makes matplotlib draw in the report's style inside the block, whatever the settings of the caller are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the matplotlibrc of a user must not change the report
        matplotlib.rcParams.update(STYLE)
        yield
