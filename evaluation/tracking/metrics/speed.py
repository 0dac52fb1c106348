"""Frames per second, computed like in the got10k toolkit."""

import numpy as np


def speed(times: np.ndarray) -> float:
    """Returns frames per second: the mean of 1 / seconds over all frames with a positive time, NaN if there are none.

    The got10k toolkit does the same. For GOT-10k it takes the frames of all sequences and runs together. For other
    benchmarks it takes the mean over sequences of this number, without the sequences whose number is NaN. A mean of
    rates is never below frames / total seconds.

    Args:
        times: seconds per frame, of any shape. NaN, zero and negative values are ignored.
    """
    taken = times[times > 0]
    return float((1 / taken).mean()) if taken.size else float("nan")
