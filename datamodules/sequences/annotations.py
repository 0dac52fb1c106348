"""Text files of numbers as data sets and toolkits write them: each is understood, or refused with its line."""

import re
import warnings
from pathlib import Path

import numpy as np

from datamodules.sequences.fixed_point import fixed_point_table

NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
NAN = re.compile(rb"nan", re.IGNORECASE)
CHARACTERS = b"0123456789+-.eE,\n"
BLANKS = b" \t"


class DataError(ValueError):
    """A data set or a result that is missing, incomplete or inconsistent."""


def read_numbers(path: Path, columns: int, nan: bool = False) -> np.ndarray:
    """A table of numbers, (lines, columns) float64; (0, columns) of an empty file.

    Numbers are separated by commas, with blanks around them or not, or by blanks or tabs; lines end in any of the usual
    ways, and there may be empty ones at the end.

    Args:
        path: of the file.
        columns: numbers a line.
        nan: whether they may be NaN.

    Raises:
        DataError: names the file and its first line that holds anything else.
    """
    text = _canonical(_bytes(path))
    table = _parsed(text, columns, nan)
    if table is None:
        raise DataError(
            f"{path} must hold {columns} {'' if nan else 'finite '}number(s) a line; {_fault(text, columns, nan)}"
        )
    return table


def read_labels(path: Path, count: int, most: int = 1) -> np.ndarray:
    """A whole number from 0 to `most` a frame, (count,) int64: on one line, separated by commas, or on a line each.

    Raises:
        DataError: the file holds something else, or not so many.
    """
    text = _canonical(_bytes(path)).replace(b"\n", b",").rstrip(b",")
    table = _parsed(text.replace(b",", b"\n"), 1, nan=False)
    if table is None or not np.isin(table, np.arange(most + 1)).all():
        raise DataError(f"{path} must hold whole numbers from 0 to {most}, on one line or on a line each")
    if len(table) != count:
        raise DataError(f"{path} has {len(table)} labels for {count} annotated frames: the copy is incomplete")
    return table[:, 0].astype(np.int64)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the copy of this sequence is incomplete") from None


def _canonical(text: bytes) -> bytes:
    """Commas between numbers, line feeds between lines, and nothing else."""
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(BLANKS + b"\n")
    if b" " not in text and b"\t" not in text:
        return text
    return b"\n".join(_without_blanks(line) for line in text.split(b"\n"))


def _without_blanks(line: bytes) -> bytes:
    """A line of either kind; what mixes them keeps its blanks, and is refused."""
    if b"," in line:
        return b",".join(part.strip(BLANKS) for part in line.split(b","))
    return b",".join(part for part in line.replace(b"\t", b" ").split(b" ") if part)


def _parsed(text: bytes, columns: int, nan: bool) -> np.ndarray | None:
    """The table, or None if there is anything but numbers or not `columns` a line."""
    if not text:
        return np.empty((0, columns))
    if (table := fixed_point_table(text, columns)) is not None:
        return table
    if text.translate(None, CHARACTERS + (b"nNaA" if nan else b"")):
        return None
    symbols = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(symbols == ord("\n"))
    commas = np.cumsum(symbols == ord(","))
    if (np.diff(commas[ends], prepend=0, append=commas[-1]) != columns - 1).any():
        return None
    with warnings.catch_warnings():  # of text that is not read to its end: its length tells
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text.replace(b"\n", b","), sep=",")
        except ValueError:
            return None
    whole = len(values) == columns * (len(ends) + 1) and not np.isinf(values).any()
    return values.reshape(-1, columns) if whole else None


def _fault(text: bytes, columns: int, nan: bool) -> str:
    """The first line that is not as it should be, for a message."""
    for i, line in enumerate(text.split(b"\n"), 1):
        fields = line.split(b",")
        numbers = [NUMBER.fullmatch(f) or (nan and NAN.fullmatch(f)) for f in fields]
        if len(fields) != columns or not all(numbers) or any(np.isinf(float(f)) for f in fields):
            return f"line {i} is {line.decode(errors='replace')!r}"
    return "its lines end oddly"
