"""Small video files in which frame `n` carries its number."""

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 6  # of the number: as many blocks along the top edge, bright or dark
HEIGHT, WIDTH, COUNT = 64, 96, 40
MILLISECOND = Fraction(1, 1000)

CONSTANT = np.arange(COUNT) * 40
# The camera slows down, as phones do in low light, drops frames, and pauses for three seconds.
VARIABLE = np.cumsum([[40, 80, 120][i * i % 3] + 3000 * (i == 25) for i in range(COUNT)])

QUIET = {"x265-params": "log-level=none:pools=1:keyint=12:open-gop=1", "preset": "ultrafast"}
CODECS: dict[str, tuple[str, dict[str, str], int]] = {  # encoder, options, number of B-frames in a row
    "h264": ("libx264", {"x264-params": "threads=1"}, 2),
    "h264-intra-refresh": ("libx264", {"x264-params": "threads=1:intra-refresh=1"}, 0),
    "h265": ("libx265", QUIET, 2),
    "vp8": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "5"}, 0),
    "vp9": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}, 0),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}, 0),
    "mpeg4": ("mpeg4", {}, 2),
    "mpeg2": ("mpeg2video", {}, 2),
    "mjpeg": ("mjpeg", {}, 0),
    "wmv2": ("wmv2", {}, 0),
    "ffv1": ("ffv1", {}, 0),
}


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frame `number`, RGB: its bits, and a texture that moves."""
    seen = np.random.default_rng(0).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    seen = np.roll(seen.repeat(8, 0).repeat(8, 1), 2 * number, 1)[:height, :width].copy()
    for bit in range(BITS):
        seen[: height // 4, bit * (width // BITS) : (bit + 1) * (width // BITS)] = 230 if number >> bit & 1 else 20
    return seen


def number_of(seen: np.ndarray) -> int:
    """The number that a picture of any size carries."""
    row, side = seen[seen.shape[0] // 8].mean(1), seen.shape[1] // BITS
    return sum(int(row[bit * side + side // 2] > 125) << bit for bit in range(BITS))


def add_video(
    file: av.container.OutputContainer,
    codec: str = "h264",
    times: np.ndarray = CONSTANT,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    key_every: int = 12,
    pixels: str | None = None,
    **attributes: int,
) -> tuple[av.VideoStream, Callable[[], Iterator[av.Packet]]]:
    """Adds a video track to an open file, and returns it with a function that yields its packets."""
    encoder, options, b_frames = CODECS[codec]
    track = file.add_stream(encoder, rate=25, options=options)
    pixels = pixels or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
    track.height, track.width, track.pix_fmt = *size, pixels
    track.codec_context.gop_size, track.codec_context.max_b_frames = key_every, b_frames
    if codec not in ("mpeg2", "wmv2"):
        track.codec_context.time_base = track.time_base = MILLISECOND
    for name, value in attributes.items():
        setattr(track.codec_context, name, value)

    def packets() -> Iterator[av.Packet]:
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format=pixels)
            for name, value in attributes.items():
                setattr(frame, name, value)
            exact = codec not in ("mpeg2", "wmv2")  # these have constant rates only
            frame.pts, frame.time_base = (int(time), MILLISECOND) if exact else (number, Fraction(1, 25))
            yield from track.encode(frame)
        yield from track.encode()

    return track, packets


def write_video(path: Path, codec: str = "h264", times: np.ndarray = CONSTANT, **settings) -> Path:
    """Writes a file with one video track. `options` are those of the container; see `add_video` for the others."""
    with av.open(str(path), "w", options=settings.pop("options", {})) as file:
        _, packets = add_video(file, codec, times, **settings)
        file.mux(list(packets()))
    # The encoder of AV1 gives the calling thread of root the highest real-time priority, and children inherit it. A
    # child that waits in a loop would then stop the machine.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path
