"""Tests of DiMP's loop over frames with a network that finds what it is told: positions, refinement, learning."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from trackers.base import Crop
from trackers.dimp.first_frame import FirstFrame
from trackers.dimp.following import Learning, OnlineState
from trackers.dimp.localisation import Flag, Thresholds
from trackers.dimp.network import CropFeatures

SIZE, STRIDE, CELLS = 160, 16, 11  # score (5, 5) lies at the centre of the crop
SETTINGS = Learning(
    min_size=0,
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


class Network:
    """Network whose scores, refined boxes and ratings are given; it notes the boxes that it is asked to refine."""

    def __init__(self, scores: Tensor | None = None, boxes: Any = None, ratings: Any = None):
        self.backbone = SimpleNamespace(stride=STRIDE)
        self.classifier = SimpleNamespace(scores=lambda features, filter: scores[None, None], optimiser=self.improve)
        self.boxes, self.ratings, self.starts, self.steps = boxes, ratings, None, []

    def extract(self, crops: Tensor) -> CropFeatures:
        return CropFeatures([], crops.new_zeros(1, 2, CELLS - 1, CELLS - 1))

    def refine(self, found: CropFeatures, modulation: Any, starts: Tensor) -> tuple[Tensor, Tensor]:
        self.starts = starts.clone()
        boxes = starts[:1] if self.boxes is None else torch.tensor(self.boxes)
        return boxes, torch.ones(len(boxes)) if self.ratings is None else torch.tensor(self.ratings)

    def improve(self, filter: Tensor, features: Tensor, boxes: Tensor, steps: int, weights: Tensor) -> list[Tensor]:
        self.steps.append((steps, features.shape[1], boxes.shape[1], weights.shape[1]))
        return [filter, filter + steps]


class Memory:
    """Memory that notes what is added."""

    def __init__(self) -> None:
        self.added: list[tuple[list[float], float]] = []

    def add(self, features: Tensor, box: Tensor, rate: float) -> None:
        self.added.append((box.tolist(), rate))

    def stored(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros(7, 2, 4, 4), torch.zeros(7, 4), torch.ones(7)


def state_of(network: Network, compat: str = "exact", **changes: Any) -> OnlineState:
    state = OnlineState.__new__(OnlineState)
    state.network, state.settings, state.size, state.compat = network, replace(SETTINGS, **changes), SIZE, compat
    state.frame, state.flag, state.filter, state.modulation = 0, Flag.NORMAL, torch.zeros(1), None
    state.memory, state.random = Memory(), torch.Generator().manual_seed(0)
    return state


def crop(target: tuple[float, ...] = (0.5, 0.5, 0.2, 0.1)) -> Crop:
    """Returns a search crop in a picture that is larger by a crop's side on all sides."""
    return Crop(pixels=torch.zeros(3, SIZE, SIZE), padding=None, target=target, picture=(-1.0, -1, 2, 2))


def peak(row: int, column: int, height: float = 0.8, **others: Any) -> Tensor:
    scores = torch.full((CELLS, CELLS), -0.1)
    scores[row, column] = height
    return scores


def test_the_first_box_lies_where_the_first_sample_shows_it() -> None:
    """The first frame's crop is larger than a sample, which shows its middle."""
    side, network = SIZE + 64, Network()
    network.extract = lambda crops: CropFeatures([torch.zeros(len(crops), 1, 1, 1)], torch.zeros(len(crops), 2, 4, 4))
    network.classifier.learn = lambda features, boxes, iterations: [torch.zeros(1), torch.ones(1)]
    network.box_head = SimpleNamespace(modulation=lambda maps, boxes, features: boxes)
    template = Crop(torch.zeros(3, side, side), None, target=(0.5, 0.25, 0.2, 0.1))
    state = OnlineState(network, SETTINGS, SIZE, "exact", template)
    _, boxes, weights = state.memory.stored()
    w, h = 0.2 * side, 0.1 * side
    assert boxes[0].tolist() == pytest.approx([SIZE / 2 - w / 2, side / 4 - 32 - h / 2, w, h], rel=1e-5)
    assert state.modulation.tolist() == boxes[:1].tolist()
    assert len(boxes) == len(weights) == SETTINGS.first.count
    assert float(state.filter) == 1  # the last one


# Positions


def test_the_box_lies_at_the_highest_score() -> None:
    """Column 7 is two cells to the right of the centre, row 4 is one cell above it."""
    network = Network(peak(4, 7))
    box, score = state_of(network).step(crop())
    assert network.starts[0].tolist() == pytest.approx([80 + 32 - 16, 80 - 16 - 8, 32, 16])
    assert box.tolist() == pytest.approx([112 / 160, 64 / 160, 0.2, 0.1])
    assert score == pytest.approx(0.8)


@pytest.mark.parametrize(("height", "score"), [(0.8, 0.8), (3.0, 1.0), (0.1, 0.1), (-0.05, 0.0)])
def test_scores_are_shares(height: float, score: float) -> None:
    assert state_of(Network(peak(5, 5, height))).step(crop())[1] == pytest.approx(score)


def test_a_softmax_makes_a_distribution_of_the_scores() -> None:
    scores = peak(5, 5, 4.0)
    _, score = state_of(Network(scores), softmax=True).step(crop())
    assert score == pytest.approx(scores.flatten().softmax(0).max().item())


def test_a_lost_target_keeps_its_box_and_nothing_is_learned() -> None:
    network = Network(peak(4, 7, 0.2))
    state = state_of(network)
    box, score = state.step(crop((0.4, 0.7, 0.2, 0.1)))
    assert box.tolist() == pytest.approx([0.4, 0.7, 0.2, 0.1])
    assert score == pytest.approx(0.2)
    assert (state.flag, state.frame, state.memory.added, network.starts) == (Flag.NOT_FOUND, 1, [], None)


def test_a_target_is_held_back_at_the_edge_of_the_picture() -> None:
    """The picture ends at 0.6 of the crop; a fifth of the target stays in it."""
    network = Network(peak(5, 10))
    state_of(network).step(replace_picture(crop(), (-1.0, -1, 0.6, 2)))
    assert network.starts[0].tolist() == pytest.approx([96 + 0.3 * 32 - 16, 80 - 8, 32, 16])


def replace_picture(search: Crop, picture: tuple[float, ...]) -> Crop:
    return search._replace(picture=picture)


@pytest.mark.parametrize(("target", "column"), [((0.05, 0.5, 0.2, 0.1), 0), ((0.95, 0.5, 0.2, 0.1), 10)])
def test_of_two_similar_peaks_the_one_near_the_last_position_is_the_target(target: tuple, column: int) -> None:
    scores = peak(5, 0, 0.8)
    scores[5, 10] = 0.79
    network = Network(scores)
    state = state_of(network)
    state.step(crop(target))
    assert state.flag is Flag.HARD_NEGATIVE
    assert float(network.starts[0, 0]) + 16 == pytest.approx(80 + 16 * (column - 5))


@pytest.mark.parametrize(("height", "flag"), [(0.4, Flag.NORMAL), (0.5, Flag.HARD_NEGATIVE)])
def test_a_peak_belongs_to_the_target_by_the_targets_own_height_and_width(height: float, flag: Flag) -> None:
    """The target is 2 cells wide and 1 cell high: 2 cells beside the peak belong to it, but not 2 cells below it."""
    scores = peak(5, 5, 0.8)
    scores[5, 7] = 0.79
    scores[7, 5] = height
    state = state_of(Network(scores))
    state.step(crop())
    assert state.flag is flag


# Refinement


def test_random_boxes_are_as_far_as_said() -> None:
    """Noise is counted in mean sides, here sqrt(40 * 10) = 20; sides stay above a third of the smaller side."""
    network = Network()
    state = state_of(network)
    numbers = torch.tensor([[1.0, 0, 0.5, 0.5], [0.5, 0.5, 0, 1], [0.25, 0.5, 1, 0.0]])
    state.uniform = lambda rows, columns: numbers
    state._refine(None, torch.tensor([20.0, 30, 40, 10]))
    centres, extents = network.starts[:, :2] + network.starts[:, 2:] / 2, network.starts[:, 2:]
    assert network.starts[0].tolist() == [20, 30, 40, 10]
    expected = torch.tensor([[40.0, 35], [41, 34], [40, 35], [39.5, 35]])
    torch.testing.assert_close(centres, expected)
    torch.testing.assert_close(extents, torch.tensor([[40.0, 10], [40, 10], [35, 15], [45, 5]]))
    numbers[:, 3] = 0
    state.settings = replace(SETTINGS, size_jitter=1.5)
    state._refine(None, torch.tensor([20.0, 30, 40, 10]))
    assert network.starts[1:, 3].tolist() == pytest.approx([10 / 3] * 3)


def test_the_random_numbers_of_a_state_are_its_own_and_uniform() -> None:
    state = state_of(Network())
    numbers = state.uniform(5000, 4)
    assert numbers.shape == (5000, 4)
    assert 0 <= float(numbers.min()) < 0.01
    assert 0.99 < float(numbers.max()) < 1
    assert torch.equal(state_of(Network()).uniform(5000, 4), numbers)


@pytest.mark.parametrize(("best", "expected"), [(1, [3, 3, 30, 30]), (2, [2, 2, 20, 20]), (9, [2, 2, 20, 20])])
def test_the_result_is_the_mean_of_the_best_boxes(best: int, expected: list[float]) -> None:
    boxes = [[1.0, 1, 10, 10], [3, 3, 30, 30]]
    state = state_of(Network(boxes=boxes, ratings=[0.1, 0.2]), best=best)
    assert state._refine(None, torch.tensor([0.0, 0, 5, 5])).tolist() == expected


def test_boxes_that_are_too_flat_or_too_narrow_are_dropped() -> None:
    boxes = [[1.0, 1, 59, 10], [2, 2, 60, 10], [3, 3, 10, 60], [5, 5, 10, 59]]
    state = state_of(Network(boxes=boxes, ratings=[0.1, 0.9, 0.9, 0.2]), best=4)
    assert state._refine(None, torch.tensor([0.0, 0, 5, 5])).tolist() == [3, 3, 34.5, 34.5]
    state = state_of(Network(boxes=boxes[1:3], ratings=[0.9, 0.9]))
    assert state._refine(None, torch.tensor([7.0, 8, 5, 6])).tolist() == [7, 8, 5, 6]


def test_refined_boxes_are_a_pixel_wide_at_least() -> None:
    state = state_of(Network(boxes=[[4.0, 4, -3, 0.5]], ratings=[0.1]))
    assert state._refine(None, torch.tensor([0.0, 0, 5, 5])).tolist() == [4, 4, 1, 1]


def test_boxes_of_the_reference_lie_half_a_pixel_further() -> None:
    for compat, x in (("exact", 4.0), ("reference", 4.5)):
        state = state_of(Network(boxes=[[4.0, 4, 30, 20]], ratings=[0.1]), compat)
        assert state._refine(None, torch.tensor([0.0, 0, 5, 5])).tolist() == [x, x, 30, 20]


# Learning


def test_the_filter_learns_every_few_frames_and_at_hard_negatives() -> None:
    calm, hard = peak(5, 5), peak(5, 5)
    hard[0, 0] = 0.5
    network = Network()
    state = state_of(network)
    for frame in range(1, 9):
        scores = hard if frame in (3, 8) else calm
        network.classifier.scores = lambda features, filter, scores=scores: scores[None, None]
        state.step(crop())
    assert [rate for _, rate in state.memory.added] == [0.01, 0.01, 0.02, 0.01, 0.01, 0.01, 0.01, 0.02]
    assert network.steps == [(1, 1, 1, 1), (2, 1, 1, 1), (1, 1, 1, 1)]  # frames 3, 4 and 8
    assert float(state.filter) == 4


def test_an_uncertain_position_is_not_learned() -> None:
    scores = peak(5, 4)
    scores[5, 8] = 0.79
    network = Network(scores)
    state = state_of(network, update_interval=1)
    state.step(crop((0.5, 0.5, 0.1, 0.1)))
    assert state.flag is Flag.UNCERTAIN
    assert (state.memory.added, network.steps) == ([], [])
