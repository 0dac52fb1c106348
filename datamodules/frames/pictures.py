"""Frames from disk: pictures in a folder, or those of a video file."""

import os
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag; above 4, width and height are exchanged when the picture is read


class UnreadableFrameError(OSError):
    """A picture that is missing or cannot be decoded."""

    def __init__(self, path: Path):
        super().__init__(
            f"cannot read the frame {path}: missing, empty or damaged. Copy it again, or drop its sequence"
        )
        self.path = path


def read_picture(place: Path, name: str, i: int) -> np.ndarray:
    """RGB (H, W, 3) uint8.

    Args:
        place: the folder that holds `name`, or a video file.
        name: file name.
        i: number of the frame in the video, from 0.

    Raises:
        UnreadableFrameError: it cannot be read.
    """
    if place.is_file():
        return _video(place).frame(i)
    picture = cv2.imread(str(place / name), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise UnreadableFrameError(place / name)
    return picture


def picture_size(place: Path, name: str) -> tuple[int, int]:
    """(width, height) of a picture or video, without decoding it.

    Raises:
        UnreadableFrameError: it cannot be read.
    """
    if place.is_file():
        return _video(place).size
    try:
        with Image.open(place / name) as picture:
            turned = picture.getexif().get(ORIENTATION, 1) > 4
            return picture.size[::-1] if turned else picture.size
    except OSError as error:
        raise UnreadableFrameError(place / name) from error


def video_length(path: Path) -> int:
    """The number of frames that can be read from a video file.

    Raises:
        UnreadableFrameError: it cannot be opened.
    """
    return _video(path).length


def _video(path: Path) -> "_Video":
    return _opened(os.getpid())(path)


@cache
def _opened(process: int) -> Callable[[Path], "_Video"]:
    """Each process opens videos itself: a fork inherits captures, but not the threads that decode for them."""
    return lru_cache(maxsize=8)(_Video)


class _Video:
    """An open video file. Frames are cheap in order, and slow out of it."""

    def __init__(self, path: Path):
        self.path, self.capture, self.following = path, cv2.VideoCapture(str(path)), 0
        if not self.capture.isOpened():
            raise UnreadableFrameError(path)
        self.size = tuple(int(self.capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))

    @cached_property
    def length(self) -> int:
        """As the file says, if its last frame can be read; else, and where it does not know, they are counted."""
        length = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        try:
            self.frame(length - 1)
        except UnreadableFrameError:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            self.following, length = -1, 0
            while self.capture.grab():
                length += 1
        return length

    def frame(self, i: int) -> np.ndarray:
        if i != self.following:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, i)
        found, picture = self.capture.read()
        self.following = i + 1 if found else -1
        if not found:
            raise UnreadableFrameError(self.path / f"frame {i}")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
