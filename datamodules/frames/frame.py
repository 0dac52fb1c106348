"""A frame on its way to training crops: no more of it is decoded than they show, and no finer than they show it."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from datamodules.frames.jpeg import Rectangle, excerpt, layout
from trackers.crops import DecodedRegion, Window

REDUCED = {  # leave out most of the inverse DCT; a pixel becomes about the mean of those that it stands for
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def reduction(side: float, size: int) -> int:
    """The largest that leaves a window of `side` pixels at least the `size` of its crop."""
    return max(r for r in REDUCED if r == 1 or side / r >= size)


class Frame:
    """A picture that is decoded when all its crops have said what they need of it.

    Args:
        path: of its file. Only sequential JPEG can be decoded in part.
        whole: decodes all of it, (H, W, 3) uint8, or raises UnreadableFrameError.
    """

    def __init__(self, path: Path, whole: Callable[[], np.ndarray]):
        self._whole = whole
        try:
            self._data = path.read_bytes()
        except OSError:
            self._data = b""  # `whole` knows what it is
        self._layout = layout(self._data)
        self._needs: list[tuple[Rectangle, int]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole picture, (H, W, 3).

        Raises:
            UnreadableFrameError: it cannot be read.
        """
        return (self._layout.height, self._layout.width, 3) if self._layout else self.part.shape

    def need(self, window: Window, reduction: int) -> None:
        """Says that a crop shows a window, in whole pixels, and that its picture may be smaller by `reduction`."""
        top, bottom = _inside(window.top, window.side, self.shape[0])
        left, right = _inside(window.left, window.side, self.shape[1])
        self._needs.append((Rectangle(left, top, right, bottom), reduction))

    @cached_property
    def part(self) -> DecodedRegion:
        """What crops need, RGB; all if they said nothing.

        Raises:
            UnreadableFrameError: it cannot be read.
        """
        return (self._layout and self._needs and self._decoded()) or DecodedRegion.of(self._whole())

    def _decoded(self) -> DecodedRegion | None:
        lefts, tops, rights, bottoms = zip(*(place for place, _ in self._needs), strict=True)
        reduction = min(r for _, r in self._needs)
        file, place = excerpt(self._data, self._layout, Rectangle(min(lefts), min(tops), max(rights), max(bottoms)))
        pixels = cv2.imdecode(file, REDUCED[reduction])
        if pixels is None:
            return None
        if reduction > 1:
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        return DecodedRegion(pixels, self.shape, place.left, place.top, reduction)


def _inside(start: float, side: float, length: int) -> tuple[int, int]:
    """The pixels of a window that lie within `length`, or the nearest one: the first, and the end."""
    first = min(max(int(start), 0), length - 1)
    return first, min(max(int(start + side), first + 1), length)
