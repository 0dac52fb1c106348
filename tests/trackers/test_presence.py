"""Calibration of a tracker's evidence, and the state that the online loop reports."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import CONF
from tests.trackers.opened import Opened
from trackers import load_checkpoint
from trackers.crops import CropSpec
from trackers.errors import TrackerError
from trackers.online import Lockstep, OnlineTracker
from trackers.presence import LOST, TRACKED, UNCALIBRATED, UNCERTAIN, Presence
from trackers.rules import Answer, Online, OnlineRules
from trackers.stark.graphs import _evidence

CALIBRATION = Presence(half=0.25, slope=2.0, tracked=0.8, lost=0.2)


def test_odds_are_a_power_of_the_evidence():
    assert CALIBRATION.probability(0.25) == pytest.approx(0.5)
    for evidence in (0.01, 0.2, 0.9, 1.3):
        odds = (evidence / 0.25) ** 2
        assert CALIBRATION.probability(evidence) == pytest.approx(odds / (1 + odds))


def test_no_evidence_overflows():
    steep = Presence(half=0.5, slope=1e5, tracked=0.8, lost=0.2)
    assert [steep.probability(e) for e in (-1, 0, 1e-300, 0.499, 0.501, 1e300)] == pytest.approx([0, 0, 0, 0, 1, 1])
    assert Presence(half=100.0, slope=1.0, tracked=0.8, lost=0.2).probability(5e-324) == pytest.approx(0)


@pytest.mark.parametrize(
    ("presence", "state"),
    [(0.0, LOST), (0.19, LOST), (0.2, UNCERTAIN), (0.79, UNCERTAIN), (0.8, TRACKED), (1.0, TRACKED)],
)
def test_two_thresholds_make_three_states(presence, state):
    assert CALIBRATION.state(presence) == state


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"half": 0.0}, r"tracker\.online\.presence\.half=0\.0 must be above 0"),
        ({"slope": -1.0}, r"tracker\.online\.presence\.slope=-1\.0 must be above 0"),
        ({"slope": float("nan")}, r"slope=nan must be above 0"),
        ({"lost": 0.9}, r"lost=0\.9 and tracked=0\.8 must satisfy 0 <= lost <= tracked <= 1"),
        ({"tracked": 1.1}, r"tracked=1\.1 must satisfy"),
        ({"lost": -0.1}, r"lost=-0\.1 and"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(changed, words):
    with pytest.raises(TrackerError, match=words):
        Presence(**{"half": 0.25, "slope": 2.0, "tracked": 0.8, "lost": 0.2} | changed)


# The online loop

PICTURE, BOX = np.zeros((60, 80, 3), np.uint8), (20.0, 20.0, 20.0, 10.0)


class Telling(OnlineRules):
    """Rules that find the box where it was, and tell the evidence of one frame after the other."""

    def start(self, runtime, template):
        return [0.9, 0.25, 0.02, -0.1]

    def step(self, runtime, state, search):
        return Answer(np.array(search.target), 0.7, state.pop(0))


def telling(presence: Presence | None) -> Opened:
    online = Online(min_size=4.0, size_smoothing=0.0, presence=presence)
    return Opened(Telling(CropSpec(32, 4.0), CropSpec(32, 4.0), online))


def test_the_state_follows_the_evidence_and_neither_box_nor_score_does():
    tracker = OnlineTracker(telling(CALIBRATION))
    assert (tracker.box, tracker.presence, tracker.state) == (None, None, None)
    tracker.init(PICTURE, BOX)
    assert (tracker.presence, tracker.state) == (1, TRACKED)
    for evidence, state in ((0.9, TRACKED), (0.25, UNCERTAIN), (0.02, LOST), (-0.1, LOST)):
        box, score = tracker.update(PICTURE)
        assert box == pytest.approx(BOX)
        assert score == 0.7
        assert tracker.presence == CALIBRATION.probability(evidence)
        assert tracker.state == state
    tracker.init(PICTURE, BOX)
    assert tracker.state == TRACKED


def test_targets_of_one_loop_have_states_of_their_own():
    loop = Lockstep(telling(None))
    early = loop.begin(PICTURE, BOX)
    for _ in range(2):
        loop.advance([early], [PICTURE])
    late = loop.begin(PICTURE, BOX)
    loop.advance([late, early], [PICTURE, PICTURE])
    assert math.isnan(loop.begin(PICTURE, BOX).evidence)
    assert [target.evidence for target in (late, early)] == [0.9, 0.02]
    assert [target.presence for target in (late, early)] == [UNCALIBRATED.probability(e) for e in (0.9, 0.02)]
    assert [target.state for target in (late, early)] == [TRACKED, LOST]


# Recipes


@pytest.mark.parametrize("name", ["ostrack", "stark", "dimp"])
def test_a_recipe_calibrates_and_one_without_has_the_default(name):
    file = CONF.parent / "weights" / f"{name}_tiny.safetensors"
    recipe = load_checkpoint(file).recipe
    calibration = {"half": 0.125, "slope": 2.0, "tracked": 0.75, "lost": 0.25}
    for settings in (None, {"_target_": "trackers.presence.Presence", **calibration}):
        given = recipe | {"online": recipe["online"] | {"presence": settings}}
        tracker = load_checkpoint(file, given).tracker
        wanted = Presence(**calibration) if settings else tracker.default_presence()
        assert tracker.rules().online.presence == Lockstep(tracker).calibration == wanted
        assert replace(tracker.online, presence=None).presence is None
    with pytest.raises(TrackerError, match=r"tracker\.online\.presence"):
        load_checkpoint(file, recipe | {"online": recipe["online"] | {"presence": {"half": 0.5}}})


# STARK's evidence


def test_corners_that_may_be_in_n_cells_have_the_evidence_1_over_n():
    corners = torch.full((1, 2, 16), -math.inf).masked_fill(torch.arange(16) % 4 == 1, math.log(1 / 4))
    corners = corners.clamp(min=-200)  # the least that a log softmax of single precision gives
    assert _evidence({"corners": corners}).tolist() == pytest.approx([0.25])
    corners[0, 0] = torch.full((16,), -200.0).index_fill(0, torch.tensor([3]), 0.0)
    assert _evidence({"corners": corners}).tolist() == pytest.approx([0.5])  # the geometric mean of 1 and 1 / 4


def test_the_evidence_of_a_class_head_is_its_odds_and_finite():
    found = {"class_logit": torch.tensor([0.0, math.log(3), 500.0, -500.0])}
    odds = _evidence(found)
    assert odds[:2].tolist() == pytest.approx([1, 3])
    assert odds.half().isfinite().all()
