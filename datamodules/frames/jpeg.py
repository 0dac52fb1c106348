"""A part of a JPEG picture without decoding all of it, the same to the bit as in the whole picture.

A sequential JPEG is coded row of blocks by row of blocks, each block relative to the one before. What can be had alone:

- The top, since a decoder stops after as many rows as the file says that there are.
- Any rectangle of what lies between restart markers, after which coding begins afresh, if they come at the same places
  in each row of blocks. Few files have such markers; `jpegtran -copy all -restart 8B` puts them in without any loss.

What stands where: ITU-T T.81, B.1.1.3 (markers), B.2.2 (frame header), B.2.3 (scan header), B.2.4.4 (restart interval).
"""

from typing import NamedTuple

import numpy as np

BEGIN, END = b"\xff\xd8", b"\xff\xd9"
FILL, SCAN, INTERVAL, APP1, RESTART = 0xFF, 0xDA, 0xDD, 0xE1, 0xD0
SEQUENTIAL = (0xC0, 0xC1)  # frames that are Huffman coded, once from top to bottom
OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
MARGIN = 16  # pixels; colours depend on their neighbours, of a picture that is decoded at 1/8 too
ZEROS = np.zeros(64, np.uint8)  # may follow on the last row: decoders read ahead, and complain of anything else


class Layout(NamedTuple):
    """What the headers of a file say of a picture.

    Attributes:
        height, width: of the picture.
        rows, columns: pixels that are coded together: the sides of an MCU.
        interval: MCUs between two restart markers; 0 for none.
        place: where height and width are written.
        start, end: of the coded picture.
    """

    height: int
    width: int
    rows: int
    columns: int
    interval: int
    place: int
    start: int
    end: int


class Rectangle(NamedTuple):
    """Pixels of a picture; `right` and `bottom` are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


def layout(data: bytes) -> Layout | None:
    """Reads the headers of a file; None if it must be decoded whole.

    That is anything but JPEG, and a picture in several scans, of more than 8 bits, or to be turned, as EXIF may say.
    """
    at, frame, place, interval = 2, b"", 0, 0
    while data[:2] == BEGIN and data[at : at + 1] == b"\xff":
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        segment = data[at + 4 : at + 2 + length]
        if marker in OTHER_FRAMES or (marker == APP1 and segment.startswith(b"Exif\0\0")):
            return None
        if marker in SEQUENTIAL:
            frame, place = segment, at + 5
        elif marker == INTERVAL:
            interval = int.from_bytes(segment)
        elif marker == SCAN:
            start, end = at + 2 + length, data.rfind(END, at)
            return _layout(frame, interval, place, start, end) if segment[:1] == frame[5:6] else None
        at += 1 if marker == FILL else 2 + length
    return None


def _layout(frame: bytes, interval: int, place: int, start: int, end: int) -> Layout | None:
    factors = frame[7::3]
    if len(factors) not in (1, 3) or len(frame) != 6 + 3 * len(factors) or frame[0] != 8 or end < start:
        return None
    if len(factors) == 1:
        factors = b"\x11"  # coded block by block, whatever they say (A.2.2)
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    rows, columns = 8 * max(f & 15 for f in factors), 8 * max(f >> 4 for f in factors)
    if not height * width * rows * columns:
        return None
    return Layout(height, width, rows, columns, interval, place, start, end)


def excerpt(data: bytes, of: Layout, wanted: Rectangle) -> tuple[np.ndarray, Rectangle]:
    """A file of a part of a picture.

    Args:
        data: the whole file.
        of: its layout.
        wanted: pixels that have to be right, inside of the picture.

    Returns:
        The file as (n,) uint8, and what part of the picture its picture is.
    """
    file = np.frombuffer(data, np.uint8)
    across, down = -(-of.width // of.columns), -(-of.height // of.rows)
    interval = of.interval or across * down
    marks = _marks(file, of)
    if len(marks) - 1 != -(-across * down // interval):  # damaged
        return file, Rectangle(0, 0, of.width, of.height)
    above, below = _covered(wanted.top, wanted.bottom, of.rows, of.height)
    bottom, after = min(of.height, below * of.rows), file[of.end :]
    if across % interval == 0:
        width, pieces = interval * of.columns, across // interval
        first, last = _covered(wanted.left, wanted.right, width, of.width)
        coded = _joined(file, np.arange(above, below)[:, None] * pieces + np.arange(first, last), marks)
        part = Rectangle(first * width, above * of.rows, min(of.width, last * width), bottom)
    else:
        coded = file[of.start : marks[-(-below * across // interval)]]
        part = Rectangle(0, 0, of.width, bottom)
        if bottom < of.height:
            after = ZEROS
    made = np.concatenate([file[: of.start], coded, after])
    made[of.place : of.place + 4] = np.array([part.bottom - part.top, part.right - part.left], ">u2").view(np.uint8)
    return made, part


def _covered(low: int, high: int, unit: int, length: int) -> tuple[int, int]:
    """Which units of a side of `length` pixels contain pixels `low` to `high` and some around: first, and end."""
    return max(0, low - MARGIN) // unit, -(-min(length, high + MARGIN) // unit)


def _marks(file: np.ndarray, of: Layout) -> np.ndarray:
    """Where restart markers are, and before and after them the ends of what is coded."""
    at = np.flatnonzero(file[of.start : of.end] == FILL) + of.start if of.interval else np.empty(0, int)
    at = at[file[at + 1] // 8 == RESTART // 8]  # all others belong to what is coded
    return np.concatenate([[of.start - 2], at, [of.end]])


def _joined(file: np.ndarray, intervals: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Intervals (rows, columns) of what is coded, with restart markers between them that count from 0 again."""
    rows = [file[marks[row[0]] : marks[row[-1] + 1]] for row in intervals]
    before = np.cumsum([0, *(len(row) for row in rows[:-1])])
    at = (marks[intervals] - marks[intervals[:, :1]] + before[:, None]).ravel()
    joined = np.concatenate(rows)
    joined[at], joined[at + 1] = FILL, RESTART + (np.arange(len(at)) - 1) % 8
    return joined[2:]
