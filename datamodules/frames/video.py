"""Video files, frame by frame. Frame `i` is the `i`-th one that a decoder shows when it reads the file from its start.

No header tells which frame is which: phones drop frames, live streams count nothing, and frames are stored in another
order than they are shown. Therefore `index_video` decodes a file once, and `VideoReader` uses the index.
"""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av import VideoFrame

from datamodules.frames.decoder import Decoder
from datamodules.frames.pictures import UnreadableFrameError

log = logging.getLogger(__name__)

# One row per frame: `packet`, `time` and `key` of a `DecodedFrame`, and the checksum of its picture.
INDEX = np.dtype([("packet", "i8"), ("time", "i8"), ("key", "?"), ("checksum", "u4")])
OPEN_FILES = 4  # of each thread that reads in random order
MAX_LATE = 32  # frames that may be shown before another one and stored after it; H.264 and H.265 allow 16


def index_video(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Decodes a video file from its start to its end.

    Returns:
        The index, (number of frames,) of dtype `INDEX`, and the (width, height) of the frames.

    Raises:
        UnreadableFrameError: the file cannot be opened, no frame can be decoded, or the size of the frames changes.
    """
    decoder, rows, sizes = Decoder(path), [], []
    faulty = width = height = 0
    try:
        for frame in decoder.decode():
            sizes.append((frame.picture.width, frame.picture.height))
            if sizes[-1] != sizes[0]:
                change = "{}x{} to {}x{}".format(*sizes[0], *sizes[-1])
                raise UnreadableFrameError(path, f"the size changes from {change} in frame {len(rows)}; split the file")
            if not rows:
                height, width, _ = decoder.rgb(frame.picture).shape  # it may be turned
            rows.append((*frame[:3], decoder.checksum(frame.picture)))
            faulty += frame.picture.is_corrupt
    finally:
        decoder.close()
    if not rows:
        raise UnreadableFrameError(path, "no frame of it can be decoded")
    log.info("indexed %s: %d frames", path, len(rows))
    if decoder.damaged or faulty:
        log.warning("%s is damaged: %d packets left out, %d frames with faults", path, decoder.damaged, faulty)
    return np.array(rows, INDEX), (width, height)


class VideoReader:
    """Reads frames of a video file, in order or in any order. Only one thread may use a reader at a time.

    Frames that follow each other are decoded without a seek. For others, the reader starts at a key frame before. It
    compares each frame with its checksum: if a seek went wrong, it starts at an earlier key frame, and at last at the
    start of the file. Thus a frame has the same pixels in any order.

    Args:
        path: the file.
        index: of the file, from `index_video`.

    Raises:
        UnreadableFrameError: the file cannot be opened.
    """

    def __init__(self, path: Path, index: np.ndarray):
        self.path, self._index, self._decoder = path, index, Decoder(path)
        self._frames, self._next = self._decoder.decode(), 0

    def close(self) -> None:
        """Closes the file."""
        self._frames.close()
        self._decoder.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frame(self, i: int) -> np.ndarray:
        """Returns frame `i`, counted from 0, as RGB (H, W, 3) uint8.

        Raises:
            UnreadableFrameError: there is no such frame, or the file has changed since it was indexed.
        """
        if not 0 <= i < len(self._index):
            raise UnreadableFrameError(self.path / f"frame {i}", f"the video has {len(self._index)} frames")
        for picture in self._attempts(i):
            if picture is not None and self._decoder.checksum(picture) == self._index["checksum"][i]:
                self._next = i + 1
                return self._decoder.rgb(picture)
        raise UnreadableFrameError(self.path / f"frame {i}", "the file has changed since it was indexed")

    def _attempts(self, i: int) -> Iterator[VideoFrame | None]:
        """Yields what may be frame `i`, found in different ways; the last one is the most certain."""
        keys = np.flatnonzero(self._index["key"][: i + 1])
        if self._next <= i and not self._index["key"][self._next + 1 : i + 1].any():
            yield self._count_to(i)
        for key in keys[:-3:-1]:
            yield from self._seek(i, int(self._index["time"][key]))
        self.close()
        self._decoder = Decoder(self.path)
        self._frames, self._next = self._decoder.decode(), 0
        yield self._count_to(i)

    def _count_to(self, i: int) -> VideoFrame | None:
        for frame in self._frames:
            self._next += 1
            if self._next > i:
                return frame.picture
        return None

    def _seek(self, i: int, time: int) -> Iterator[VideoFrame]:
        if not self._decoder.seek(time):
            return
        self._frames, late = self._decoder.decode(), 0
        for frame in self._frames:
            if frame.packet == self._index["packet"][i]:
                yield frame.picture
            late += frame.time > self._index["time"][i]
            if late > MAX_LATE:
                return


def read_video_frame(path: Path, index: np.ndarray, i: int) -> np.ndarray:
    """Returns frame `i` of a video file, counted from 0, as RGB (H, W, 3) uint8. The last few files stay open.

    Raises:
        UnreadableFrameError: the file cannot be opened, has no such frame, or has changed since it was indexed.
    """
    return _open(path, index).frame(i)


# A reader belongs to one thread. A forked process must not use the readers of its parent: they share the position in
# their files.
_of_thread = threading.local()


def _open(path: Path, index: np.ndarray) -> VideoReader:
    if getattr(_of_thread, "process", None) != os.getpid():
        _of_thread.process, _of_thread.readers = os.getpid(), OrderedDict()
    readers: OrderedDict[tuple, VideoReader] = _of_thread.readers
    try:
        stat = path.stat()
    except OSError as error:
        raise UnreadableFrameError(path) from error
    key = path, stat.st_mtime_ns, stat.st_size, len(index)
    if key not in readers:
        readers[key] = VideoReader(path, index)
        if len(readers) > OPEN_FILES:
            readers.popitem(last=False)[1].close()
    readers.move_to_end(key)
    return readers[key]
