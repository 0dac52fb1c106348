"""The frame at which a tracker lost its object for good."""

import numpy as np
import pytest

from evaluation.tracking.metrics.lost import LOST_FRAMES, lost_at

TRUTH = np.tile([10.0, 10, 20, 20], (30, 1))
AWAY = [500.0, 500, 20, 20]
ALL = np.ones(30, bool)


def missing(frames) -> np.ndarray:
    """Boxes that are right, but far away in some frames."""
    boxes = TRUTH.copy()
    boxes[list(frames)] = AWAY
    return boxes


@pytest.mark.parametrize(
    ("missed", "wanted"),
    [
        ([], None),
        (range(12, 30), 13),  # frames are counted from 1
        (range(1, 30), 2),
        (range(3, 29), None),  # found again in the last frame
        ([3, 4, *range(15, 30)], 16),
        (range(30 - LOST_FRAMES, 30), 31 - LOST_FRAMES),
        (range(31 - LOST_FRAMES, 30), None),  # too few frames to tell
    ],
)
def test_lost_until_the_end(missed, wanted):
    assert lost_at(missing(missed), TRUTH, ALL) == wanted


def test_only_frames_that_show_the_object_count():
    visible = ALL.copy()
    visible[[12, 13, 29]] = False
    assert lost_at(missing(range(12, 29)), TRUTH, visible) == 15  # the box of frame 30 is right, and says nothing
    visible[20:] = False
    assert lost_at(missing(range(12, 29)), TRUTH, visible) is None  # six frames show the object after frame 14


def test_overlaps_up_to_a_tenth_are_misses_and_so_are_missing_and_nan_boxes():
    beside = TRUTH + [0, 0, 0, 180]  # ten times as high
    assert lost_at(np.concatenate([TRUTH[:9], beside[9:]]), TRUTH, ALL) == 10
    assert lost_at(TRUTH[:9], TRUTH, ALL) == 10
    assert lost_at(np.concatenate([TRUTH[:9], TRUTH[9:] * np.nan]), TRUTH, ALL) == 10
    assert lost_at(np.concatenate([TRUTH, TRUTH]), TRUTH, ALL) is None
