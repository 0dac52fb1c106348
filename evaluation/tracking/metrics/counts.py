"""Exact numbers of frames that pass each threshold, by sequence.

Each frame is sorted into a bin between two thresholds once. A cumulative sum over the bins then gives the counts of
all thresholds.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Frames that pass each threshold, by sequence, int64.

    Attributes:
        success: frames by overlap threshold, (s, 21).
        precision: frames by centre error threshold in pixels, (s, t).
        normalized_precision: frames by centre error threshold in units of the object's size, (s, t).
        frames: the frames that count, (s,).
    """

    success: np.ndarray
    precision: np.ndarray
    normalized_precision: np.ndarray
    frames: np.ndarray

    def curves(self) -> list[np.ndarray]:
        """Returns success, precision and normalised precision: shares of frames, (t,), averaged over sequences."""
        return [curves.mean(0) for curves in self.sequence_curves()]

    def sequence_curves(self) -> list[np.ndarray]:
        """Returns the shares of frames of each sequence, (s, t): success, precision and normalised precision."""
        counts = (self.success, self.precision, self.normalized_precision)
        with np.errstate(invalid="ignore", divide="ignore"):
            return [passed / self.frames[:, None] for passed in counts]


def count_above(values: np.ndarray, thresholds: np.ndarray, lengths: np.ndarray, or_equal: bool = False) -> np.ndarray:
    """Counts the frames whose value is above each threshold. NaN is above none.

    Args:
        values: of all sequences, one after the other, (n,).
        thresholds: ascending, (t,).
        lengths: of the sequences, (s,).
        or_equal: whether a value equal to the threshold counts.

    Returns:
        (s, t) int64.
    """
    passed = np.searchsorted(thresholds, values, side="right" if or_equal else "left")
    passed[np.isnan(values)] = 0
    return _count_bins(passed, thresholds, lengths)[:, ::-1].cumsum(1)[:, -2::-1]


def count_at_most(values: np.ndarray, thresholds: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Counts the frames whose value is at most each threshold, never NaN; arguments as in `count_above`."""
    return _count_bins(np.searchsorted(thresholds, values), thresholds, lengths).cumsum(1)[:, :-1]


def count_flags(flags: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Counts the flags (n,) that are set in each sequence, (s,) int64."""
    return np.bincount(np.repeat(np.arange(len(lengths)), lengths)[flags], minlength=len(lengths))


def _count_bins(bins: np.ndarray, thresholds: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Counts frames by sequence and by the number of thresholds below them, (s, t + 1)."""
    width = len(thresholds) + 1
    rows = np.repeat(np.arange(len(lengths)) * width, lengths)
    return np.bincount(rows + bins, minlength=len(lengths) * width).reshape(-1, width)
