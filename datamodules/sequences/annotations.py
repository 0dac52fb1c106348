"""Readers of text files: annotations, results of toolkits, lists of names. A file is read exactly or refused."""

import codecs
import re
import warnings
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, IncompleteSequenceError
from datamodules.sequences.fixed_point import fixed_point_table

NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
NAN = re.compile(rb"nan", re.IGNORECASE)
CHARACTERS = b"0123456789+-.eE,\n"
BLANKS = b" \t"
ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # by first bytes
SHOWN = 80  # characters of a bad line that a message shows


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file of names without the blanks around them. Empty lines are left out.

    The text is UTF-8, or UTF-16 with a byte order mark.

    Raises:
        DataError: the file is missing, cannot be read, or has another encoding.
    """
    content = read_bytes(path)
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is no UTF-8 text: line {number} holds {error.object[error.start]:#x}; save it as UTF-8"
        ) from None
    return [line.strip() for line in lines if line.strip()]


def read_numbers(path: Path, columns: int, nan: bool = False) -> np.ndarray:
    """Returns a table of numbers, (lines, columns) float64. An empty file gives (0, columns).

    Commas, blanks or tabs separate the numbers; blanks may surround a comma. Lines may end as on Unix, Windows or old
    Macs. Empty lines are allowed at the end of the file only.

    Args:
        path: text file.
        columns: numbers on each line.
        nan: whether NaN is allowed.

    Raises:
        DataError: the file is missing or a line holds anything else; the message names the first such line.
    """
    text = _normalize(read_bytes(path))
    table = _parse(text, columns, nan)
    if table is None:
        finite = "" if nan else "finite "
        problem = _first_bad_line(text, columns, nan)
        raise DataError(f"{path} must hold {columns} {finite}number(s) a line; {problem}")
    return table


def read_labels(path: Path, count: int, highest: int = 1) -> np.ndarray:
    """Returns a label for each frame, (count,) int64.

    Args:
        path: text file with all labels on one line, separated by commas, or with one label on each line.
        count: number of annotated frames.
        highest: labels are whole numbers from 0 to this one.

    Raises:
        DataError: the file is missing, holds something else, or holds another number of labels.
    """
    text = _normalize(read_bytes(path)).replace(b"\n", b",").rstrip(b",")
    table = _parse(text.replace(b",", b"\n"), 1, nan=False)
    if table is None or not np.isin(table, np.arange(highest + 1)).all():
        raise DataError(f"{path} must hold whole numbers from 0 to {highest}, all on one line or one on each line")
    if len(table) != count:
        raise DataError(f"{path} has {len(table)} labels for {count} annotated frames: the copy is incomplete")
    return table[:, 0].astype(np.int64)


def read_bytes(path: Path) -> bytes:
    """Returns the content of a text file without a byte order mark; UTF-16 with such a mark becomes UTF-8.

    Raises:
        IncompleteSequenceError: the file is missing.
        DataError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise IncompleteSequenceError(
            f"{path} is missing: the copy of this sequence is incomplete{_other_case(path)}"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), None)
    if encoding is None:
        return content
    try:
        return content.decode(encoding).encode()
    except UnicodeError:
        return content  # whoever parses the bytes says what is wrong with them


def _other_case(path: Path) -> str:
    """Returns words that name a file beside a missing one whose name differs in upper and lower case alone."""
    try:
        found = [file.name for file in path.parent.iterdir() if file.name.lower() == path.name.lower()]
    except OSError:
        found = []
    return f"; there is {found[0]}, so rename it" if found else ""


def _normalize(text: bytes) -> bytes:
    """Returns the text with commas between numbers, line feeds between lines, and no blanks."""
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(BLANKS + b"\n")
    if b" " not in text and b"\t" not in text:
        return text
    return b"\n".join(_normalize_line(line) for line in text.split(b"\n"))


def _normalize_line(line: bytes) -> bytes:
    """Returns a line with commas between numbers. A line with mixed separators keeps its blanks, so it is refused."""
    if b"," in line:
        return b",".join(part.strip(BLANKS) for part in line.split(b","))
    return b",".join(part for part in line.replace(b"\t", b" ").split(b" ") if part)


def _parse(text: bytes, columns: int, nan: bool) -> np.ndarray | None:
    """Returns the table of a normalized text, or None unless every line holds `columns` numbers and nothing else."""
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
    with warnings.catch_warnings():  # NumPy warns of text after the last number; the length check below finds it too
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text.replace(b"\n", b","), sep=",")
        except ValueError:
            return None
    complete = len(values) == columns * (len(ends) + 1) and not np.isinf(values).any()
    return values.reshape(-1, columns) if complete else None


def _first_bad_line(text: bytes, columns: int, nan: bool) -> str:
    """Returns words that name the first line of a normalized text that cannot be read."""
    for i, line in enumerate(text.split(b"\n"), 1):
        fields = line.split(b",")
        numbers = [NUMBER.fullmatch(f) or (nan and NAN.fullmatch(f)) for f in fields]
        if len(fields) != columns or not all(numbers) or any(np.isinf(float(f)) for f in fields):
            shown = line.decode(errors="replace")
            return f"line {i} is {shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'!r}"
    return "it cannot be read as numbers"
