"""Result files: what a tracker said about a sequence, one file of boxes and one of seconds."""

from pathlib import Path

import numpy as np

from datamodules.sequences.annotations import DataError, read_numbers
from datamodules.sequences.sequence import Sequence
from evaluation.files import replacing
from evaluation.tracking.metrics import Track


def save_track(folder: Path, sequence: Sequence, boxes: np.ndarray, seconds: np.ndarray) -> None:
    """Writes `<sequence>_time.txt`, (n,) seconds, and then `<sequence>.txt`, (n, 4) xywh with 3 decimals.

    Each appears as a whole, so the boxes are there only with their times.
    """
    for path, rows, form in (
        (_times(folder, sequence), seconds[:, None], "%.6f"),
        (_boxes(folder, sequence), boxes, "%.3f"),
    ):
        with replacing(path) as unfinished:
            np.savetxt(unfinished, rows, fmt=form, delimiter=",")


def is_tracked(folder: Path, sequence: Sequence) -> bool:
    """Whether there is a whole track."""
    try:
        read_whole(folder, sequence)
    except DataError:
        return False
    return True


def read_whole(folder: Path, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) and seconds (n,); raises DataError unless both have a row of finite numbers a frame."""
    boxes, seconds = read_boxes(folder, sequence), read_seconds(folder, sequence)
    for path, rows in ((_boxes(folder, sequence), boxes), (_times(folder, sequence), seconds)):
        if len(rows) != len(sequence):
            raise DataError(f"{path} has {len(rows)} rows for {len(sequence)} frames: track this sequence again")
        if not np.isfinite(rows).all():
            raise DataError(f"{path} holds NaN: track this sequence again")
    return boxes, seconds


def read_boxes(folder: Path, sequence: Sequence) -> np.ndarray:
    """(n, 4) xywh; errors as those of `read_result`."""
    return read_result(_boxes(folder, sequence))


def read_seconds(folder: Path, sequence: Sequence) -> np.ndarray:
    """(n,) seconds; errors as those of `read_result`."""
    return read_result(_times(folder, sequence), columns=1)[:, 0]


def read_result(path: str | Path, columns: int = 4) -> np.ndarray:
    """Reads boxes, or times with as many columns as there are runs: (frames, columns) float64.

    Commas, blanks or tabs may separate the numbers, and any of them may be NaN: protocols differ in what they make of
    that.

    Raises:
        DataError: a ValueError. There is no such file, it is empty, or one of its lines is anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no result {path}: the tracker has not seen this sequence")
    numbers = read_numbers(path, columns, nan=True)
    if not len(numbers):
        raise DataError(f"the result {path} is empty: track this sequence again")
    return numbers


def as_track(sequence: Sequence, boxes: np.ndarray) -> Track:
    """Boxes (n, 4) beside what is true."""
    return Track(boxes, sequence.boxes, sequence.size, sequence.cover, sequence.absent)


def _boxes(folder: Path, sequence: Sequence) -> Path:
    return folder / f"{sequence.name}.txt"


def _times(folder: Path, sequence: Sequence) -> Path:
    return folder / f"{sequence.name}_time.txt"
