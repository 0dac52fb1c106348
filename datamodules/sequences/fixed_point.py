"""Tables of numbers that all have the same count of decimals, as tools write them, read several times faster.

Whole numbers are parsed much faster than others. So the points are taken out, and put back by a division. It rounds
once, as reading the number does, since both its sides are exact.
"""

import re
import warnings

import numpy as np

DIGITS = b"0123456789"
COMMAS = bytes.maketrans(b"\n", b",")
BAD_SIGN = re.compile(rb"-(?![0-9])|\.-")  # would be read as 0, or as a sign in front of the number
EXACT_POWER = 22  # 10 to this and every smaller power is a double
EXACT_WHOLE = 2**53  # so is every smaller whole number


def fixed_point_table(text: bytes, columns: int) -> np.ndarray | None:
    """The table, (lines, columns) float64, or None if it is not of this kind; that says nothing about the text.

    Args:
        text: numbers separated by commas, and lines by line feeds.
        columns: numbers a line.
    """
    rows = text.count(b"\n") + 1
    marks = text.translate(None, DIGITS + b"-")
    point = b"." if b"." in marks else b""
    if marks != ((b",".join([point] * columns) + b"\n") * rows)[:-1] or (b"-" in text and BAD_SIGN.search(text)):
        return None
    decimals = len(text) - 1 - text.rfind(b".") if point else 0
    if decimals > EXACT_POWER or (point and not _ends_after(text, decimals, rows * columns - 1)):
        return None
    with warnings.catch_warnings():  # of text that is not read to its end: its length tells
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text.translate(COMMAS, point), np.int64, sep=",")
        except ValueError:
            return None
    if len(values) != rows * columns or values.max() >= EXACT_WHOLE or values.min() <= -EXACT_WHOLE:
        return None
    return values.reshape(rows, columns) / 10**decimals


def _ends_after(text: bytes, decimals: int, count: int) -> bool:
    """Whether `count` numbers end so many digits after their points."""
    symbols = np.frombuffer(text, np.uint8)
    ended = (symbols[: -decimals - 1] == ord(".")) & (symbols[decimals + 1 :] <= ord(","))
    return np.count_nonzero(ended) == count
