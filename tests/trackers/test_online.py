"""Tests of the online loop with a tracker that finds the truth, alone and in the got10k toolkit."""

import numpy as np
import pytest
from PIL import Image

from tests.trackers.opened import Opened
from trackers.crops import CropSpec
from trackers.online import OnlineTracker
from trackers.rules import Answer, Online, OnlineRules


class Brightest(OnlineRules):
    """Rules of a tracker that finds the bright pixels of its crop, and records its calls."""

    def start(self, runtime, template):
        return {"seen": []}

    def step(self, runtime, state, search):
        rows, columns = np.nonzero(search.pixels[..., 0] > 127)
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        return Answer(np.concatenate([(low + high) / 2, high - low]) / 64, 0.5, 0.5)

    def observe(self, runtime, state, image, box, score):
        state["seen"].append(box)


def tracker(min_size=2.0, size_smoothing=0.0):
    online = Online(min_size, size_smoothing)
    return OnlineTracker(Opened(Brightest(CropSpec(32, 2.0), CropSpec(64, 4.0), online)))


def square(x, y, w, h):
    image = np.zeros((120, 160, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    return image


def test_a_perfect_step_follows_a_moving_and_growing_object():
    online = tracker()
    online.init(square(40, 30, 20, 16), (40, 30, 20, 16))
    for t in range(1, 12):
        truth = (40 + 4 * t, 30 + 3 * t, 20 + t, 16 + t)
        box, score = online.update(Image.fromarray(square(*truth)))
        assert box == pytest.approx(truth, abs=1.5)
        assert score == 0.5
    assert len(online.target.memory["seen"]) == 11


def test_size_smoothing_holds_the_size_back():
    online = tracker(size_smoothing=0.75)
    online.init(square(40, 30, 20, 20), (40, 30, 20, 20))
    box, _ = online.update(square(38, 28, 24, 24))
    assert box[2:] == pytest.approx((21, 21), abs=0.4)
    assert (box[0] + box[2] / 2, box[1] + box[3] / 2) == pytest.approx((50, 40), abs=1)


def test_boxes_stay_in_the_picture():
    online = tracker(min_size=10.0)
    online.init(square(140, 100, 18, 18), (140, 100, 18, 18))
    x, y, w, h = online.update(square(156, 116, 4, 4))[0]
    assert w >= 10
    assert h >= 10
    assert x <= 150
    assert y <= 110
