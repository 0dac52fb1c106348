"""A video file, or a video at an address in the network, as a stream. It is never sought in."""

import logging
from collections.abc import Iterator
from pathlib import Path

from datamodules.frames.decoder import Decoder
from datamodules.frames.pictures import UnreadableFrameError
from datamodules.streams.stream import FrameStream, StreamError, TimedFrame

log = logging.getLogger(__name__)

FPS = 25.0  # where a stream tells no rate
SHARE = 0.95  # of the claimed duration; sound may be longer than the pictures


class VideoStream(FrameStream):
    """A video that FFmpeg decodes. Its frames are turned as players show them, and keep their times.

    A file is never live, and an address is live if it tells no duration.
    """

    def __init__(self, name: str, decoder: Decoder, may_be_live: bool):
        self._name, self._decoder = name, decoder
        self.length = decoder.claimed_length
        self.is_live = may_be_live and decoder.duration is None

    @classmethod
    def from_file(cls, path: Path) -> "VideoStream":
        """Opens a video file.

        Raises:
            StreamError: it is no video.
        """
        try:
            return cls(str(path), Decoder(path), may_be_live=False)
        except UnreadableFrameError as error:
            raise StreamError(f"the source {path} cannot be read: {error.reason}") from error

    @classmethod
    def from_address(cls, address: str) -> "VideoStream":
        """Opens a video in the network.

        Raises:
            StreamError: nobody answers at the address, or with something that is no video.
        """
        try:
            return cls(address, Decoder(address), may_be_live=True)
        except UnreadableFrameError as error:
            raise StreamError(f"the source {address} cannot be read: {error.reason}") from error

    def frames(self) -> Iterator[TimedFrame]:
        """Yields the frames; see `FrameStream.frames`. Damaged packets are left out."""
        decoder, number, first, last = self._decoder, 0, 0, 0.0
        step = 1 / (decoder.rate or FPS)
        for frame in decoder.decode():
            first = frame.time if not number else first
            time = float((frame.time - first) * decoder.time_base)
            # Some streams have no times, and others begin again in their middle.
            last = time if time > last else last + step * (number > 0)
            number += 1
            yield TimedFrame(number, last, decoder.rgb(frame.picture))
        if decoder.fault or not number:
            what = f"breaks off after frame {number}" if number else "has no frame that can be decoded"
            raise StreamError(f"the source {self._name} {what}{decoder.fault and f': {decoder.fault}'}")
        if decoder.damaged:
            log.warning("%s is damaged: %d packets were left out", self._name, decoder.damaged)
        if decoder.duration and last + step < SHARE * decoder.duration - 1:
            log.warning("%s ends after %.1f of %.1f s: the rest is missing", self._name, last, decoder.duration)

    def close(self) -> None:
        """Closes the file or the connection."""
        self._decoder.close()
