"""A video with its annotation, as every reader returns it and training and evaluation use it."""

import re
from collections.abc import Sequence as Names
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from datamodules.frames.frame import Frame
from datamodules.frames.pictures import picture_size, read_picture


@dataclass(frozen=True)
class NumberedFrames(Names):
    """File names that count: `prefix`, a number of at least `digits` digits, and `suffix`."""

    prefix: str
    first: int
    digits: int
    suffix: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> str:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self.count))]
        if not -self.count <= i < self.count:
            raise IndexError(f"frame {i} of {self.count}")
        return f"{self.prefix}{self.first + i % self.count:0{self.digits}d}{self.suffix}"


def frames_of(names: list[str]) -> Names[str]:
    """The names of a video's frames in their order: numbers count, so that 10.jpg comes after 9.jpg.

    Args:
        names: in any order.
    """
    parts = [re.fullmatch(r"(.*?)(\d+)(\.\w+)", name) for name in names]
    if not all(parts) or len({(p[1], p[3]) for p in parts}) != 1:
        return tuple(sorted(names, key=_numbers_count))
    found = sorted(parts, key=lambda p: int(p[2]))
    prefix, number, suffix = found[0].groups()
    counted = NumberedFrames(prefix, int(number), len(number), suffix, len(found))
    return counted if all(p[0] == name for p, name in zip(found, counted, strict=True)) else tuple(p[0] for p in found)


def _numbers_count(name: str) -> list[str | int]:
    """What to sort names by: text and numbers take turns."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


@dataclass(frozen=True)
class Sequence:
    """One annotated video.

    Attributes:
        name: unique in its data set.
        folder: where the frames are, or a video file.
        frames: file names in order.
        boxes: xywh in pixels, (n, 4) float64; (1, 4) where only the first frame is annotated, as in test splits.
        absent: annotated frames that are labelled as not showing the object, (len(boxes),) bool.
        cover: visible eighths of the object, (len(boxes),) int; None where a data set does not say.
        resolution: (width, height) of the pictures; None where a data set does not say.
        still: whether this is one picture and not a video; both crops of a sample come from it.
    """

    name: str
    folder: Path
    frames: Names[str]
    boxes: np.ndarray
    absent: np.ndarray
    cover: np.ndarray | None = None
    resolution: tuple[int, int] | None = None
    still: bool = False

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def annotated(self) -> bool:
        """Whether every frame is: else only a server can score what is tracked here."""
        return len(self.boxes) == len(self.frames)

    @cached_property
    def visible(self) -> np.ndarray:
        """Frames in which the object can be learned from, (len(boxes),) bool."""
        return visible(self.boxes, self.absent, self.cover)

    @cached_property
    def visible_frames(self) -> np.ndarray:
        """Indices of the visible frames, ascending."""
        return np.flatnonzero(self.visible)

    def image(self, i: int) -> np.ndarray:
        """Frame `i` as RGB (H, W, 3) uint8.

        Raises:
            UnreadableFrameError: it cannot be read.
        """
        return read_picture(self.folder, self.frames[i], i)

    def frame(self, i: int) -> Frame:
        """Frame `i` for crops that do not need all of it."""
        return Frame(self.folder / self.frames[i], partial(self.image, i))

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures: as the data set says, or of the first one.

        Raises:
            UnreadableFrameError: the first one cannot be read.
        """
        return self.resolution or picture_size(self.folder, self.frames[0])


def visible(boxes: np.ndarray, absent: np.ndarray, cover: np.ndarray | None) -> np.ndarray:
    """Which boxes (n, 4) have an area, and an object that can be seen: (n,) bool. `cover` < 0 is unknown."""
    seen = (boxes[:, 2:] > 0).all(1) & ~absent
    return seen if cover is None else seen & (cover != 0)
