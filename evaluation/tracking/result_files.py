"""Result files of a sequence: one file with the predicted boxes and one with the seconds per frame."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datamodules.errors import DataError
from datamodules.sequences.annotations import read_numbers
from evaluation.files import atomic_write
from evaluation.tracking.metrics import Track

if TYPE_CHECKING:
    from datamodules.sequences.sequence import Sequence
    from datamodules.sequences.table import SequenceTable


TIMES = "_time"  # behind the name of a sequence in the name of its file of times


def check_names(names: Iterable[str]) -> None:
    """Checks that each sequence gets files of its own.

    Raises:
        DataError: the times of one sequence would replace the boxes of another one.
    """
    names = set(names)
    replaced = sorted(name for name in names if f"{name}{TIMES}" in names)
    if replaced:
        raise DataError(
            f"the sequences {replaced[0]} and {replaced[0]}{TIMES} would write the same file {replaced[0]}{TIMES}.txt; "
            "rename one of them"
        )


def save_track(folder: Path, sequence: "Sequence", boxes: np.ndarray, seconds: np.ndarray) -> None:
    """Writes `<sequence>_time.txt`, (n,) seconds, and then `<sequence>.txt`, (n, 4) xywh with 3 decimals.

    Both writes are atomic. So a file of boxes always has its file of times beside it.
    """
    for path, rows, form in (
        (_times(folder, sequence), seconds[:, None], "%.6f"),
        (_boxes(folder, sequence), boxes, "%.3f"),
    ):
        with atomic_write(path) as unfinished:
            np.savetxt(unfinished, rows, fmt=form, delimiter=",")


def result_paths(folder: Path, sequence: "Sequence") -> tuple[Path, Path]:
    """Returns the paths of the two result files in the order in which they are written."""
    return _times(folder, sequence), _boxes(folder, sequence)


def tracking_progress(folder: Path, sequences: "SequenceTable") -> str:
    """Returns in words how many of the sequences have complete result files; "" if none has."""
    done = sum(is_tracked(folder, sequence) for sequence in sequences)
    return f"{done} of {len(sequences)} sequences" if done else ""


def is_tracked(folder: Path, sequence: "Sequence") -> bool:
    """Returns whether both result files of the sequence are complete."""
    try:
        read_track(folder, sequence)
    except DataError:
        return False
    return True


def read_track(folder: Path, sequence: "Sequence") -> tuple[np.ndarray, np.ndarray]:
    """Reads the boxes (n, 4) and the seconds (n,) of a complete track.

    Raises:
        DataError: a file is missing or damaged, holds NaN, or does not have one row for each frame.
    """
    boxes, seconds = read_boxes(folder, sequence), read_seconds(folder, sequence)
    for path, rows in ((_boxes(folder, sequence), boxes), (_times(folder, sequence), seconds)):
        if len(rows) != len(sequence):
            raise DataError(f"{path} has {len(rows)} rows for {len(sequence)} frames: track this sequence again")
        if not np.isfinite(rows).all():
            raise DataError(f"{path} holds NaN: track this sequence again")
    return boxes, seconds


def read_boxes(folder: Path, sequence: "Sequence") -> np.ndarray:
    """Reads the boxes (n, 4), xywh in pixels; raises the errors of `read_result`."""
    return read_result(_boxes(folder, sequence))


def read_seconds(folder: Path, sequence: "Sequence") -> np.ndarray:
    """Reads the seconds per frame (n,); raises the errors of `read_result`."""
    return read_result(_times(folder, sequence), columns=1)[:, 0]


def read_result(path: str | Path, columns: int = 4) -> np.ndarray:
    """Reads boxes, or times with one column for each run: (frames, columns) float64.

    Commas, blanks or tabs separate the numbers. Numbers may be NaN, since protocols treat NaN differently.

    Raises:
        DataError: the file is missing or empty, or one of its lines does not hold `columns` numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no result {path}: run the tracker on this sequence first")
    numbers = read_numbers(path, columns, nan=True)
    if not len(numbers):
        raise DataError(f"the result {path} is empty: track this sequence again")
    return numbers


def as_track(sequence: "Sequence", boxes: np.ndarray) -> Track:
    """Returns predicted boxes (n, 4) beside the annotation of the sequence."""
    return Track(boxes, sequence.boxes, sequence.size, sequence.cover, sequence.absent)


def _boxes(folder: Path, sequence: "Sequence") -> Path:
    return folder / f"{sequence.name}.txt"


def _times(folder: Path, sequence: "Sequence") -> Path:
    return folder / f"{sequence.name}{TIMES}.txt"
