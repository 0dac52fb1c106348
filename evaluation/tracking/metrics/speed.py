"""Frames per second, as the got10k toolkit computes them."""

import numpy as np


def speed(times: np.ndarray) -> float:
    """Frames per second: the mean of 1 / seconds over all frames that took a positive time, NaN if none did.

    So does the got10k toolkit: for GOT-10k over the frames of all sequences and runs together, for other benchmarks the
    mean over sequences of this, without those where it is NaN. A mean of rates is optimistic: frames / seconds is less.

    Args:
        times: seconds a frame, of any shape; NaN, 0 and less are left out.
    """
    taken = times[times > 0]
    return float((1 / taken).mean()) if taken.size else float("nan")
