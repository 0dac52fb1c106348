"""A tracker whose weights or answers are not finite fails in the frame where it shows, and no clipping hides it."""

import math

import numpy as np
import pytest
from torch import Tensor

from evaluation.tracking.open_loop import open_loop
from tests.conftest import CONF
from tests.trackers.opened import Opened
from tests.trackers.test_lockstep import video
from trackers import load_tracker
from trackers.crops import CropSpec
from trackers.errors import TrackerError
from trackers.online import Lockstep, OnlineTracker
from trackers.rules import Answer, Crop, Online, OnlineRules

TRACKERS = ("ostrack", "stark", "dimp")
BOX = (30.0, 20.0, 24.0, 18.0)
FRAMES = video(0, (72, 96), BOX, 0, 4).frames
NAN, INF = math.nan, math.inf


def load(name: str) -> OnlineTracker:
    return load_tracker(CONF.parent / "weights" / f"{name}_tiny.safetensors")


def tensors(tracker: OnlineTracker) -> dict[str, Tensor]:
    state = tracker.tracker.network.state_dict()
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", TRACKERS)
def test_weights_that_are_not_finite(name, value):
    online = load(name)
    for tensor in tensors(online).values():
        tensor.fill_(value)
    online.init(FRAMES[0], BOX)
    with pytest.raises(TrackerError, match=r"frame 2: the tracker finds the box .* not finite"):
        online.update(FRAMES[1])
    assert online.box == BOX


@pytest.mark.attack
@pytest.mark.parametrize("name", TRACKERS)
def test_a_single_nan_in_any_tensor(name):
    online = load(name)
    for tensor in tensors(online).values():
        healthy = tensor.clone()
        tensor.view(-1)[0] = NAN
        online.init(FRAMES[0], BOX)
        with pytest.raises(TrackerError, match="not finite"):
            _ = [online.update(frame) for frame in FRAMES[1:]]
        tensor.copy_(healthy)


class Saying(OnlineRules):
    """Rules that give one answer after the other."""

    def __init__(self, *answers: tuple):
        super().__init__(CropSpec(32, 4.0), CropSpec(32, 4.0), Online(min_size=4.0, size_smoothing=0.5))
        object.__setattr__(self, "answers", list(answers))

    def start(self, runtime: None, template: Crop) -> str:
        return "state"

    def step(self, runtime: None, state: str, search: Crop) -> Answer:
        box, score, *evidence = self.answers.pop(0)
        return Answer(np.array(box), score, *(evidence or [0.5]))


def says(*answers: tuple) -> Opened:
    """Returns a tracker that gives one answer after the other."""
    return Opened(Saying(*answers))


GOOD = ([0.5, 0.5, 0.2, 0.2], 1.0)
BAD = [([*GOOD[0][:i], value, *GOOD[0][i + 1 :]], 1.0) for i in range(4) for value in (NAN, INF, -INF)]
BAD += [(GOOD[0], value) for value in (NAN, INF, -INF)]
BAD += [(*GOOD, value) for value in (NAN, INF, -INF)]  # evidence


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_the_frame_is_named_and_the_box_stays(bad):
    online = OnlineTracker(says(GOOD, GOOD, bad, GOOD))
    online.init(FRAMES[0], BOX)
    online.update(FRAMES[1])
    box, _ = online.update(FRAMES[2])
    with pytest.raises(TrackerError, match="frame 4: the tracker finds"):
        online.update(FRAMES[3])
    assert online.box == box
    assert all(math.isfinite(v) for v in online.update(FRAMES[3])[0])


def test_in_lockstep_no_box_is_changed():
    loop = Lockstep(says(GOOD, BAD[0]))
    targets = [loop.begin(FRAMES[0], BOX) for _ in range(2)]
    with pytest.raises(TrackerError, match="frame 2"):
        loop.advance(targets, FRAMES[:2])
    assert [target.box for target in targets] == [BOX, BOX]


def test_the_open_loop_metric_names_sequence_and_frame(got10k):
    from datamodules.readers import read_got10k

    sequences = list(read_got10k(got10k, "val"))
    with pytest.raises(TrackerError, match=f"{sequences[0].name}, frame 2: the tracker finds"):
        open_loop(Lockstep(says(BAD[0])), sequences)
