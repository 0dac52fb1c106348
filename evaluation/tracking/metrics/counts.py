"""How many frames of each sequence pass each threshold, exactly, for all sequences at once.

Every frame is sorted between the thresholds once; how many pass is a running sum over these bins.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Frames that pass each threshold, by sequence; int64.

    Attributes:
        success: by overlap, (s, 21).
        precision: by centre error in pixels, (s, t).
        normalized_precision: by centre error in units of the object's size, (s, t).
        frames: of how many, (s,).
    """

    success: np.ndarray
    precision: np.ndarray
    normalized_precision: np.ndarray
    frames: np.ndarray

    def curves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Success, precision and normalised precision: shares of frames, (t,), averaged over sequences."""
        counts = (self.success, self.precision, self.normalized_precision)
        with np.errstate(invalid="ignore", divide="ignore"):
            return tuple((passed / self.frames[:, None]).mean(0) for passed in counts)


def above(values: np.ndarray, thresholds: np.ndarray, lengths: np.ndarray, or_equal: bool = False) -> np.ndarray:
    """Frames with value > threshold, or >= it; never those that are NaN.

    Args:
        values: of all sequences one after the other, (n,).
        thresholds: ascending, (t,).
        lengths: of the sequences, (s,).
        or_equal: whether >= counts.

    Returns:
        (s, t) int64.
    """
    passed = np.searchsorted(thresholds, values, side="right" if or_equal else "left")
    passed[np.isnan(values)] = 0
    return _binned(passed, thresholds, lengths)[:, ::-1].cumsum(1)[:, -2::-1]


def within(values: np.ndarray, thresholds: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Frames with value <= threshold, never those that are NaN; see `above`."""
    return _binned(np.searchsorted(thresholds, values), thresholds, lengths).cumsum(1)[:, :-1]


def per_sequence(flags: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """How many of the flags (n,) are set in each sequence, (s,) int64."""
    return np.bincount(np.repeat(np.arange(len(lengths)), lengths)[flags], minlength=len(lengths))


def _binned(bins: np.ndarray, thresholds: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Frames by sequence and by how many thresholds lie below them, (s, t + 1)."""
    width = len(thresholds) + 1
    rows = np.repeat(np.arange(len(lengths)) * width, lengths)
    return np.bincount(rows + bins, minlength=len(lengths) * width).reshape(-1, width)
