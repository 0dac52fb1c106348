"""Tests of DiMP's rules with a runtime that finds what it is told: positions, refinement, learning."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trackers.dimp.crop_spec import DiMPCropSpec
from trackers.dimp.first_frame import FirstFrame
from trackers.dimp.following import DiMPRules, Learning, OnlineState
from trackers.dimp.localisation import Flag, Thresholds
from trackers.dimp.memory import SampleMemory
from trackers.rules import Crop
from trackers.runtimes.runtime import NumPyRuntime

SIZE, STRIDE, CELLS = 160, 16, 11  # score (5, 5) lies at the centre of the crop
SETTINGS = Learning(
    min_size=None,
    size_smoothing=0.0,
    first=FirstFrame(),
    iterations={"first": 10, "update": 2, "hard_negative": 1},
    update_interval=4,
    memory=50,
    rate=0.01,
    hard_negative_rate=0.02,
    first_share=0.25,
    thresholds=Thresholds(),
    softmax=False,
    boxes=3,
    centre_jitter=0.1,
    size_jitter=0.5,
    best=2,
    max_aspect=6.0,
)


class Given(NumPyRuntime):
    """Runtime whose scores, refined boxes and ratings are given; it notes what it is asked."""

    def __init__(self, scores: np.ndarray | None = None, boxes: Any = None, ratings: Any = None):
        self.scores, self.boxes, self.ratings = scores, boxes, ratings
        self.asked: dict[str, dict[str, np.ndarray]] = {}
        self.updates: list[str] = []

    def run(self, graph: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        self.asked[graph] = inputs
        if graph in ("update", "hard_negative"):
            self.updates.append(graph)
        return getattr(self, graph)(**inputs)

    def first(self, pixels: np.ndarray, boxes: np.ndarray, factors: np.ndarray) -> dict[str, np.ndarray]:
        features = np.zeros((len(boxes), 2, 4, 4), np.float32)
        return {"features": features, "filter": np.ones(1), "vector0": np.full(1, 3.0), "cells": np.full(1, 4.0)}

    def search(self, pixels: np.ndarray, filter: np.ndarray) -> dict[str, np.ndarray]:
        return {"scores": self.scores, "features": np.full((1, 2, 4, 4), 5.0), "map0": np.full(1, 6.0)}

    def refine(self, starts: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        refined = starts[:1] if self.boxes is None else np.array(self.boxes, np.float32)
        ratings = np.ones(len(refined)) if self.ratings is None else np.array(self.ratings)
        return {"boxes": refined, "ratings": ratings}

    def update(self, filter: np.ndarray, **samples: np.ndarray) -> dict[str, np.ndarray]:
        return {"new_filter": filter + 2}

    def hard_negative(self, filter: np.ndarray, **samples: np.ndarray) -> dict[str, np.ndarray]:
        return {"new_filter": filter + 1}

    @property
    def starts(self) -> np.ndarray:
        return self.asked["refine"]["starts"]


def rules_of(compat: str = "exact", **changes: Any) -> DiMPRules:
    template, search = DiMPCropSpec(SIZE, 4.0, expansion=2), DiMPCropSpec(SIZE, 4.0)
    return DiMPRules(template, search, replace(SETTINGS, **changes), compat, STRIDE, channels=2, correlation=True)


def state_of(runtime: Given, uniform: Callable[[int, int], np.ndarray] | None = None) -> OnlineState:
    """Returns a state with one sample of the first frame."""
    memory = SampleMemory(runtime, np.zeros((1, 2, 4, 4)), np.zeros((1, 4)), SETTINGS.memory)
    return OnlineState(np.zeros(1), memory, {"vector0": np.full(1, 3.0)}, uniform or DiMPRules.random_numbers())


def crop(target: tuple[float, ...] = (0.5, 0.5, 0.2, 0.1)) -> Crop:
    """Returns a search crop in a picture that is larger by a crop's side on all sides."""
    pixels, padding = np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((2, SIZE), bool)
    return Crop(pixels, padding, target=target, picture=(-1.0, -1, 2, 2))


def peak(row: int, column: int, height: float = 0.8) -> np.ndarray:
    scores = np.full((CELLS, CELLS), -0.1, np.float32)
    scores[row, column] = height
    return scores


def found(runtime: Given, search: Crop | None = None, **changes: Any) -> tuple[Any, OnlineState]:
    """Returns the answer to a search crop, and the state after it."""
    state = state_of(runtime)
    return rules_of(**changes).step(runtime, state, search or crop()), state


def refined(
    runtime: Given, box: list[float], compat: str = "exact", uniform: Any = None, **changes: Any
) -> list[float]:
    state = state_of(runtime, uniform)
    return rules_of(compat, **changes).refined(runtime, state, {}, np.array(box, np.float32)).tolist()


def test_rules_need_no_pytorch() -> None:
    code = "import sys; sys.modules['torch'] = None; import trackers.dimp.following; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "trackers.dimp.localisation" in done.stdout


# First frame


def test_the_first_box_lies_where_the_first_sample_shows_it() -> None:
    """The first frame's crop is larger than a sample, which shows its middle."""
    side, runtime = SIZE + 64, Given()
    template = Crop(np.zeros((side, side, 3), np.uint8), np.zeros((2, side), bool), target=(0.5, 0.25, 0.2, 0.1))
    state = rules_of().start(runtime, template)
    count, copies = SETTINGS.first.count, SETTINGS.first.copies
    w, h = 0.2 * side, 0.1 * side
    assert state.memory.boxes[0].tolist() == pytest.approx([SIZE / 2 - w / 2, side / 4 - 32 - h / 2, w, h], rel=1e-5)
    assert runtime.asked["first"]["pixels"].shape == (count - copies, SIZE, SIZE, 3)
    assert runtime.asked["first"]["factors"].shape == (copies, 2)
    assert runtime.asked["first"]["boxes"].tolist() == state.memory.boxes[:count].tolist()
    assert len(state.memory) == count == np.count_nonzero(state.memory.weights)
    assert float(state.filter[0]) == 1
    assert list(state.reference) == ["vector0", "cells"]


def test_without_copies_nothing_is_dropped() -> None:
    runtime = Given()
    runtime.first = lambda pixels, boxes: Given.first(runtime, pixels, boxes, np.empty(0))
    rules_of(first=FirstFrame(copies=0)).start(runtime, crop())
    assert set(runtime.asked["first"]) == {"pixels", "boxes"}


# Positions


def test_the_box_lies_at_the_highest_score() -> None:
    """Column 7 is two cells to the right of the centre, row 4 is one cell above it."""
    runtime = Given(peak(4, 7))
    answer, _ = found(runtime)
    assert runtime.starts[0].tolist() == pytest.approx([80 + 32 - 16, 80 - 16 - 8, 32, 16])
    assert answer.box.tolist() == pytest.approx([112 / 160, 64 / 160, 0.2, 0.1])
    assert answer.score == answer.evidence == pytest.approx(0.8)


def test_refinement_gets_the_crop_and_the_reference() -> None:
    runtime = Given(peak(5, 5))
    found(runtime)
    asked = runtime.asked["refine"]
    assert {name: float(asked[name].flat[0]) for name in ("vector0", "features", "map0")} == {
        "vector0": 3,
        "features": 5,
        "map0": 6,
    }
    rules = replace(rules_of(), correlation=False)
    rules.step(runtime, state_of(runtime), crop())
    assert set(runtime.asked["refine"]) == {"starts", "vector0", "map0"}


@pytest.mark.parametrize(("height", "score"), [(0.8, 0.8), (3.0, 1.0), (0.1, 0.1), (-0.05, 0.0)])
def test_scores_are_shares(height: float, score: float) -> None:
    assert found(Given(peak(5, 5, height)))[0].score == pytest.approx(score)


def test_a_lost_target_keeps_its_box_and_nothing_is_learned() -> None:
    runtime = Given(peak(4, 7, 0.2))
    answer, state = found(runtime, crop((0.4, 0.7, 0.2, 0.1)))
    assert answer.box.tolist() == pytest.approx([0.4, 0.7, 0.2, 0.1])
    assert answer.score == pytest.approx(0.2)
    assert (state.flag, state.frame, len(state.memory), list(runtime.asked)) == (Flag.NOT_FOUND, 1, 1, ["search"])


def test_a_target_is_held_back_at_the_edge_of_the_picture() -> None:
    """The picture ends at 0.6 of the crop; a fifth of the target stays in it."""
    runtime = Given(peak(5, 10))
    found(runtime, crop()._replace(picture=(-1.0, -1, 0.6, 2)))
    assert runtime.starts[0].tolist() == pytest.approx([96 + 0.3 * 32 - 16, 80 - 8, 32, 16])


@pytest.mark.parametrize(("target", "column"), [((0.05, 0.5, 0.2, 0.1), 0), ((0.95, 0.5, 0.2, 0.1), 10)])
def test_of_two_similar_peaks_the_one_near_the_last_position_is_the_target(target: tuple, column: int) -> None:
    scores = peak(5, 0, 0.8)
    scores[5, 10] = 0.79
    runtime = Given(scores)
    _, state = found(runtime, crop(target))
    assert state.flag is Flag.HARD_NEGATIVE
    assert float(runtime.starts[0, 0]) + 16 == pytest.approx(80 + 16 * (column - 5))


@pytest.mark.parametrize(("height", "flag"), [(0.4, Flag.NORMAL), (0.5, Flag.HARD_NEGATIVE)])
def test_a_peak_belongs_to_the_target_by_the_targets_own_height_and_width(height: float, flag: Flag) -> None:
    """The target is 2 cells wide and 1 cell high: 2 cells beside the peak belong to it, but not 2 cells below it."""
    scores = peak(5, 5, 0.8)
    scores[5, 7] = 0.79
    scores[7, 5] = height
    assert found(Given(scores))[1].flag is flag


# Refinement


def test_random_boxes_are_as_far_as_said() -> None:
    """Noise is counted in mean sides, here sqrt(40 * 10) = 20; sides stay above a third of the smaller side."""
    runtime = Given()
    numbers = np.array([[1.0, 0, 0.5, 0.5], [0.5, 0.5, 0, 1], [0.25, 0.5, 1, 0.0]], np.float32)
    refined(runtime, [20.0, 30, 40, 10], uniform=lambda rows, columns: numbers)
    centres, extents = runtime.starts[:, :2] + runtime.starts[:, 2:] / 2, runtime.starts[:, 2:]
    assert runtime.starts[0].tolist() == [20, 30, 40, 10]
    np.testing.assert_allclose(centres, [[40.0, 35], [41, 34], [40, 35], [39.5, 35]], rtol=1e-6)
    np.testing.assert_allclose(extents, [[40.0, 10], [40, 10], [35, 15], [45, 5]], rtol=1e-6)
    numbers[:, 3] = 0
    refined(runtime, [20.0, 30, 40, 10], uniform=lambda rows, columns: numbers, size_jitter=1.5)
    assert runtime.starts[1:, 3].tolist() == pytest.approx([10 / 3] * 3)


@pytest.mark.parametrize(("best", "expected"), [(1, [3, 3, 30, 30]), (2, [2, 2, 20, 20]), (9, [2, 2, 20, 20])])
def test_the_result_is_the_mean_of_the_best_boxes(best: int, expected: list[float]) -> None:
    boxes = [[1.0, 1, 10, 10], [3, 3, 30, 30]]
    assert refined(Given(boxes=boxes, ratings=[0.1, 0.2]), [0.0, 0, 5, 5], best=best) == expected


def test_boxes_that_are_too_flat_or_too_narrow_are_dropped() -> None:
    boxes = [[1.0, 1, 59, 10], [2, 2, 60, 10], [3, 3, 10, 60], [5, 5, 10, 59]]
    runtime = Given(boxes=boxes, ratings=[0.1, 0.9, 0.9, 0.2])
    assert refined(runtime, [0.0, 0, 5, 5], best=4) == [3, 3, 34.5, 34.5]
    assert refined(Given(boxes=boxes[1:3], ratings=[0.9, 0.9]), [7.0, 8, 5, 6]) == [7, 8, 5, 6]


def test_boxes_that_are_not_finite_are_told() -> None:
    boxes = [[np.nan, 1, 20, 10], [2, 2, 20, 10]]
    assert np.isnan(refined(Given(boxes=boxes[:1], ratings=[0.9]), [7.0, 8, 5, 6])).all()
    assert np.isnan(refined(Given(boxes=boxes[1:], ratings=[np.nan]), [7.0, 8, 5, 6])).all()


def test_refined_boxes_are_a_pixel_wide_at_least() -> None:
    assert refined(Given(boxes=[[4.0, 4, -3, 0.5]], ratings=[0.1]), [0.0, 0, 5, 5]) == [4, 4, 1, 1]


def test_boxes_of_the_reference_lie_half_a_pixel_further() -> None:
    for compat, x in (("exact", 4.0), ("reference", 4.5)):
        runtime = Given(boxes=[[4.0, 4, 30, 20]], ratings=[0.1])
        assert refined(runtime, [0.0, 0, 5, 5], compat) == [x, x, 30, 20]


# Learning


def test_the_filter_learns_every_few_frames_and_at_hard_negatives() -> None:
    calm, hard = peak(5, 5), peak(5, 5)
    hard[0, 0] = 0.5
    runtime, rules, rates = Given(), rules_of(), []
    state = state_of(runtime)
    add = state.memory.add
    state.memory.add = lambda features, box, rate: (rates.append(rate), add(features, box, rate))
    for frame in range(1, 9):
        runtime.scores = hard if frame in (3, 8) else calm
        rules.step(runtime, state, crop())
    assert rates == [0.01, 0.01, 0.02, 0.01, 0.01, 0.01, 0.01, 0.02]
    assert runtime.updates == ["hard_negative", "update", "hard_negative"]  # frames 3, 4 and 8
    assert float(state.filter[0]) == 4
    assert runtime.asked["update"]["features"].shape == (SETTINGS.memory, 2, 4, 4)
    assert (state.memory.features[1:9] == 5).all()
    assert state.memory.boxes[8].tolist() == [64, 72, 32, 16]


def test_updates_without_steps_do_not_run() -> None:
    runtime = Given(peak(5, 5))
    found(runtime, iterations={"first": 1, "update": 0, "hard_negative": 0}, update_interval=1)
    assert runtime.updates == []


def test_an_uncertain_position_is_not_learned() -> None:
    scores = peak(5, 4)
    scores[5, 8] = 0.79
    runtime = Given(scores)
    _, state = found(runtime, crop((0.5, 0.5, 0.1, 0.1)), update_interval=1)
    assert state.flag is Flag.UNCERTAIN
    assert (len(state.memory), runtime.updates) == (1, [])
