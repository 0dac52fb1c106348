"""A fast parser for tables whose numbers all have the same count of decimals, as annotation tools write them.

NumPy parses integers several times faster than decimals. The parser removes the decimal points, reads integers and
divides by a power of ten. Both operands are exact doubles, so the division rounds once, as parsing the decimal does.
"""

import re
import warnings

import numpy as np

DIGITS = b"0123456789"
COMMAS = bytes.maketrans(b"\n", b",")
BAD_SIGN = re.compile(rb"-(?![0-9])|\.-")  # without the point, NumPy would read these as 0 or as a sign
EXACT_POWER = 22  # doubles hold 10 to this power, and to every smaller one, exactly
EXACT_WHOLE = 2**53  # doubles hold every smaller whole number exactly


def fixed_point_table(text: bytes, columns: int) -> np.ndarray | None:
    """Returns the table, (lines, columns) float64, or None if the numbers differ in their count of decimals.

    None does not mean that the text is wrong: a general parser has to decide that.

    Args:
        text: numbers separated by commas, and lines separated by line feeds.
        columns: numbers on each line.
    """
    rows = text.count(b"\n") + 1
    marks = text.translate(None, DIGITS + b"-")
    point = b"." if b"." in marks else b""
    if marks != ((b",".join([point] * columns) + b"\n") * rows)[:-1] or (b"-" in text and BAD_SIGN.search(text)):
        return None
    decimals = len(text) - 1 - text.rfind(b".") if point else 0
    if decimals > EXACT_POWER or (point and not _have_decimals(text, decimals, rows * columns - 1)):
        return None
    with warnings.catch_warnings():  # NumPy warns of text after the last number; the length check below finds it too
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text.translate(COMMAS, point), np.int64, sep=",")
        except ValueError:
            return None
    if len(values) != rows * columns or values.max() >= EXACT_WHOLE or values.min() <= -EXACT_WHOLE:
        return None
    return values.reshape(rows, columns) / 10**decimals


def _have_decimals(text: bytes, decimals: int, count: int) -> bool:
    """Returns whether `count` numbers end exactly `decimals` digits after their points."""
    symbols = np.frombuffer(text, np.uint8)
    ended = (symbols[: -decimals - 1] == ord(".")) & (symbols[decimals + 1 :] <= ord(","))
    return np.count_nonzero(ended) == count
