"""Lists the frames of a sequence, and finds sequences of which frames are missing."""

import os
import re
from collections.abc import Sequence as Names
from pathlib import Path

from datamodules.errors import DataError, IncompleteSequenceError
from datamodules.sequences.sequence import sort_frames

NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what Python shows for bytes of a file name that are no UTF-8
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def list_frames(folder: Path) -> Names[str]:
    """Returns the file names of all pictures in a folder, in natural order.

    Raises:
        IncompleteSequenceError: there are no pictures.
        DataError: the folder cannot be read, or a name is not UTF-8.
    """
    return sort_frames(_picture_names(folder))


def list_numbered_frames(folder: Path, first: int, last: int) -> Names[str]:
    """Returns the file names of the pictures in a folder whose numbers are `first` to `last`, in order.

    Raises:
        IncompleteSequenceError: a picture is missing, or a number occurs twice.
        DataError: as for `list_frames`.
    """
    names = {}
    for name in _picture_names(folder):
        number = name.partition(".")[0]
        if number.isascii() and number.isdigit() and first <= int(number) <= last:
            names.setdefault(int(number), []).append(name)
    bad = next((i for i in range(first, last + 1) if len(names.get(i, [])) != 1), None)
    if bad is not None:
        raise IncompleteSequenceError(
            f"{folder} must have each picture from number {first} to {last} once, and has {len(names.get(bad, []))} "
            f"of number {bad}: the copy is incomplete, or another version of the data set"
        )
    return sort_frames([name for same in names.values() for name in same])


def _picture_names(folder: Path) -> list[str]:
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        raise IncompleteSequenceError(f"the folder of frames {folder} is missing: the copy is incomplete") from None
    except OSError as error:
        raise DataError(f"the folder of frames {folder} cannot be read: {error.strerror}") from error
    names = [name for name in names if name.lower().endswith(PICTURE_SUFFIXES)]
    if not names:
        raise IncompleteSequenceError(f"{folder} has no frames ({', '.join(PICTURE_SUFFIXES)}): the copy is incomplete")
    odd = next((name for name in names if NOT_UTF8.search(name)), None)
    if odd is not None:
        raise DataError(f"{folder} has a frame {odd!r}, which is no name in UTF-8; rename it")
    return names


def check_frames_match_boxes(folder: Path, frames: int, boxes: int) -> None:
    """Raises IncompleteSequenceError unless every frame has a box."""
    if frames != boxes:
        raise IncompleteSequenceError(
            f"{folder} has {frames} frames and {boxes} annotated boxes: the copy is incomplete, or the annotation "
            "belongs to another sequence"
        )
