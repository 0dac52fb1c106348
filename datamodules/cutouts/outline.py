"""Estimates which pixels of a picture belong to the thing in a box, with GrabCut.

Rother, Kolmogorov, Blake: "GrabCut", SIGGRAPH 2004; the implementation is OpenCV's.
"""

import cv2
import numpy as np

ROUNDS = 2  # of GrabCut; masks after 4 overlap with these by .99, and take 1.6 times as long (measured on 250 boxes)
CORE = 0.4  # width and height, over those of the box, of the ellipse in its middle that belongs to the thing for sure
CLOSEST = 0.8  # smallest overlap (IoU) of the box around the mask with the annotated box
FILLS = (0.2, 0.95)  # smallest and largest share of the box that a thing fills
HOLES = 0.01  # holes up to this share of the thing are filled: they are errors more often than holes


def find_mask(picture: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """Returns the mask (H, W) of the thing in a box, uint8 0 or 1; None if no mask fits the box.

    Args:
        picture: (H, W, 3) uint8.
        box: xyxy in pixels. Around it the picture shows background.
    """
    left, top, right, bottom = np.rint(box).astype(int)
    mask = np.full(picture.shape[:2], cv2.GC_BGD, np.uint8)
    mask[top:bottom, left:right] = cv2.GC_PR_FGD
    middle, axes = ((left + right) // 2, (top + bottom) // 2), (box[2:] - box[:2]) * CORE / 2
    cv2.ellipse(mask, middle, np.rint(axes).astype(int).tolist(), 0, 0, 360, cv2.GC_FGD, -1)
    cv2.setRNGSeed(0)  # GrabCut starts from random clusters
    cv2.grabCut(picture, mask, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    thing = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    mask = _smooth(_largest_part(thing.astype(np.uint8)))
    return mask if _fits(mask, np.array([left, top, right, bottom])) else None


def _smooth(mask: np.ndarray) -> np.ndarray:
    """Returns a mask without thin threads, small holes and ragged edges."""
    mask = _largest_part((cv2.GaussianBlur(mask * 255, (0, 0), 1.5) > 127).astype(np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] < HOLES * mask.sum()]
    return mask | np.isin(labels, small).astype(np.uint8)


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """Returns the largest connected part of a mask; an empty mask stays empty."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return mask
    return (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)


def _fits(mask: np.ndarray, box: np.ndarray) -> bool:
    """Returns whether a mask fills a box (xyxy, whole pixels) as things do."""
    x, y, width, height = cv2.boundingRect(mask)
    area = np.prod(box[2:] - box[:2])
    shared = np.prod(np.maximum(np.minimum(box[2:], (x + width, y + height)) - np.maximum(box[:2], (x, y)), 0))
    return bool(
        shared >= CLOSEST * (area + width * height - shared) and FILLS[0] * area <= mask.sum() <= FILLS[1] * area
    )
