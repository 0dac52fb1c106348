"""Reading picture files."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datamodules.errors import DataError
from datamodules.frames.jpeg import END

# OpenCV and libjpeg write about damaged files into the terminal, without a name. Errors of this module name the file.
if hasattr(cv2.utils, "logging"):  # since OpenCV 4.12
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class UnreadableFrameError(DataError, OSError):
    """A picture or video frame that is missing or cannot be decoded; `path` names it, and `reason` says why."""

    def __init__(self, path: Path, reason: str = "it is missing, empty or damaged"):
        super().__init__(f"cannot read the frame {path}: {reason}. Copy it again, or drop its sequence")
        self.path, self.reason = path, reason

    def __reduce__(self):
        return type(self), (self.path, self.reason)


def read_picture(path: Path) -> np.ndarray:
    """Returns a picture as RGB (H, W, 3) uint8, turned as its EXIF orientation says.

    Raises:
        UnreadableFrameError: the file is missing, cut off, too large or damaged, or it holds several pictures. A JPEG
            of which only the two bytes at the end are missing is read.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as header:  # it reads no pixels, and refuses sizes that would fill the memory
            pictures = 1 if header.format in ("JPEG", "MPO") else getattr(header, "n_frames", 1)
    except Image.DecompressionBombError as error:
        raise UnreadableFrameError(path, f"it is too large ({error})") from error
    except (OSError, ValueError) as error:
        raise UnreadableFrameError(path) from error
    if pictures > 1:
        raise UnreadableFrameError(path, f"it holds {pictures} pictures; write each into its own file")
    picture = decode_picture(data, cv2.IMREAD_COLOR_RGB)
    if picture is None and _lacks_only_its_end(data):
        picture = decode_picture(data + END, cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise UnreadableFrameError(path)
    return picture


def decode_picture(data: bytes | np.ndarray, flags: int) -> np.ndarray | None:
    """Returns the picture in the content of a file, or None if it is damaged or cut off.

    Args:
        data: content of the file. OpenCV refuses a JPEG that is cut off here, but not if it reads the file by itself.
        flags: of OpenCV, e.g. `cv2.IMREAD_COLOR_RGB`.
    """
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _lacks_only_its_end(data: bytes) -> bool:
    """Returns whether a file is a JPEG of which all pixels are present, but not the two bytes at the end.

    Some programs do not write these bytes. A decoder skips other bytes that follow the last pixel. If a pixel is
    missing, the decoder takes these bytes for it, and the picture changes.
    """
    try:
        files = (io.BytesIO(data + more + END) for more in (b"", b"\xaa" * 64))
        picture, with_more = (np.asarray(Image.open(file, formats=["JPEG"])) for file in files)
        return np.array_equal(picture, with_more)
    except (OSError, ValueError):
        return False
