"""An annotated video, as every reader returns it and as training and evaluation use it."""

import re
from collections.abc import Generator
from collections.abc import Sequence as Names
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.frames.frame import Frame
from datamodules.frames.pictures import read_picture
from datamodules.frames.video import VideoReader, read_video_frame


@dataclass(frozen=True)
class NumberedFrames(Names[str]):
    """File names that count upwards: `prefix`, a number of at least `digits` digits, and `suffix`."""

    prefix: str
    first: int
    digits: int
    suffix: str
    count: int  # pyrefly: ignore[bad-override]  nobody counts how often a sequence of names has a name

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self.count))]
        if not -self.count <= i < self.count:
            raise IndexError(f"frame {i} of {self.count}")
        return f"{self.prefix}{self.first + i % self.count:0{self.digits}d}{self.suffix}"


def sort_frames(names: list[str]) -> Names[str]:
    """Returns the file names of frames in natural order: 10.jpg comes after 9.jpg.

    Args:
        names: in any order.
    """
    found = [re.fullmatch(r"(.*?)(\d+)(\.\w+)", name) for name in names]
    parts = [part for part in found if part]
    if len(parts) < len(names) or len({(p[1], p[3]) for p in parts}) != 1:
        return tuple(sorted(names, key=_natural_key))
    ordered = sorted(parts, key=lambda p: int(p[2]))
    prefix, number, suffix = ordered[0].groups()
    numbered = NumberedFrames(prefix, int(number), len(number), suffix, len(ordered))
    without_gaps = all(p[0] == name for p, name in zip(ordered, numbered, strict=True))
    return numbered if without_gaps else tuple(p[0] for p in ordered)


def _natural_key(name: str) -> list[str | int]:
    """Returns the sort key of natural order: text and numbers by turns, numbers as int."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


@dataclass(frozen=True)
class Sequence:
    """One annotated video.

    Attributes:
        name: unique in its data set.
        folder: folder of the frames, or a video file.
        frames: file names in order.
        boxes: xywh in pixels, (n, 4) float64; (1, 4) if only the first frame is annotated, as in test splits.
        absent: annotated frames whose label says that they do not show the object, (len(boxes),) bool.
        cover: visible eighths of the object, (len(boxes),) int; None if the data set does not say.
        resolution: (width, height) of the frames; None if the data set does not say.
        still: whether this is a single picture and not a video; all crops of a sample come from it.
        video: index of the video file, see `index_video`; None if the frames are pictures.
    """

    name: str
    folder: Path
    frames: Names[str]
    boxes: np.ndarray
    absent: np.ndarray
    cover: np.ndarray | None = None
    resolution: tuple[int, int] | None = None
    still: bool = False
    video: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def annotated(self) -> bool:
        """Whether every frame has a box. Otherwise only the data set's server can score results."""
        return len(self.boxes) == len(self.frames)

    @cached_property
    def visible(self) -> np.ndarray:
        """Frames that show the object, (len(boxes),) bool; see `visible_mask`."""
        return visible_mask(self.boxes, self.absent, self.cover)

    @cached_property
    def visible_frames(self) -> np.ndarray:
        """Indices of the visible frames, ascending."""
        return np.flatnonzero(self.visible)

    def image(self, i: int) -> np.ndarray:
        """Reads frame `i` as RGB (H, W, 3) uint8.

        Raises:
            UnreadableFrameError: the frame cannot be read.
        """
        name = self.frames[i]
        return read_picture(self.folder / name) if self.video is None else read_video_frame(self.folder, self.video, i)

    def images(self) -> Generator[np.ndarray]:
        """Reads all frames in order, as RGB (H, W, 3) uint8. A video file is open until the last frame, or `close`.

        Raises:
            UnreadableFrameError: the next frame cannot be read.
        """
        if self.video is None:
            yield from map(self.image, range(len(self)))
            return
        with VideoReader(self.folder, self.video) as reader:
            yield from map(reader.frame, range(len(self)))

    def frame(self, i: int) -> Frame:
        """Returns frame `i` as a `Frame`, which decodes only the parts that crops ask for."""
        return Frame(self.folder / self.frames[i], partial(self.image, i))

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames: `resolution`, or else the size of the first frame.

        Raises:
            UnreadableFrameError: the first frame cannot be read.
        """
        if self.resolution:
            return self.resolution
        return self.image(0).shape[1::-1]


def visible_mask(boxes: np.ndarray, absent: np.ndarray, cover: np.ndarray | None) -> np.ndarray:
    """Returns which frames show the object, (n,) bool: the box has an area and no label says that the object is hidden.

    Args:
        boxes: xywh, (n, 4).
        absent: (n,) bool.
        cover: visible eighths, (n,); negative values and None mean unknown.
    """
    visible = (boxes[:, 2:] > 0).all(1) & ~absent
    return visible if cover is None else visible & (cover != 0)
