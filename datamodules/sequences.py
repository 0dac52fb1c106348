"""A video with its annotation, as every reader returns it and training and evaluation use it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np


class UnreadableFrameError(OSError):
    """A picture that is missing or cannot be decoded."""

    def __init__(self, path: Path):
        super().__init__(
            f"cannot read the frame {path}: missing, empty or damaged. Copy it again, or drop its sequence"
        )
        self.path = path


@dataclass(frozen=True)
class Sequence:
    """One annotated video.

    Attributes:
        name: unique in its data set.
        folder: where the frames are.
        frames: file names in order.
        boxes: xywh in pixels, (n, 4) float64.
        visible: frames in which the object can be learned from, (n,) bool.
        cover: visible eighths of the object, (n,) int; None where a data set does not say.
    """

    name: str
    folder: Path
    frames: tuple[str, ...]
    boxes: np.ndarray
    visible: np.ndarray
    cover: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, i: int) -> np.ndarray:
        """Frame `i` as RGB (H, W, 3) uint8.

        Raises:
            UnreadableFrameError: it cannot be read.
        """
        path = self.folder / self.frames[i]
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise UnreadableFrameError(path)
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    @cached_property
    def visible_frames(self) -> np.ndarray:
        """Indices of the visible frames, ascending."""
        return np.flatnonzero(self.visible)
