"""Reading frames of video files. The last few files stay open, since reading in order is cheap and seeking is slow."""

import os
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np

from datamodules.frames.pictures import UnreadableFrameError


def read_video_frame(path: Path, i: int) -> np.ndarray:
    """Returns frame `i` of a video file, counted from 0, as RGB (H, W, 3) uint8.

    Raises:
        UnreadableFrameError: the file cannot be opened or has no such frame.
    """
    return _open(path).frame(i)


def video_size(path: Path) -> tuple[int, int]:
    """Returns the (width, height) of a video file.

    Raises:
        UnreadableFrameError: the file cannot be opened.
    """
    return _open(path).size


def video_length(path: Path) -> int:
    """Returns the number of frames that can be read from a video file.

    Raises:
        UnreadableFrameError: the file cannot be opened.
    """
    return _open(path).length


def _open(path: Path) -> "_OpenVideo":
    return _open_videos(os.getpid())(path)


@cache
def _open_videos(process: int) -> Callable[[Path], "_OpenVideo"]:
    """Returns the cached opener of a process. A fork inherits captures but not the threads that decode for them."""
    return lru_cache(maxsize=8)(_OpenVideo)


class _OpenVideo:
    def __init__(self, path: Path):
        self.path, self.capture, self.next_frame = path, cv2.VideoCapture(str(path)), 0
        if not self.capture.isOpened():
            raise UnreadableFrameError(path)
        self.size = tuple(int(self.capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))

    @cached_property
    def length(self) -> int:
        """Number of readable frames: what the file says if its last frame can be read, else they are counted."""
        length = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        try:
            self.frame(length - 1)
        except UnreadableFrameError:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            self.next_frame, length = -1, 0
            while self.capture.grab():
                length += 1
        return length

    def frame(self, i: int) -> np.ndarray:
        if i != self.next_frame:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, i)
        decoded, picture = self.capture.read()
        self.next_frame = i + 1 if decoded else -1
        if not decoded:
            raise UnreadableFrameError(self.path / f"frame {i}")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
