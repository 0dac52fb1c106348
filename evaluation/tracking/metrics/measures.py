"""How far paired boxes, xywh in pixels, (n, 4) each, are from each other; a result a pair, (n,).

The toolkits write the same mathematics in different orders, which rounding and strict thresholds make visible: boxes
on a threshold are counted by one and not by another. So the order of the operations is part of each formula.
"""

import numpy as np

EPSILON = np.finfo(float).eps


def intersection_and_union(a: np.ndarray, b: np.ndarray, pixel: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Areas; `pixel` is taken from the far edges and given back to the sides, which rounds them differently."""
    x, y, w, h = a.T
    p, q, u, v = b.T
    across = (np.minimum(x + w - pixel, p + u - pixel) - np.maximum(x, p) + pixel).clip(0)
    down = (np.minimum(y + h - pixel, q + v - pixel) - np.maximum(y, q) + pixel).clip(0)
    intersection = across * down
    return intersection, w * h + u * v - intersection


def overlaps(a: np.ndarray, b: np.ndarray, size: np.ndarray | tuple[float, float] | None = None) -> np.ndarray:
    """IoU in [0, 1], as the got10k toolkit computes it.

    Args:
        a, b: the boxes.
        size: (width, height) of the picture, or of each (n, 2). Both boxes are clipped to it. What sticks out at the
            left or the top is shifted by this, not cropped: this is the protocol of GOT-10k. None clips nothing.
    """
    if size is not None:
        a, b = clipped(a, size), clipped(b, size)
    intersection, union = intersection_and_union(a, b)
    return (intersection / (union + EPSILON)).clip(0, 1)


def clipped(boxes: np.ndarray, size: np.ndarray | tuple[float, float]) -> np.ndarray:
    """Boxes within a picture of this (width, height); see `overlaps`."""
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, np.asarray(size) - corner)], 1)


def centers(boxes: np.ndarray) -> np.ndarray:
    """(n, 2), in the middle between the first and the last pixel."""
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def distances(a: np.ndarray, b: np.ndarray | float = 0) -> np.ndarray:
    """Of paired points, (n, 2) each."""
    x, y = (a - b).T
    return np.sqrt(x * x + y * y)
