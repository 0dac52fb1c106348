"""Cuts a part out of a JPEG file without decoding it. The part decodes to exactly the pixels of the whole picture.

A sequential JPEG is coded by rows of blocks, and each block relative to the block before it. Two parts can be cut out:

- The top rows, since a decoder stops after the number of rows in the header.
- Any rectangle between restart markers, where coding starts afresh, if the markers come at the same places in each row
  of blocks. Few files have such markers; `python -m datamodules.prepare` adds them without loss.

Source: ITU-T T.81, B.1.1.3 (markers), B.2.2 (frame header), B.2.3 (scan header), B.2.4.4 (restart interval).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BEGIN, END, EXIF = b"\xff\xd8", b"\xff\xd9", b"Exif\0\0"
FILL, SCAN, INTERVAL, APP1, RESTART = 0xFF, 0xDA, 0xDD, 0xE1, 0xD0
SEQUENTIAL = (0xC0, 0xC1)  # Huffman-coded frames in one pass from top to bottom
OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
MAX_PIXELS = 1 << 27  # a larger picture is refused when it is decoded whole
MARGIN = 16  # pixels: the colour of a pixel depends on its neighbours, also in a picture that is decoded at 1/8
ZEROS = np.zeros(64, np.uint8)  # padding after the last row: decoders read ahead and warn of anything else


class JPEGLayout(NamedTuple):
    """What the headers of a JPEG file say about its coding.

    Attributes:
        height, width: of the picture, pixels.
        mcu_height, mcu_width: sides of an MCU, the unit of pixels that are coded together.
        restart_interval: MCUs between two restart markers; 0 for no markers.
        size_offset: byte offset of the height and width in the header.
        start, end: byte offsets of the coded picture.
    """

    height: int
    width: int
    mcu_height: int
    mcu_width: int
    restart_interval: int
    size_offset: int
    start: int
    end: int


class Rectangle(NamedTuple):
    """Pixels of a picture; `right` and `bottom` are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


def read_layout(data: bytes) -> JPEGLayout | None:
    """Returns the layout of a JPEG file, or None if the file must be decoded whole.

    These must be decoded whole: other formats than JPEG, several scans, more than 8 bits, a missing end, and any EXIF
    data, which may ask for a rotation.
    """
    frame, size_offset, interval = b"", 0, 0
    for marker, start, segment in _segments(data):
        if marker in OTHER_FRAMES or (marker == APP1 and segment.startswith(EXIF)):
            return None
        if marker in SEQUENTIAL:
            frame, size_offset = segment, start + 1
        elif marker == INTERVAL:
            interval = int.from_bytes(segment)
        elif marker == SCAN:
            end = data.rfind(END, start)
            return (
                _layout(frame, interval, size_offset, start + len(segment), end) if segment[:1] == frame[5:6] else None
            )
    return None


def whole_reason(data: bytes) -> str:
    """Returns why a file must be decoded whole: the reason for which `read_layout` returns None, in words."""
    for marker, _, segment in _segments(data):
        if marker == APP1 and segment.startswith(EXIF):
            return "EXIF data, which may turn the picture"
        if marker in OTHER_FRAMES:
            return {0xC2: "progressive", 0xC9: "arithmetic coding", 0xCA: "arithmetic coding"}.get(
                marker, "a rare coding"
            )
        if marker in SEQUENTIAL and segment[5:6] == b"\4":
            return "CMYK"
    return "damaged, cut off, or no JPEG"


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yields the segments of a file up to the first scan: marker, byte offset of the content, and content."""
    at = 2
    while data[:2] == BEGIN and data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        yield marker, at + 4, data[at + 4 : at + 2 + length]
        if marker == SCAN:
            return
        at += 1 if marker == FILL else 2 + length


def _layout(frame: bytes, interval: int, size_offset: int, start: int, end: int) -> JPEGLayout | None:
    factors = frame[7::3]
    if len(factors) not in (1, 3) or len(frame) != 6 + 3 * len(factors) or frame[0] != 8 or end < start:
        return None
    if len(factors) == 1:
        factors = b"\x11"  # a single component is coded block by block, whatever its factors say (A.2.2)
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    mcu_height, mcu_width = 8 * max(f & 15 for f in factors), 8 * max(f >> 4 for f in factors)
    if not height * width * mcu_height * mcu_width or height * width > MAX_PIXELS:
        return None
    return JPEGLayout(height, width, mcu_height, mcu_width, interval, size_offset, start, end)


def cut_jpeg(data: bytes, layout: JPEGLayout, wanted: Rectangle) -> tuple[np.ndarray, Rectangle]:
    """Cuts the smallest part out of a file that holds the wanted pixels.

    Args:
        data: the whole file.
        layout: layout of the file.
        wanted: pixels inside of the picture that must be exact.

    Returns:
        The part as a JPEG file, (n,) uint8, and its place in the whole picture. A file with damaged restart markers
        comes back whole.
    """
    file = np.frombuffer(data, np.uint8)
    across, down = -(-layout.width // layout.mcu_width), -(-layout.height // layout.mcu_height)
    interval = layout.restart_interval or across * down
    marks = _restart_markers(file, layout)
    if len(marks) - 1 != -(-across * down // interval):  # damaged
        return file, Rectangle(0, 0, layout.width, layout.height)
    above, below = _covering_units(wanted.top, wanted.bottom, layout.mcu_height, layout.height)
    bottom, after = min(layout.height, below * layout.mcu_height), file[layout.end :]
    if across % interval == 0:
        width, pieces = interval * layout.mcu_width, across // interval
        first, last = _covering_units(wanted.left, wanted.right, width, layout.width)
        coded = _join_intervals(file, np.arange(above, below)[:, None] * pieces + np.arange(first, last), marks)
        part = Rectangle(first * width, above * layout.mcu_height, min(layout.width, last * width), bottom)
    else:
        coded = file[layout.start : marks[-(-below * across // interval)]]
        part = Rectangle(0, 0, layout.width, bottom)
        if bottom < layout.height:
            after = ZEROS
    result = np.concatenate([file[: layout.start], coded, after])
    size = np.array([part.bottom - part.top, part.right - part.left], ">u2")
    result[layout.size_offset : layout.size_offset + 4] = size.view(np.uint8)
    return result, part


def _covering_units(low: int, high: int, unit: int, length: int) -> tuple[int, int]:
    """Returns the first and the end of the units that cover the pixels `low` to `high` of `length`, and a margin."""
    return max(0, low - MARGIN) // unit, -(-min(length, high + MARGIN) // unit)


def _restart_markers(file: np.ndarray, layout: JPEGLayout) -> np.ndarray:
    """Returns the byte offsets of the start of the coded picture (less 2), of its restart markers, and of its end."""
    if layout.restart_interval:
        at = np.flatnonzero(file[layout.start : layout.end] == FILL) + layout.start
    else:
        at = np.empty(0, int)
    at = at[file[at + 1] // 8 == RESTART // 8]  # other bytes after 0xFF are picture data
    return np.concatenate([[layout.start - 2], at, [layout.end]])


def _join_intervals(file: np.ndarray, intervals: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Joins the restart intervals with the numbers (rows, columns); the markers between them count from 0 again."""
    rows = [file[marks[row[0]] : marks[row[-1] + 1]] for row in intervals]
    before = np.cumsum([0, *(len(row) for row in rows[:-1])])
    at = (marks[intervals] - marks[intervals[:, :1]] + before[:, None]).ravel()
    joined = np.concatenate(rows)
    joined[at], joined[at + 1] = FILL, RESTART + (np.arange(len(at)) - 1) % 8
    return joined[2:]
