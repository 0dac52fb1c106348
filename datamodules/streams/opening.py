"""Opens what a user names as a source of frames."""

import os
from pathlib import Path

from datamodules.streams.camera import Camera
from datamodules.streams.picture_folder import PictureFolder
from datamodules.streams.stream import FrameStream, StreamError
from datamodules.streams.video_stream import VideoStream

LONGEST = 10  # digits of the number of a camera, which OpenCV takes as a C integer
FORMS = "source=walk.mp4 (a video file), source=frames/ (a folder of pictures), source=0 (a camera), source=rtsp://…"


def open_stream(source: str | int, fps: float) -> FrameStream:
    """Opens a source of frames.

    Args:
        source: path of a video file or of a folder of pictures, number or device file of a camera, or an address with
            a scheme, such as rtsp://, http:// and udp://.
        fps: frames per second of a folder; other sources know the times of their frames.

    Raises:
        StreamError: there is no such source, or it holds no frames.
        DataError: a folder holds no pictures, or cannot be read.
    """
    name = str(source).strip()
    if name.isascii() and name.isdigit() and len(name) < LONGEST:
        return Camera(int(name))
    if "://" in name:
        return VideoStream.from_address(name)
    # Unlike pathlib, these functions take the home of an unknown user, and names that are too long.
    path = Path(os.path.expanduser(name))  # noqa: PTH111
    if not name or not os.path.exists(path):  # noqa: PTH110
        raise StreamError(f"there is no source {name or '(empty)'}; give e.g. {FORMS}")
    if path.is_dir():
        return PictureFolder(path, fps)
    return Camera(str(path)) if path.is_char_device() else VideoStream.from_file(path)
