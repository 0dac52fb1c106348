"""Numbers and lists in words."""

from collections.abc import Callable, Sequence

DASH, DOT = "\N{EN DASH}", "\N{NO-BREAK SPACE}\N{MIDDLE DOT}\N{NO-BREAK SPACE}"


def join(words: Sequence[str], last: str = " and ") -> str:
    """All but the last word joined by commas, the last by `last`."""
    return last.join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def between(pair: tuple[float, float], form: Callable[[float], str]) -> str:
    """`low to high`, or the one value where both read the same."""
    low, high = map(form, pair)
    return low if low == high else f"{low} to {high}"


def si(value: float) -> str:
    """Three significant digits and an SI suffix."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}\u202f{suffix}"
    return f"{value:.3g}"


def percent(fraction: float | None) -> str:
    """A whole percentage without its sign; between 0 and 1 % the rounded one would claim that nothing is left."""
    text = DASH if fraction is None else f"{100 * fraction:.0f}"
    return "<1" if fraction and text == "0" else text
