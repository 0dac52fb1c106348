"""Writes pictures as a video that players and browsers play: MP4 with H.264."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

TIME_BASE = Fraction(1, 60000)  # s; 25, 29.97, 30, 50 and 60 pictures a second are whole numbers of it
KEY_EVERY = 50  # pictures from one that can be decoded alone to the next; players seek to these
# The file can be played after every key picture, so also if its process is killed, and is a common MP4 at its end.
CONTAINER = {"movflags": "hybrid_fragmented+delay_moov", "flush_packets": "1"}
# Not every build of FFmpeg has the first one. Its preset takes a quarter of the time of "veryfast" for 1080p, so that a
# small tracker does not wait for it, and the file is 1.8 times as large.
CODECS = {"libx264": {"preset": "ultrafast"}, "mpeg4": {"qscale": "4"}}


class Movie:
    """A video file that is being written. Its first picture tells the size; later ones are cut or filled up to it.

        with Movie(path) as movie:
            movie.write(picture, seconds)

    Args:
        path: of the file, with any suffix.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path):
        self._file = av.open(str(path), "w", format="mp4", options=CONTAINER)
        self._stream: Any = None
        self._last = -1

    def write(self, picture: np.ndarray, time: float) -> None:
        """Writes a picture, RGB (h, w, 3) uint8, which is shown from `time` on, in seconds; times grow."""
        if self._stream is None:
            self._stream = self._add_stream(*picture.shape[:2])
        height, width = self._stream.height, self._stream.width
        if picture.shape[:2] != (height, width):
            given, picture = picture, np.zeros((height, width, 3), np.uint8)
            rows, columns = min(height, len(given)), min(width, given.shape[1])
            picture[:rows, :columns] = given[:rows, :columns]
        # OpenCV converts ten times as fast as FFmpeg.
        converted: Any = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        frame = av.VideoFrame.from_ndarray(converted, "yuv420p")
        self._last = max(self._last + 1, round(time / TIME_BASE))
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes what the encoder has held back, and closes the file."""
        if self._stream is not None:
            self._file.mux(self._stream.encode())
        self._file.close()

    def __enter__(self) -> "Movie":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add_stream(self, height: int, width: int) -> Any:
        codec = next(name for name in CODECS if name in av.codecs_available)
        stream: Any = self._file.add_stream(codec, rate=25, options=CODECS[codec])
        stream.height, stream.width = height + height % 2, width + width % 2  # codecs ask for even sides
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        stream.codec_context.gop_size = KEY_EVERY
        return stream
