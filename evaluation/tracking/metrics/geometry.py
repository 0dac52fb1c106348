"""Overlaps of and distances between paired boxes: xywh in pixels, (n, 4) each, with one result for each pair, (n,).

The toolkits write the same mathematics in different orders. Rounding then differs in the last bit, and strict
thresholds make the difference visible: one toolkit counts a box on a threshold and another does not. So the order of
the operations is part of each formula.
"""

import numpy as np

EPSILON = np.finfo(float).eps


def intersection_and_union(a: np.ndarray, b: np.ndarray, pixel: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns both areas.

    Args:
        a, b: the boxes.
        pixel: subtracted from the far edges and added to the sides again. This changes nothing but the rounding.
    """
    x, y, w, h = a.T
    p, q, u, v = b.T
    across = (np.minimum(x + w - pixel, p + u - pixel) - np.maximum(x, p) + pixel).clip(0)
    down = (np.minimum(y + h - pixel, q + v - pixel) - np.maximum(y, q) + pixel).clip(0)
    intersection = across * down
    return intersection, w * h + u * v - intersection


def overlaps(a: np.ndarray, b: np.ndarray, size: np.ndarray | tuple[float, float] | None = None) -> np.ndarray:
    """Returns the IoU in [0, 1], computed like in the got10k toolkit.

    Args:
        a, b: the boxes.
        size: (width, height) of the picture, or of the picture of each pair, (n, 2). Both boxes are clipped to it. None
            clips nothing.
    """
    if size is not None:
        a, b = clip_boxes(a, size), clip_boxes(b, size)
    intersection, union = intersection_and_union(a, b)
    return (intersection / (union + EPSILON)).clip(0, 1)


def clip_boxes(boxes: np.ndarray, size: np.ndarray | tuple[float, float]) -> np.ndarray:
    """Clips boxes to a picture of `size` (width, height), like the protocol of GOT-10k.

    A box that begins left of the picture or above it is moved into the picture, and its size is not reduced by the part
    that was outside.
    """
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, np.asarray(size) - corner)], 1)


def centers(boxes: np.ndarray) -> np.ndarray:
    """Returns the centres (n, 2): the middle between the first and the last pixel of each box."""
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def distances(a: np.ndarray, b: np.ndarray | float = 0) -> np.ndarray:
    """Returns the Euclidean distances between paired points, (n, 2) each."""
    x, y = (a - b).T
    return np.sqrt(x * x + y * y)
