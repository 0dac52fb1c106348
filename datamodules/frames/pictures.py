"""Reading picture files."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pruning.errors import UserError

ORIENTATION = 0x0112  # EXIF tag; values above 4 exchange width and height when the picture is read


class UnreadableFrameError(UserError, OSError):
    """A picture or video frame that is missing or cannot be decoded; `path` names it."""

    def __init__(self, path: Path):
        super().__init__(
            f"cannot read the frame {path}: missing, empty or damaged. Copy it again, or drop its sequence"
        )
        self.path = path


def read_picture(path: Path) -> np.ndarray:
    """Returns a picture as RGB (H, W, 3) uint8.

    Raises:
        UnreadableFrameError: the file is missing or cannot be decoded.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise UnreadableFrameError(path)
    return picture


def picture_size(path: Path) -> tuple[int, int]:
    """Returns the (width, height) of a picture without decoding it.

    Raises:
        UnreadableFrameError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(ORIENTATION, 1) > 4
            return picture.size[::-1] if turned else picture.size
    except OSError as error:
        raise UnreadableFrameError(path) from error
