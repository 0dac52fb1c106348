"""What a tracker leaves of a sequence, be it ours or run by another toolkit: its boxes and its times."""

from pathlib import Path

import numpy as np

from datamodules.annotations import DataError, read_numbers


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


def speed(times: np.ndarray) -> float:
    """Frames per second: the mean of 1 / seconds over all frames that took a positive time, NaN if none did.

    So does the got10k toolkit: for GOT-10k over the frames of all sequences and runs together, for other benchmarks the
    mean over sequences of this, without those where it is NaN. A mean of rates is optimistic: frames / seconds is less.

    Args:
        times: seconds a frame, of any shape; NaN, 0 and less are left out.
    """
    taken = times[times > 0]
    return float((1 / taken).mean()) if taken.size else float("nan")
