"""Lists the folders and frames of a data set, and says what to do if some are missing."""

import os
import re
from collections.abc import Sequence as Names
from pathlib import Path

from datamodules.errors import DataError
from datamodules.sequences.sequence import sort_frames

NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what Python shows for bytes of a file name that are no UTF-8
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def find_root(root: str | Path, data_set: str, needs: str) -> Path:
    """Returns the absolute path of a data set's folder.

    Args:
        root: folder as configured.
        data_set: name for the message.
        needs: path below the root that must exist.

    Raises:
        DataError: the path does not exist.
    """
    root = Path(root).expanduser().absolute()
    if not (root / needs).exists():
        what = needs if root.is_dir() else "the folder"
        raise DataError(
            f"no {data_set} data at {root}: {what} is missing. Set paths.data to the folder that holds "
            f"{root.name}/{needs}, e.g. paths.data=/data, or use datamodule=synthetic and benchmark=synthetic"
        )
    return root


def list_frames(folder: Path) -> Names[str]:
    """Returns the file names of all pictures in a folder, in natural order.

    Raises:
        DataError: there are no pictures.
    """
    return sort_frames(_picture_names(folder))


def list_numbered_frames(folder: Path, first: int, last: int) -> Names[str]:
    """Returns the file names of the pictures in a folder whose numbers are `first` to `last`, in order.

    Raises:
        DataError: a picture is missing, or a number occurs twice.
    """
    names = {}
    for name in _picture_names(folder):
        number = name.partition(".")[0]
        if number.isascii() and number.isdigit() and first <= int(number) <= last:
            names.setdefault(int(number), []).append(name)
    bad = next((i for i in range(first, last + 1) if len(names.get(i, [])) != 1), None)
    if bad is not None:
        raise DataError(
            f"{folder} must have each picture from number {first} to {last} once, and has {len(names.get(bad, []))} "
            f"of number {bad}: the copy is incomplete, or another version of the data set"
        )
    return sort_frames([name for same in names.values() for name in same])


def _picture_names(folder: Path) -> list[str]:
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"the folder of frames {folder} is missing: the copy is incomplete") from None
    except OSError as error:
        raise DataError(f"the folder of frames {folder} cannot be read: {error.strerror}") from error
    names = [name for name in names if name.lower().endswith(PICTURE_SUFFIXES)]
    if not names:
        raise DataError(f"{folder} has no frames ({', '.join(PICTURE_SUFFIXES)}): the copy is incomplete")
    odd = next((name for name in names if NOT_UTF8.search(name)), None)
    if odd is not None:
        raise DataError(f"{folder} has a frame {odd!r}, which is no name in UTF-8; rename it")
    return names


def check_frames_match_boxes(folder: Path, frames: int, boxes: int) -> None:
    """Raises DataError unless every frame has a box."""
    if frames != boxes:
        raise DataError(
            f"{folder} has {frames} frames and {boxes} annotated boxes: the copy is incomplete, or the annotation "
            "belongs to another sequence"
        )


def check_folders_exist(names: list[str], folders: list[Path], listed_in: str) -> None:
    """Raises DataError if a listed folder of frames does not exist."""
    missing = [name for name, folder in zip(names, folders, strict=True) if not folder.is_dir()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(names)} sequences in {listed_in} are missing, the first is {missing[0]}: "
            "the copy is incomplete. Finish it, or list only the sequences that are there"
        )
