"""What lies in a data set's folders, and what to do when it does not."""

import os
from collections.abc import Sequence as Names
from pathlib import Path

from datamodules.sequences.annotations import DataError
from datamodules.sequences.sequence import frames_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def data_root(root: str | Path, data_set: str, needs: str) -> Path:
    """The absolute path of a data set's folder.

    Args:
        root: as configured.
        data_set: its name.
        needs: what must be in it, a path from the root.

    Raises:
        DataError: that is missing.
    """
    root = Path(root).expanduser().absolute()
    if not (root / needs).exists():
        what = needs if root.is_dir() else "the folder"
        raise DataError(
            f"no {data_set} data at {root}: {what} is missing. Set paths.data to the folder that holds "
            f"{root.name}/{needs}, e.g. paths.data=/data, or use datamodule=synthetic and benchmark=synthetic"
        )
    return root


def frames_in(folder: Path) -> Names[str]:
    """The names of a folder's pictures in order.

    Raises:
        DataError: there are none.
    """
    return frames_of(_pictures(folder))


def numbered_frames(folder: Path, first: int, last: int) -> Names[str]:
    """The names of the pictures that are numbered from `first` to `last`, of all that are in a folder.

    Raises:
        DataError: one is missing, or a number occurs twice.
    """
    names = {}
    for name in _pictures(folder):
        number = name.partition(".")[0]
        if number.isascii() and number.isdigit() and first <= int(number) <= last:
            names.setdefault(int(number), []).append(name)
    wrong = next((i for i in range(first, last + 1) if len(names.get(i, [])) != 1), None)
    if wrong is not None:
        raise DataError(
            f"{folder} must have each picture from number {first} to {last} once, and has {len(names.get(wrong, []))} "
            f"of number {wrong}: the copy is incomplete, or of another version"
        )
    return frames_of([name for same in names.values() for name in same])


def _pictures(folder: Path) -> list[str]:
    try:
        names = [name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"the folder of frames {folder} is missing: the copy is incomplete") from None
    if not names:
        raise DataError(f"{folder} has no frames ({', '.join(SUFFIXES)}): the copy is incomplete")
    return names


def check_counts(place: Path, frames: int, boxes: int) -> None:
    """Raises DataError unless every frame has a box."""
    if frames != boxes:
        raise DataError(
            f"{place} has {frames} frames and {boxes} annotated boxes: the copy is incomplete, or the annotation "
            "belongs to another sequence"
        )


def check_present(names: list[str], folders: list[Path], listed_in: str) -> None:
    """Raises DataError if a folder of frames that is listed is not there."""
    missing = [name for name, folder in zip(names, folders, strict=True) if not folder.is_dir()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(names)} sequences in {listed_in} are missing, the first is {missing[0]}: "
            "the copy is incomplete. Finish it, or list only the sequences that are there"
        )
