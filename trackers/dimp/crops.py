"""Pixels and windows of SuperDiMP's crops. Windows are moved into the picture, and the picture's border is repeated."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from trackers.crops import Box, DecodedRegion, Window
from trackers.errors import TrackerError


class Patch(NamedTuple):
    """Low and high corner of a patch before it is resized, each (row, column) in pixels."""

    low: tuple[int, int]
    high: tuple[int, int]


def reference_crop(
    image: np.ndarray,
    centre: tuple[float, float],
    side: float,
    size: int,
    inside: float | None,
    first: bool = False,
) -> tuple[np.ndarray, Window]:
    """Returns the crop in which the original looks for its target, and the window that the original reports for it.

    A large window is subsampled, and its reported position is off by up to half a sampling step. The window of the
    first frame is reported with the wanted side and not with the side that was cut.

    Args:
        image: (H, W, 3) uint8.
        centre: (x, y) of the wanted window in pixels; pixel `i` reaches from `i` to `i + 1`.
        side: side of the wanted window in pixels.
        size: side of the crop in pixels.
        inside: largest factor by which the window may shrink to the picture into which it is moved; None leaves the
            window where it is.
        first: whether this is the crop of the first frame, which is cut around the nearest pixel and never moved.

    Returns:
        The crop (size, size, 3) float32, 0 to 255, and the reported window.

    Raises:
        TrackerError: the side is not a finite positive number, or the centre is not finite.
    """
    if not (0 < side < math.inf and all(math.isfinite(c) for c in centre)):
        raise TrackerError(f"cannot crop {side} pixels around {centre}: both must be finite and the side positive")
    position = (centre[1] - 0.5, centre[0] - 0.5)  # the original counts from the centre of the first pixel
    if first:
        position, inside = (round(position[0]), round(position[1])), None
    pixels, patch = cut_patch(image, position, (side, side), (size, size), inside)
    if first:
        return pixels, Window(position[1] + 0.5 - side / 2, position[0] + 0.5 - side / 2, side)
    top, left = patch.low
    return pixels, Window(float(left), float(top), float(patch.high[0] - patch.low[0]))


def cut_patch(
    image: np.ndarray,
    position: tuple[float, float],
    sides: tuple[float, float],
    sizes: tuple[int, int],
    inside: float | None,
) -> tuple[np.ndarray, Patch]:
    """Cuts and resizes a patch (`sample_patch` with integer division, as when the official weights were trained).

    Args:
        image: (H, W, 3) uint8.
        position: (row, column) of the centre pixel.
        sides: rows and columns of the window in pixels. They are rounded to single precision, as in the original.
        sizes: rows and columns of the result.
        inside: see `reference_crop`.

    Returns:
        The patch (rows, columns, 3) float32, 0 to 255, and its corners in the picture.
    """
    wanted = np.asarray(sides, np.float32)
    if inside is not None:
        shrink = (wanted / np.asarray(image.shape[:2], np.float32)).min().clip(1, np.float32(inside))
        wanted = np.trunc(wanted / shrink)
    # A window of at least twice the size of the result is subsampled before it is resized.
    step = max(int(float((wanted / np.asarray(sizes, np.float32)).min()) - 0.1), 1)
    spans, offsets = [], []
    for at, side, length in zip(
        np.asarray(position, np.float32), wanted / np.float32(step), image.shape[:2], strict=True
    ):
        at = int(at)
        offset = min(at % step, length - 1)  # else a position outside of the picture would miss every pixel
        at, count = (at - offset) // step, max(round(float(side)), 2)
        start = at - (count - 1) // 2
        spans.append((start if inside is None else _moved_inside(start, count, -(-(length - offset) // step)), count))
        offsets.append(offset)
    thinned = image[offsets[0] :: step, offsets[1] :: step]
    pixels = cv2.resize(_replicated(thinned, *spans).astype(np.float32), sizes[::-1])
    low = tuple(start * step for start, _ in spans)
    high = tuple((start + count) * step for start, count in spans)
    return pixels, Patch(low, high)


def training_window(
    shape: tuple[int, ...],
    box: Box,
    factor: float,
    size: int,
    inside: float | None,
    compat: str,
    moved: bool = True,
) -> Window:
    """Returns the window, in whole pixels, of the crop from which a tracker learns (`sample_target_adaptive`).

    Unlike the window of `reference_crop` it is moved into the picture even if it may not shrink.

    Args:
        shape: (H, W, ...) of the picture.
        box: the jittered box, xywh in pixels.
        factor: side of the window over the box's mean side sqrt(w * h).
        size: side of the crop in pixels.
        inside: largest factor by which the window may shrink to the picture; None for no shrinking.
        compat: see `training_side`.
        moved: False leaves the window around the box.

    Raises:
        TrackerError: the box has no area.
    """
    x, y, w, h = (float(v) for v in box)
    if not (w > 0 and h > 0 and math.isfinite(x + y + w + h)):
        raise TrackerError(f"cannot crop around the box {(x, y, w, h)}: its width and height must be positive")
    side = training_side(w, h, factor, size, compat)
    if inside is not None:
        shrink = (np.float32(side) / np.asarray(shape[:2], np.float32)).min().clip(1, np.float32(inside))
        side = max(math.floor(np.float32(side) / shrink), 1)
    top, left = (
        _moved_inside(round(middle - side / 2), side, length) if moved else round(middle - side / 2)
        for middle, length in zip((y + h / 2, x + w / 2), shape[:2], strict=True)
    )
    return Window(float(left), float(top), float(side))


def replicated_crop(image: np.ndarray | DecodedRegion, window: Window, size: int, compat: str) -> np.ndarray:
    """Returns the pixels of a window, (size, size, 3) uint8. Outside of the picture, its border is repeated.

    Args:
        image: (H, W, 3) uint8.
        window: in whole pixels.
        size: side of the crop in pixels.
        compat: "reference" shows copies of their neighbours in place of the picture's last row and column where the
            window reaches them, as the original does. It has no effect on a reduced picture, since each of its rows
            stands for several rows. "exact" shows every row and column.
    """
    region = DecodedRegion.wrap(image)
    if region.reduction > 1:
        return region.resampled(window, size, cv2.BORDER_REPLICATE)
    left, top, side = (int(v) for v in window)
    lost = compat == "reference" and min(region.shape[:2]) > 1
    return cv2.resize(_replicated(region, (top, side), (left, side), lost), (size, size))


def training_side(w: float, h: float, factor: float, size: int, compat: str) -> int:
    """Returns the side in pixels of the window around a box of w x h, before it is fitted to the picture.

    With compat="reference" the side is computed in single precision, which may add a pixel.
    """
    if compat == "exact":
        return math.ceil(factor * math.sqrt(w * h))
    share = np.float32(w) * np.float32(h) / np.float32(size * size)
    return math.ceil(factor * size * math.sqrt(share))


def _moved_inside(start: int, count: int, length: int) -> int:
    """Returns the first of `count` pixels after they are moved into a picture of `length` pixels.

    If `count` is larger than `length`, the picture lies in the middle of these pixels.
    """
    start += max(0, -start) - max(0, start + count - length)
    outside = (max(0, -start) + max(0, start + count - length)) // 2
    return -outside if outside > 0 else start


def _replicated(
    image: np.ndarray | DecodedRegion, rows: tuple[int, int], columns: tuple[int, int], lost: int = 0
) -> np.ndarray:
    """Returns the pixels (rows, columns, 3) of a window. Outside of the picture, its border is repeated.

    Args:
        image: picture (H, W, 3) or a decoded region of it.
        rows, columns: (start, count) of the window.
        lost: number of last rows and columns of the picture that are treated as outside of it.
    """
    spans, margins = [], []
    for (start, count), length in zip((rows, columns), image.shape[:2], strict=True):
        length -= lost
        first, last = min(max(start, 0), length - 1), min(max(start + count, 1), length)
        before = min(max(0, -start), count - 1)  # even a window far outside shows at least one pixel
        spans.append(slice(first, last))
        margins += [before, count - before - (last - first)]
    top, bottom, left, right = margins
    pixels = image[tuple(spans)]
    return cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_REPLICATE) if any(margins) else pixels
