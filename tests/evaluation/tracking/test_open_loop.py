"""The open-loop pair metric of trackers with known answers."""

import numpy as np
import pytest

from datamodules.readers import read_got10k
from evaluation.tracking.open_loop import open_loop
from tests.conftest import CONF, results
from tests.trackers.opened import Opened
from trackers.checkpoints.checkpoint import load_checkpoint
from trackers.crops import CropSpec
from trackers.online import Lockstep
from trackers.rules import Answer, Online, OnlineRules

WEIGHTS = CONF.parent / "weights"


class Answering(OnlineRules):
    """Rules of a tracker that finds the true box with its size multiplied, or repeats the box that it was given."""

    def __init__(self, sequences, times=1.0, repeats=False):
        super().__init__(CropSpec(32, 4.0), CropSpec(32, 4.0), Online(None, 0.0))
        self.__dict__.update(times=times, repeats=repeats, asked=0)
        self.__dict__["boxes"] = {round(float(s.image(i).sum())): s.boxes[i] for s in sequences for i in range(len(s))}

    def crop(self, image, box, spec):
        crop, window = OnlineRules.crop(image, box, spec)
        x, y, w, h = window.relative(self.boxes[round(float(image.sum()))])
        self.__dict__["truth"] = np.array([x + w / 2, y + h / 2, self.times * w, self.times * h])
        return crop, window

    def start(self, runtime, template):
        return "state"

    def step(self, runtime, state, search):
        assert state == "state"
        self.__dict__["asked"] += 1
        return Answer(np.array(search.target) if self.repeats else self.truth, 1.0, 1.0)


def opened(*given, **settings):
    return Lockstep(Opened(Answering(*given, **settings)))


@pytest.fixture
def sequences(got10k):
    return list(read_got10k(got10k, "val"))


def test_who_finds_the_truth_measures_sizes(sequences):
    loop = opened(sequences)
    found = open_loop(loop, sequences)
    assert found["IoU"] == pytest.approx(1, abs=1e-4)
    assert found["IoU0.5"] == found["centre"] == 1
    assert found["size_kept"] == pytest.approx(0, abs=1e-4)
    assert found["size_bias"] == pytest.approx(0, abs=1e-4)
    assert found["pairs"] == loop.rules.asked == sum(s.visible[1:].sum() for s in sequences)


def test_who_repeats_what_it_is_asked_with_keeps_sizes(sequences):
    found = open_loop(opened(sequences, repeats=True), sequences)
    assert found["size_kept"] == pytest.approx(1, abs=1e-4)
    assert found["IoU"] < 0.8


def test_sizes_are_off_by_a_known_factor(sequences):
    found = open_loop(opened(sequences, times=1.5), sequences)
    assert found["size_bias"] == pytest.approx(np.log(1.5), abs=1e-4)
    assert found["IoU"] == pytest.approx(1.5**-2, abs=1e-3)
    assert found["IoU0.5"] == 0
    assert found["centre"] == 1


def test_pairs_are_the_same_every_time_and_others_with_another_seed(sequences):
    first, again, other = (open_loop(opened(sequences, repeats=True), sequences, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_nothing_to_find_is_an_error(sequences):
    with pytest.raises(ValueError, match="no sequence shows its target"):
        open_loop(opened(sequences), [])


def test_eval_scores_pairs(run, small_checkpoint, got10k):
    outputs = run("eval", f"checkpoint={small_checkpoint}", "action=open_loop")
    (found,) = results(outputs, "open_loop.json")
    assert 0 <= found["IoU"] <= 1
    assert found["pairs"] > 0
    assert found["benchmark"] == "synthetic"
    assert "exp(0.15 N(0, 1))" in found["protocol"]["searches"]


@pytest.mark.parametrize("file", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_the_parents_that_are_here_find_their_targets(file, sequences):
    found = open_loop(Lockstep(load_checkpoint(file).tracker), sequences)
    assert found["IoU"] > 0.5
