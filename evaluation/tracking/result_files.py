"""Result files of a sequence: the predicted boxes, the seconds per frame, and the reported presence of the object.

Only boxes and times belong to a complete track: results of other trackers and of earlier versions have no presence.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datamodules.errors import DataError
from datamodules.sequences.annotations import read_numbers
from evaluation.files import atomic_write
from evaluation.tracking.metrics import Track
from evaluation.tracking.metrics.presence import PresenceTrack, found_mask
from trackers.presence import STATES

if TYPE_CHECKING:
    from datamodules.sequences.sequence import Sequence
    from datamodules.sequences.table import SequenceTable


# Behind the name of a sequence in the names of its other two files.
TIMES, PRESENCE = "_time", "_presence"


def check_names(names: Iterable[str]) -> None:
    """Checks that each sequence gets files of its own.

    Raises:
        DataError: the times or the presence of one sequence would replace the boxes of another one.
    """
    names = set(names)
    replaced = sorted(
        (name, f"{name}{kind}") for name in names for kind in (TIMES, PRESENCE) if f"{name}{kind}" in names
    )
    if replaced:
        name, other = replaced[0]
        raise DataError(f"the sequences {name} and {other} would write the same file {other}.txt; rename one of them")


def save_track(
    folder: Path, sequence: "Sequence", boxes: np.ndarray, seconds: np.ndarray, presence: np.ndarray | None = None
) -> None:
    """Writes `<sequence>_time.txt`, `<sequence>_presence.txt` and at last `<sequence>.txt`.

    All writes are atomic. So a file of boxes always has the other files beside it.

    Args:
        folder: of the result files.
        sequence: the sequence of n frames.
        boxes: (n, 4) xywh, written with 3 decimals.
        seconds: (n,).
        presence: presence and index of the state in `STATES`, (n, 2), written with 6 and 0 decimals; None if the
            tracker does not report them, and then there is no file.
    """
    for path, rows, form in (
        (_times(folder, sequence), seconds[:, None], "%.6f"),
        (_presence(folder, sequence), presence, ("%.6f", "%d")),
        (_boxes(folder, sequence), boxes, "%.3f"),
    ):
        if rows is None:
            path.unlink(missing_ok=True)  # of a track that these results replace
            continue
        with atomic_write(path) as unfinished:
            np.savetxt(unfinished, rows, fmt=form, delimiter=",")


def result_paths(folder: Path, sequence: "Sequence") -> tuple[Path, Path, Path]:
    """Returns the paths of the result files in the order in which they are written; presence may have no file."""
    return _times(folder, sequence), _presence(folder, sequence), _boxes(folder, sequence)


def tracking_progress(folder: Path, sequences: "SequenceTable") -> str:
    """Returns in words how many of the sequences have complete result files; "" if none has."""
    done = sum(is_tracked(folder, sequence) for sequence in sequences)
    return f"{done} of {len(sequences)} sequences" if done else ""


def is_tracked(folder: Path, sequence: "Sequence") -> bool:
    """Returns whether boxes and times of the sequence are complete, and its presence, if there is any."""
    try:
        read_track(folder, sequence)
        _read_presence(folder, sequence)
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


def read_presence(folder: Path, sequence: "Sequence") -> PresenceTrack | None:
    """Reads the presence and the state of each frame beside the annotation; None if the tracker did not report them.

    Raises:
        DataError: see `read_track`; or the file of presence is damaged, or does not have one row for each frame.
    """
    rows = _read_presence(folder, sequence)
    if rows is None:
        return None
    boxes, _ = read_track(folder, sequence)
    return PresenceTrack(*rows, sequence.visible, found_mask(boxes, sequence.boxes, sequence.visible))


def _read_presence(folder: Path, sequence: "Sequence") -> tuple[np.ndarray, np.ndarray] | None:
    """Reads the presence (n,) and the state (n,) of each frame; None if there is no file."""
    path = _presence(folder, sequence)
    if not path.is_file():
        return None
    presence, state = read_result(path, columns=2).T
    if len(presence) != len(sequence):
        raise DataError(f"{path} has {len(presence)} rows for {len(sequence)} frames: track this sequence again")
    if not (((presence >= 0) & (presence <= 1)).all() and np.isin(state, range(len(STATES))).all()):
        raise DataError(
            f"{path} must hold a presence from 0 to 1 and a state from 0 to {len(STATES) - 1} in each row: track this "
            "sequence again"
        )
    return presence, state.astype(int)


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


def _presence(folder: Path, sequence: "Sequence") -> Path:
    return folder / f"{sequence.name}{PRESENCE}.txt"
