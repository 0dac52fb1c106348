"""Adds restart markers to JPEG files without loss, so that `datamodules.frames.jpeg` cuts any part out of them."""

import shutil
import subprocess

import cv2
import numpy as np

from datamodules.errors import DataError
from datamodules.frames.jpeg import JPEGLayout, read_layout, whole_reason
from datamodules.frames.pictures import decode_picture

TOOL = "jpegtran"
INTERVAL = 8  # MCUs between two markers: more markers allow closer cuts, and make files larger
PREPARED = "has these restart markers already"


class KeptFileError(DataError):
    """A JPEG file that must stay as it is; `reason` says why."""

    def __init__(self, reason: str):
        super().__init__(f"the file must stay as it is: {reason}")
        self.reason = reason


def find_jpegtran() -> str:
    """Returns the path of the program jpegtran.

    Raises:
        DataError: it is not installed.
    """
    path = shutil.which(TOOL)
    if path is None:
        raise DataError(
            f"the program {TOOL} is missing; it belongs to libjpeg-turbo: `apt-get install libjpeg-turbo-progs`, "
            "`brew install jpeg-turbo` or `conda install libjpeg-turbo`"
        )
    return path


def add_restart_markers(data: bytes, jpegtran: str, decodes: bool) -> bytes:
    """Returns a JPEG file with restart markers, which come at the same places in each row of MCUs.

    Args:
        data: content of the file.
        jpegtran: path of the program.
        decodes: whether all pixels are decoded before and after, and compared. The headers are always compared.

    Raises:
        KeptFileError: the file is damaged, cannot be decoded in part, has these markers, or did not stay the same.
    """
    layout = read_layout(data)
    if layout is None:
        raise KeptFileError(whole_reason(data))
    interval = suitable_interval(layout)
    if layout.restart_interval == interval:
        raise KeptFileError(PREPARED)
    command = [jpegtran, "-copy", "all", "-restart", f"{interval}B"]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode or done.stderr:  # it also warns of damage that it repairs
        raise KeptFileError("damaged")
    if not _same_headers(layout, read_layout(done.stdout), interval):
        raise KeptFileError("jpegtran changed its headers")
    if decodes and not _same_pixels(data, done.stdout):
        raise KeptFileError("jpegtran changed its pixels, or OpenCV cannot read it")
    return done.stdout


def suitable_interval(layout: JPEGLayout) -> int:
    """Returns the number of MCUs between two markers: the smallest divisor of a row that is at least `INTERVAL`."""
    across = -(-layout.width // layout.mcu_width)
    return next((count for count in range(INTERVAL, across) if across % count == 0), across)


def _same_headers(old: JPEGLayout, new: JPEGLayout | None, interval: int) -> bool:
    if new is None or new.restart_interval != interval:
        return False
    return all(getattr(old, side) == getattr(new, side) for side in ("height", "width", "mcu_height", "mcu_width"))


def _same_pixels(old: bytes, new: bytes) -> bool:
    before, after = (decode_picture(data, cv2.IMREAD_UNCHANGED) for data in (old, new))
    return before is not None and after is not None and np.array_equal(before, after)
