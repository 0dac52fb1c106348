"""Decodes a video file with FFmpeg, which the package `av` (PyAV) brings along."""

import logging
import zlib
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from datamodules.frames.pictures import UnreadableFrameError

log = logging.getLogger(__name__)

DECODER = f"av {av.__version__}"  # indices of another version are made again

# FFmpeg also takes playlists and addresses in the network for videos. What is in another format is no video file.
OPTIONS = {"format_whitelist": "mov,mp4,avi,matroska,webm,mpegts,mpeg,asf,flv,ogg", "protocol_whitelist": "file"}
NETWORK_OPTIONS = {"rtsp_flags": "prefer_tcp"}  # UDP loses packets, and with them parts of pictures
TIMEOUT = 10.0  # seconds in which an address must answer, and in which its next frame must come
REMEMBERED = 1024  # packets that the decoder may hold back; more would fill the memory in a long stream


class DecodedFrame(NamedTuple):
    """A frame as the decoder returns it.

    Attributes:
        packet: byte offset of its packet in the file, or `time` if the offset is not known. It names the frame.
        time: where a seek finds the packet, in units of the stream.
        key: whether decoding can start at this frame.
        picture: the pixels in the format of the file; see `Decoder.rgb`.
    """

    packet: int
    time: int
    key: bool
    picture: av.VideoFrame


class Decoder:
    """An open video. Only one thread may use it at a time; it decodes in that thread and has no other.

    Args:
        source: path of a file, or a text: an address in the network, such as rtsp://camera/stream.

    Attributes:
        damaged: number of packets so far that could not be decoded.
        fault: in words why the video ended early; "" if it did not, or has not ended.

    Raises:
        UnreadableFrameError: the source is no video, or its codec is not known.
    """

    def __init__(self, source: Path | str):
        self.path, self.damaged, self.fault, self._name = Path(source), 0, "", str(source)
        self._container = _open_file(source) if isinstance(source, Path) else _open_address(source)
        stream = self._main_stream()
        if stream is None:
            self.close()
            raise UnreadableFrameError(self.path, "it has no picture track of a known codec")
        self._stream: Any = stream  # with a codec, see `_main_stream`
        self._stream.codec_context.thread_count = 1  # threads would not survive a fork
        self._reformatter = VideoReformatter()

    @property
    def time_base(self) -> Fraction:
        """Seconds of a unit of `DecodedFrame.time`."""
        return self._stream.time_base

    @property
    def rate(self) -> float | None:
        """Frames per second on average, as the header claims; None if it does not tell."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate and rate > 0 else None

    @property
    def duration(self) -> float | None:
        """Seconds from the start to the end, as the header claims; None if it does not tell, as live streams do not."""
        if self._stream.duration and self._stream.duration > 0:
            return float(self._stream.duration * self.time_base)
        total = self._container.duration or 0
        return total / av.time_base if total > 0 else None

    @property
    def claimed_length(self) -> int | None:
        """Number of frames, as the header claims or lets guess; None if it does not tell."""
        if self._stream.frames > 0:
            return self._stream.frames
        return round(self.duration * self.rate) or None if self.duration and self.rate else None

    def close(self) -> None:
        """Closes the video."""
        self._container.close()

    def seek(self, time: int) -> bool:
        """Moves to a key frame at or before `time`, and returns whether the file allows it."""
        try:
            self._container.seek(time, stream=self._stream)
        except av.error.FFmpegError:
            return False
        return True

    def decode(self) -> Generator[DecodedFrame]:
        """Yields the frames from here on, in the order in which they are shown. Damaged packets are left out."""
        times = {}
        for packet in self._packets():
            time = _first_known(packet.pts, packet.dts)
            name = _first_known(packet.pos, time)
            times[name] = time
            if len(times) > REMEMBERED:
                del times[next(iter(times))]
            # The decoder hands the name on with the picture of the packet. True times may be missing, equal or guessed.
            packet.pts, packet.dts = name, None
            yield from self._decode(packet, times)
        yield from self._decode(None, times)

    @staticmethod
    def checksum(picture: av.VideoFrame) -> int:
        """Returns the CRC-32 of a picture as it was decoded. RGB pixels may differ between CPUs by rounding."""
        bits = picture.format.components[0].bits
        value = 0
        for plane in picture.planes:
            row = plane.width * (bits if bits < 8 else -(-bits // 8) * 8) // 8  # the rest of a line is not defined
            lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, :row]
            value = zlib.crc32(lines.tobytes(), value)
        return value

    def rgb(self, picture: av.VideoFrame) -> np.ndarray:
        """Returns a picture as RGB (H, W, 3) uint8, in the colours that the file names, and turned as players do."""
        converted = self._reformatter.reformat(picture, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        return np.ascontiguousarray(_turn(converted.to_ndarray(), picture))

    def _main_stream(self) -> av.VideoStream | None:
        """Returns the stream that FFmpeg's command would choose: no cover picture, the default one, the largest."""
        known = [s for s in self._container.streams.video if s.codec_context is not None]
        videos = [s for s in known if not s.disposition & Disposition.attached_pic]
        default = [s for s in videos if s.disposition & Disposition.default]
        return max(default or videos, key=lambda s: s.width * s.height, default=None)

    def _packets(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (OSError, av.error.FFmpegError) as error:
                log.warning("%s ends early: %s", self._name, error)
                late = isinstance(error, av.error.ExitError)  # FFmpeg calls it "immediate exit requested"
                self.fault = f"nothing came for {TIMEOUT:.0f} s" if late else error.strerror or str(error)
                return
            if packet is None:
                return
            if packet.size:  # AVI has empty packets where a frame was dropped; to a decoder they mean the end
                yield packet

    def _decode(self, packet: av.Packet | None, times: dict[int, int]) -> Iterator[DecodedFrame]:
        try:
            pictures = self._stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            self.damaged += 1
            return
        for picture in pictures:
            name = _first_known(picture.pts)
            yield DecodedFrame(name, times.get(name, 0), picture.key_frame, picture)


def _open_file(path: Path) -> av.container.InputContainer:
    try:
        return av.open(f"file:{path}", options=OPTIONS)
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableFrameError(path, f"it is no video, or its start or end is missing ({error})") from error


def _open_address(address: str) -> av.container.InputContainer:
    try:
        return av.open(address, options=NETWORK_OPTIONS, timeout=TIMEOUT)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        late = isinstance(error, av.error.ExitError)
        reason = f"no answer in {TIMEOUT:.0f} s" if late else getattr(error, "strerror", None) or str(error)
        raise UnreadableFrameError(Path(address), f"no video comes from there ({reason})") from error


def _first_known(*numbers: int | None) -> int:
    return next((n for n in numbers if n is not None), 0)


def _turn(picture: np.ndarray, about: av.VideoFrame) -> np.ndarray:
    """Turns or mirrors a picture by multiples of 90 degrees, as the display matrix of its frame says."""
    matrix: Any = about.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    xx, xy, _, yx, yy = np.frombuffer(matrix, np.int32)[:5].tolist()
    if xy and yx and not xx and not yy:
        picture, xx, yy = picture.swapaxes(0, 1), yx, xy
    elif xy or yx:
        return picture  # another angle, which players show in different ways
    return picture[:: -1 if yy < 0 else 1, :: -1 if xx < 0 else 1]
