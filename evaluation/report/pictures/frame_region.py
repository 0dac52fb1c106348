"""The part of a frame that holds some boxes."""

from typing import NamedTuple

import numpy as np

ROOM, ZOOM = 1.6, 3  # side of the part relative to its boxes, and its largest magnification


class FrameRegion(NamedTuple):
    """A rectangle in a frame, in whole pixels."""

    x: int
    y: int
    width: int
    height: int

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Returns the part of the frame (H, W, 3)."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def region_around(boxes: np.ndarray, size: tuple[int, int]) -> FrameRegion:
    """Returns the part of a frame that holds the boxes, with the aspect ratio of the frame.

    Args:
        boxes: xywh in pixels, (n, 4); n > 0.
        size: (width, height) of the frame.
    """
    sides = np.array(size)
    low = np.clip(boxes[:, :2].min(0), 0, sides)
    high = np.clip((boxes[:, :2] + boxes[:, 2:]).max(0), 0, sides)
    share = np.clip(ROOM * np.max((high - low) / sides), 1 / ZOOM, 1)
    extent = np.maximum(np.rint(share * sides), 1).astype(int)
    corner = np.clip(np.rint((low + high - extent) / 2), 0, sides - extent).astype(int)
    return FrameRegion(*corner.tolist(), *extent.tolist())
