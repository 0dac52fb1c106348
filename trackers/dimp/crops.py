"""SuperDiMP's crops: windows that move into the picture, with replicated borders, for tracking and for training."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from trackers.crops import Box, DecodedRegion, Window


class Patch(NamedTuple):
    """Where a patch of a picture begins and ends before it is resized, each as (row, column) in pixels."""

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
    """The crop in which the original looks for its target.

    Its window is told as the original does: a large one, of which not all pixels are read, lies up to half a step of
    these off, and that of the first frame has the wanted side and not its own.

    Args:
        image: (H, W, 3) uint8.
        centre: (x, y) of the wanted window in pixels; pixel `i` reaches from `i` to `i + 1`.
        side: of the wanted window in pixels.
        size: side of the crop in pixels.
        inside: by how much the window may shrink to the picture into which it is moved; None leaves it where it is.
        first: the patch of the first frame, which is cut around the nearest pixel and never moved.

    Returns:
        The crop (size, size, 3) float32, 0..255, and the window that it shows.

    Raises:
        ValueError: the window's side is not a positive number, or its centre is not a number.
    """
    if not (0 < side < math.inf and all(math.isfinite(c) for c in centre)):
        raise ValueError(f"cannot crop {side} pixels around {centre}: both must be finite and the side positive")
    position = (centre[1] - 0.5, centre[0] - 0.5)  # the original counts from the middle of the first pixel
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
        position: (row, column) of the pixel at the middle.
        sides: rows and columns of the window in pixels; single precision, which decides what is truncated.
        sizes: rows and columns of the result.
        inside: as in `reference_crop`.

    Returns:
        (rows, columns, 3) float32, 0..255, and what was cut.
    """
    wanted = np.float32(sides)
    if inside is not None:
        shrink = (wanted / np.float32(image.shape[:2])).min().clip(1, np.float32(inside))
        wanted = np.trunc(wanted / shrink)
    # Large windows are thinned out before they are resized, from twice the size on.
    step = max(int(float((wanted / np.float32(sizes)).min()) - 0.1), 1)
    places, offsets = [], []
    for at, side, length in zip(np.float32(position), wanted / np.float32(step), image.shape[:2], strict=True):
        at = int(at)
        offset = min(at % step, length - 1)  # a position outside must not miss every pixel
        at, count = (at - offset) // step, max(round(float(side)), 2)
        start = at - (count - 1) // 2
        places.append((start if inside is None else _moved(start, count, -(-(length - offset) // step)), count))
        offsets.append(offset)
    thinned = image[offsets[0] :: step, offsets[1] :: step]
    pixels = cv2.resize(_replicated(thinned, *places).astype(np.float32), sizes[::-1])
    low = tuple(start * step for start, _ in places)
    high = tuple((start + count) * step for start, count in places)
    return pixels, Patch(low, high)


def training_crop(
    image: np.ndarray | DecodedRegion,
    box: Box,
    factor: float,
    size: int,
    inside: float | None,
    compat: str,
    moved: bool = True,
) -> tuple[np.ndarray, Window]:
    """The crop around a box on which the tracker learns (`sample_target_adaptive`).

    Args:
        image: (H, W, 3) uint8.
        box: xywh in pixels; the jittered one.
        factor: side of the window over the box's mean side sqrt(w * h).
        size: side of the crop in pixels.
        inside: by how much the window may shrink to the picture; None is not at all.
        compat: "reference" computes the side in single precision, which may add a pixel, and shows copies of their
            neighbours in place of the picture's last row and column where the window reaches them, as the original
            (not of a reduced picture, of which they would be several); "exact" does neither.
        moved: False leaves the window around the box.

    Returns:
        The crop (size, size, 3) uint8, and the window that it shows.

    Raises:
        ValueError: the box has no area.
    """
    window = training_window(image.shape, box, factor, size, inside, compat, moved)
    part = DecodedRegion.of(image)
    if part.reduction > 1:
        return part.resampled(window, size, cv2.BORDER_REPLICATE), window
    left, top, side = (int(v) for v in window)
    lost = compat == "reference" and min(part.shape[:2]) > 1
    return cv2.resize(_replicated(part, (top, side), (left, side), lost), (size, size)), window


def training_window(
    shape: tuple[int, ...],
    box: Box,
    factor: float,
    size: int,
    inside: float | None,
    compat: str,
    moved: bool = True,
) -> Window:
    """The window of `training_crop` in a picture (H, W, ...), in whole pixels.

    Unlike that of the tracker it is moved into the picture even if it may not shrink.

    Raises:
        ValueError: the box has no area.
    """
    x, y, w, h = (float(v) for v in box)
    if not (w > 0 and h > 0 and math.isfinite(x + y + w + h)):
        raise ValueError(f"cannot crop around the box {(x, y, w, h)}: its width and height must be positive")
    side = training_side(w, h, factor, size, compat)
    if inside is not None:
        shrink = (np.float32(side) / np.float32(shape[:2])).min().clip(1, np.float32(inside))
        side = max(math.floor(np.float32(side) / shrink), 1)
    top, left = (
        _moved(round(middle - side / 2), side, length) if moved else round(middle - side / 2)
        for middle, length in zip((y + h / 2, x + w / 2), shape[:2], strict=True)
    )
    return Window(float(left), float(top), float(side))


def training_side(w: float, h: float, factor: float, size: int, compat: str) -> int:
    """Side in pixels of the window around a box of w x h, before it is fitted to the picture."""
    if compat == "exact":
        return math.ceil(factor * math.sqrt(w * h))
    share = np.float32(w) * np.float32(h) / np.float32(size * size)
    return math.ceil(factor * size * math.sqrt(share))


def _moved(start: int, count: int, length: int) -> int:
    """Where `count` pixels start so that they lie in a picture of `length`, or that in their middle."""
    start += max(0, -start) - max(0, start + count - length)
    outside = (max(0, -start) + max(0, start + count - length)) // 2
    return -outside if outside > 0 else start


def _replicated(
    image: np.ndarray | DecodedRegion, rows: tuple[int, int], columns: tuple[int, int], lost: int = 0
) -> np.ndarray:
    """A window by start and count along both axes; beyond the picture without its `lost` ends its border goes on."""
    spans, margins = [], []
    for (start, count), length in zip((rows, columns), image.shape[:2], strict=True):
        length -= lost
        first, last = min(max(start, 0), length - 1), min(max(start + count, 1), length)
        before = min(max(0, -start), count - 1)  # at least one pixel is taken, so also from far away
        spans.append(slice(first, last))
        margins += [before, count - before - (last - first)]
    return cv2.copyMakeBorder(np.ascontiguousarray(image[tuple(spans)]), *margins, cv2.BORDER_REPLICATE)
