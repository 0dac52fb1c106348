"""Tests of the weighting of STARK's corner maps by the last box."""

import numpy as np
import pytest
import torch

from tests.trackers.stark.test_tracker import small_stark
from trackers.crops import CropSpec
from trackers.rules import Crop
from trackers.stark.expectation import Expectation
from trackers.stark.head import CornerHead

LAST = torch.tensor([[0.5, 0.5, 0.4, 0.2]])


def maps(cells: int = 16) -> torch.Tensor:
    """Returns uniform corner maps."""
    return torch.zeros(1, 2, cells * cells).log_softmax(2)


def test_who_knows_nothing_finds_the_last_box():
    head = CornerHead(4, [4], offset=0.5)
    found = head.expected_corners(Expectation(0.2)(maps(), LAST, head.offset))
    assert found[0].tolist() == pytest.approx([0.3, 0.4, 0.7, 0.6], abs=0.01)
    assert head.expected_corners(maps())[0].tolist() == pytest.approx([0.5] * 4)


def test_the_formula():
    seen = torch.randn(1, 2, 9, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    found = Expectation(0.5)(seen, LAST, 0.0).exp().view(2, 3, 3)
    sigma = 0.5 * np.sqrt(0.4 * 0.2)
    for corner, (x, y) in enumerate([(0.3, 0.4), (0.7, 0.6)]):
        near = [[np.exp(-((j / 3 - x) ** 2 + (i / 3 - y) ** 2) / (2 * sigma**2)) for j in range(3)] for i in range(3)]
        expected = seen[0, corner].exp().view(3, 3).numpy() * near
        assert found[corner].numpy() == pytest.approx(expected / expected.sum(), rel=1e-4)


def test_who_is_sure_is_believed():
    sure = torch.full((1, 2, 256), -30.0)
    sure[0, 0, 16 * 2 + 3] = sure[0, 1, 16 * 9 + 8] = 0
    found = CornerHead(4, [4]).expected_corners(Expectation(1.0)(sure.log_softmax(2), LAST, 0.0))
    assert found[0].tolist() == pytest.approx([3 / 16, 2 / 16, 8 / 16, 9 / 16], abs=1e-3)


@pytest.mark.parametrize("spread", [0, -1.0])
def test_a_spread_must_be_positive(spread):
    with pytest.raises(ValueError, match=r"try spread=0\.5"):
        Expectation(spread)


def test_each_target_of_a_batch_has_its_own_expectation_and_the_score_is_the_maps():
    tracker = small_stark(class_head=False, template=CropSpec(32, 2.0))
    rng = np.random.default_rng(0)

    def crop(side: int, *target: float) -> Crop:
        return Crop(rng.integers(0, 256, (side, side, 3), np.uint8), np.zeros((2, side), bool), target)

    rules, runtime = tracker.open()
    states = [rules.start(runtime, crop(32, 0.5, 0.5, 0.5, 0.5)) for _ in range(2)]
    searches = [crop(64, 0.4, 0.5, 0.1, 0.2), crop(64, 0.5, 0.6, 0.5, 0.3)]
    plain = rules.steps(runtime, states, searches)
    tracker.expectation = Expectation(0.1)
    rules, runtime = tracker.open()
    together = rules.steps(runtime, states, searches)
    alone = [rules.step(runtime, state, search) for state, search in zip(states, searches, strict=True)]
    for found, its, before, search in zip(together, alone, plain, searches, strict=True):
        assert found.box == pytest.approx(its.box, abs=1e-5)
        assert found.score == pytest.approx(its.score, abs=1e-5) == pytest.approx(before.score, abs=1e-5)
        assert found.box.tolist() == pytest.approx(search.target, abs=0.1)
