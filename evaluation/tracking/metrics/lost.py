"""The frame at which a tracker has lost its object for good."""

import numpy as np

from evaluation.tracking.metrics.geometry import overlaps

# VOT2020 (Kristan et al., ECCV 2020 workshops) calls a tracker failed if its overlap falls to 0.1 and does not rise
# above it again in the 10 frames that follow. Here it never rises again, so nothing depends on the frame rate.
LOST_OVERLAP, LOST_FRAMES = 0.1, 10


def lost_at(predicted: np.ndarray, truth: np.ndarray, visible: np.ndarray) -> int | None:
    """Returns the frame, counted from 1, at which the object was lost for good; None if it was not.

    It is the first visible frame whose overlap is at most `LOST_OVERLAP`, and after which the overlap is not larger in
    any visible frame until the end of the video. These are `LOST_FRAMES` visible frames or more: a tracker that misses
    the object in fewer frames before the end might have found it again.

    Args:
        predicted: xywh in pixels, (m, 4). A frame without a predicted box is a miss.
        truth: xywh in pixels, (n, 4).
        visible: frames that show the object, (n,) bool.
    """
    n = min(len(predicted), len(truth))
    found = visible[:n] & (overlaps(predicted[:n], truth[:n]) > LOST_OVERLAP)
    frames, last_found = np.flatnonzero(visible), np.flatnonzero(found)[-1:]
    missed = frames[frames > last_found] if last_found.size else frames
    return int(missed[0]) + 1 if len(missed) >= LOST_FRAMES else None
