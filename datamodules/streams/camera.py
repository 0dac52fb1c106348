"""A camera of this machine as a stream."""

import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from datamodules.streams.stream import FrameStream, StreamError, TimedFrame


class Camera(FrameStream):
    """A camera, read by OpenCV.

    Args:
        device: number of the camera, from 0, or its device file.

    Raises:
        StreamError: there is no such camera, or another program uses it.
    """

    is_live = True

    def __init__(self, device: int | str):
        self._device, self._capture = device, cv2.VideoCapture(device)
        if not self._capture.isOpened():
            self.close()
            there = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none in /dev"
            raise StreamError(
                f"camera {device} cannot be opened: it is not there, another program uses it, or this user may not "
                f"(cameras: {there}); give another number, e.g. source=1, or a video file, e.g. source=walk.mp4"
            )

    def frames(self) -> Iterator[TimedFrame]:
        """Yields the pictures of the camera for ever; see `FrameStream.frames`."""
        number, start = 0, None
        while True:
            is_read, picture = self._capture.read()
            if not is_read:
                raise StreamError(f"camera {self._device} gives no picture{' any more' if number else ''}")
            now, number = time.perf_counter(), number + 1
            start = now if start is None else start
            yield TimedFrame(number, now - start, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))

    def close(self) -> None:
        """Gives the camera back."""
        self._capture.release()
