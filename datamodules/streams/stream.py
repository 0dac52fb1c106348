"""What all streams of frames have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from datamodules.errors import DataError


class StreamError(DataError):
    """A source of frames that cannot be opened, or that breaks off."""


class TimedFrame(NamedTuple):
    """A frame of a stream.

    Attributes:
        number: of the frame in the stream, from 1.
        time: seconds since the first frame; it grows from frame to frame.
        image: RGB (H, W, 3) uint8.
    """

    number: int
    time: float
    image: np.ndarray


class FrameStream(ABC):
    """An open source of frames. Only one thread may use it at a time.

    Attributes:
        length: number of frames, as the source claims it; None if the source tells none.
        is_live: whether frames come when they happen, so that one that is not read in time is lost.
    """

    length: int | None = None
    is_live: bool = False

    @abstractmethod
    def frames(self) -> Iterator[TimedFrame]:
        """Yields the frames from the first one to the last one.

        Raises:
            StreamError: the next frame cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the source."""
