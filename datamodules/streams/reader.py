"""Reads a stream in a thread of its own, while somebody works on the frames."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from datamodules.streams.stream import FrameStream, StreamError, TimedFrame

AHEAD = 4  # frames that are read ahead; a frame of 4K has 25 MB
POLL = 0.05  # seconds between two looks at whether to stop
PATIENCE = 2.0  # seconds for a read that is running when the reader is closed


class StreamReader:
    """Reads frames ahead. Of a live stream it keeps the newest frame alone, so that a slow user sees the present.

        with StreamReader(stream) as reader:
            while (frame := reader.take()) is not None:
                ...

    Args:
        stream: is closed with the reader.

    Attributes:
        skipped: number of frames of a live stream that nobody took in time.
    """

    def __init__(self, stream: FrameStream):
        self.stream, self.skipped = stream, 0
        self._waiting: queue.Queue[TimedFrame | Exception | None] = queue.Queue(1 if stream.is_live else AHEAD)
        self._closing = threading.Event()
        self._size: tuple[int, ...] | None = None
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()

    def take_first(self) -> TimedFrame:
        """Returns the first frame; of a live stream the newest one. From here on, frames that are not taken count.

        Raises:
            StreamError: there is no frame, or it cannot be read.
        """
        frame = self.take()
        if frame is None:
            raise StreamError("the source ended before its first frame; give one with frames")
        self.skipped = 0
        return frame

    def take(self, stop: Callable[[], bool] = lambda: False) -> TimedFrame | None:
        """Returns the next frame, None at the end.

        Args:
            stop: is asked while no frame is there; if it returns True, the result is None.

        Raises:
            StreamError: the next frame cannot be read, or it has another size than the frames before.
        """
        while True:
            try:
                found = self._waiting.get(timeout=POLL)
            except queue.Empty:
                if stop():
                    return None
                continue
            if isinstance(found, Exception):
                raise found
            if found is not None:
                self._check_size(found)
            return found

    def close(self) -> None:
        """Ends the thread and closes the stream. A thread that hangs in a dead stream ends with the process."""
        self._closing.set()
        self._thread.join(PATIENCE)

    def __enter__(self) -> "StreamReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        try:
            for frame in self.stream.frames():
                if self.stream.is_live:
                    self._drop_older()
                self._put(frame)
                if self._closing.is_set():
                    return
            self._put(None)
        except Exception as error:  # it belongs to whoever takes the next frame
            self._put(error)
        finally:
            self.stream.close()

    def _drop_older(self) -> None:
        with suppress(queue.Empty):
            self._waiting.get_nowait()
            self.skipped += 1

    def _put(self, item: TimedFrame | Exception | None) -> None:
        while not self._closing.is_set():
            with suppress(queue.Full):
                self._waiting.put(item, timeout=POLL)
                return

    def _check_size(self, frame: TimedFrame) -> None:
        height, width, _ = frame.image.shape
        self._size = self._size or (width, height)
        if self._size != (width, height):
            change = "from {}x{} to {}x{}".format(*self._size, width, height)
            raise StreamError(f"the size of its pictures changes {change} in frame {frame.number}")
