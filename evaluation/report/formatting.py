"""Formats numbers and lists as text."""

import textwrap
from collections.abc import Callable, Sequence

WIDTH = 80  # columns of text in a terminal
DASH, DOT = "\N{EN DASH}", "\N{NO-BREAK SPACE}\N{MIDDLE DOT}\N{NO-BREAK SPACE}"


def wrapped(sentence: str) -> str:
    """Returns a sentence in lines of at most `WIDTH` columns, all but the first indented."""
    return textwrap.fill(sentence, WIDTH, subsequent_indent="  ", break_long_words=False)


def join_words(words: Sequence[str], last: str = " and ") -> str:
    """Joins words by commas, and the last one by `last`."""
    return last.join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def format_range(pair: tuple[float, float], form: Callable[[float], str]) -> str:
    """Returns `low to high`, or one value if both are the same text."""
    low, high = map(form, pair)
    return low if low == high else f"{low} to {high}"


def with_interval(
    value: float,
    ends: tuple[float, float] | None,
    form: Callable[[float], str],
    end_form: Callable[[float], str],
    unit: str = "",
) -> str:
    """Returns a value with the ends of its interval, e.g. "0.537 (0.48 to 0.59)"; without them if they are not known.

    Args:
        value: the value.
        ends: of the interval.
        form: formats the value.
        end_form: formats an end, without the unit.
        unit: stands after the ends.
    """
    return form(value) if ends is None else f"{form(value)} ({end_form(ends[0])} to {end_form(ends[1])}{unit})"


def format_si(value: float, space: str = "\u202f") -> str:
    """Returns three significant digits and an SI suffix, with `space` between them."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}{space}{suffix}"
    return f"{value:.3g}"


def with_share(size: str, share: float | None) -> str:
    """Returns a size with its fraction of the parent's size, e.g. "92,160 (10%)"; the size alone if that is all."""
    return size if share in (None, 1) else f"{size} ({format_percent(share)}%)"


def format_percent(fraction: float | None) -> str:
    """Returns a whole percentage without its sign, `<1` for a small one (0 would mean that nothing is left)."""
    text = DASH if fraction is None else f"{100 * fraction:.0f}"
    return "<1" if fraction and text == "0" else text
