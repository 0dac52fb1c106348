"""A folder of pictures as a stream."""

from collections.abc import Iterator
from pathlib import Path

from datamodules.frames.pictures import UnreadableFrameError, read_picture
from datamodules.readers.listing import list_frames
from datamodules.streams.stream import FrameStream, StreamError, TimedFrame


class PictureFolder(FrameStream):
    """The pictures of a folder in natural order: 10.jpg comes after 9.jpg.

    Args:
        folder: of the pictures.
        fps: frames per second.

    Raises:
        DataError: the folder holds no pictures, or cannot be read.
    """

    def __init__(self, folder: Path, fps: float):
        self._folder, self._fps, self._names = folder, fps, list_frames(folder)
        self.length = len(self._names)

    def frames(self) -> Iterator[TimedFrame]:
        """Yields the pictures; see `FrameStream.frames`."""
        for i, name in enumerate(self._names):
            try:
                image = read_picture(self._folder / name)
            except UnreadableFrameError as error:
                raise StreamError(f"the picture {error.path} cannot be read: {error.reason}") from error
            yield TimedFrame(i + 1, i / self._fps, image)

    def close(self) -> None:
        """Does nothing: each picture is open only while it is read."""
