"""A frame for training crops. It decodes only the region that its crops show, no finer than they show it."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from datamodules.frames.jpeg import JPEGLayout, Rectangle, cut_jpeg, read_layout
from datamodules.frames.pictures import decode_picture
from trackers.crops import DecodedRegion, Window

# OpenCV skips most of the inverse DCT. A pixel of a reduced picture is about the mean of the pixels that it replaces.
IMREAD_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def largest_reduction(side: float, size: int) -> int:
    """Returns the largest reduction that leaves a window of `side` pixels at least as large as its crop, `size`."""
    return max(r for r in IMREAD_FLAGS if r == 1 or side / r >= size)


class Frame:
    """A picture that is decoded after all its crops have asked for their windows.

    Args:
        path: the file. Only sequential JPEG can be decoded in part.
        read_whole: decodes all of it, RGB (H, W, 3) uint8; raises UnreadableFrameError.
    """

    def __init__(self, path: Path, read_whole: Callable[[], np.ndarray]):
        self._read_whole = read_whole
        try:
            self._data = path.read_bytes()
        except OSError:
            self._data = b""  # a video file, or missing: `read_whole` decides
        self._layout = read_layout(self._data)
        self._requests: list[tuple[Rectangle, int]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole picture, (H, W, 3).

        Raises:
            UnreadableFrameError: the picture cannot be read.
        """
        return (self._layout.height, self._layout.width, 3) if self._layout else self.decoded_region.shape

    def request_window(self, window: Window, reduction: int) -> None:
        """Asks for the window of a crop, in whole pixels, at 1/`reduction` of the resolution or finer."""
        top, bottom = _clip_to(self.shape[0], window.top, window.side)
        left, right = _clip_to(self.shape[1], window.left, window.side)
        self._requests.append((Rectangle(left, top, right, bottom), reduction))

    @cached_property
    def decoded_region(self) -> DecodedRegion:
        """The decoded region, RGB: it covers all requested windows. Without a request it is the whole picture.

        Raises:
            UnreadableFrameError: the picture cannot be read.
        """
        part = self._decode_part(self._layout) if self._layout and self._requests else None
        return part or DecodedRegion.wrap(self._read_whole())

    def _decode_part(self, layout: JPEGLayout) -> DecodedRegion | None:
        lefts, tops, rights, bottoms = zip(*(rectangle for rectangle, _ in self._requests), strict=True)
        reduction = min(r for _, r in self._requests)
        wanted = Rectangle(min(lefts), min(tops), max(rights), max(bottoms))
        file, place = cut_jpeg(self._data, layout, wanted)
        pixels = decode_picture(file, IMREAD_FLAGS[reduction])
        if pixels is None:
            return None
        if reduction > 1:
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        return DecodedRegion(pixels, self.shape, place.left, place.top, reduction)


def _clip_to(length: int, start: float, side: float) -> tuple[int, int]:
    """Returns the first pixel and the end of a window within `length`. A window outside gives the nearest pixel."""
    first = min(max(int(start), 0), length - 1)
    return first, min(max(int(start + side), first + 1), length)
