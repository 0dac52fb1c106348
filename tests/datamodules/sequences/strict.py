"""Generates damaged annotations, and parses them field by field: a slow and simple reference for the fast parsers."""

import math
import re

from hypothesis import strategies as st

SIGNS = '0 1 42 . , - + e E n nan NaN _ x inf 1e999 1_000 0x10 ; # " \u0663 \uff0c \u2212'
SPACES = [b" ", b"\t", b"\n", b"\r\n", b"\r", b"\0", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xef\xbb\xbf"]
SYMBOLS = [sign.encode() for sign in SIGNS.split()] + SPACES
NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Generates a valid text with up to three characters removed, repeated, inserted or replaced."""
    text = draw(valid)
    for _ in range(draw(st.integers(0, 3))):
        at, symbol = draw(st.integers(0, len(text))), draw(st.sampled_from(SYMBOLS))
        rest = draw(
            st.sampled_from([text[at:], symbol + text[at:], text[at + 1 :], symbol + text[at + 1 :], text[at - 1 :]])
        )
        text = text[:at] + rest
    return text


def strict_numbers(text: bytes, columns: int, nan: bool = False) -> list[list[float]] | None:
    """Returns the rows of a text, or None unless each line holds `columns` finite numbers (or NaN)."""
    rows = []
    for line in _lines(text):
        row = [_number(field, nan) for field in _fields(line)]
        if len(row) != columns or None in row:
            return None
        rows.append(row)
    return rows


def strict_labels(text: bytes, count: int, highest: int) -> list[int] | None:
    """Returns all fields of all lines, or None unless they are `count` whole numbers from 0 to `highest`.

    Empty fields at the end are ignored.
    """
    fields = [field for line in _lines(text) for field in (_fields(line) or [b""])]
    while fields and not fields[-1]:
        fields.pop()
    labels = [_number(field, nan=False) for field in fields]
    return labels if len(labels) == count and all(label in range(highest + 1) for label in labels) else None


def strict_vatic(text: bytes) -> list[list[float]] | None:
    """Returns the xywh boxes of a VATIC text, or None if it is damaged."""
    boxes = []
    for line in _lines(text):
        numbers, quote, label = line.strip().partition(b'"')
        fields = _fields(numbers)
        if len(fields) != 9 or not quote or b'"' not in label or not numbers.endswith((b" ", b"\t")) or b"," in numbers:
            return None
        if not all(re.fullmatch(rb"-?[0-9]+", f) for f in fields) or not set(fields[6:]) <= {b"0", b"1"}:
            return None
        if fields[0].startswith(b"-") or fields[5].startswith(b"-"):
            return None
        left, top, right, bottom = map(float, fields[1:5])
        boxes.append([left, top, right - left, bottom - top])
    return boxes


def _lines(text: bytes) -> list[bytes]:
    lines = re.split(rb"\r\n|\r|\n", text.removeprefix(b"\xef\xbb\xbf"))
    while lines and not lines[-1].strip(b" \t"):
        lines.pop()
    return lines


def _fields(line: bytes) -> list[bytes]:
    return [part.strip(b" \t") for part in line.split(b",")] if b"," in line else re.findall(rb"[^ \t]+", line)


def _number(field: bytes, nan: bool) -> float | None:
    if nan and re.fullmatch(rb"[+-]?nan", field, re.IGNORECASE):
        return math.nan
    return float(field) if NUMBER.fullmatch(field) and math.isfinite(float(field)) else None
