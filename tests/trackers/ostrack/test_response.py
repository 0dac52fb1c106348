"""Tests of the response for uncertain networks: the penalty of changes of size and shape, and the window."""

import math

import numpy as np
import pytest
import torch

from tests.trackers.networks import small_ostrack
from trackers.ostrack.response import Response
from trackers.rules import Crop

WINDOW = torch.tensor([[0.0, 0.5], [0.5, 1.0]])


def respond(response: Response, sizes: list[tuple[float, float]], scores: list[float]) -> torch.Tensor:
    """Returns the responses of four cells after a box of 0.2 x 0.4."""
    maps = torch.tensor(sizes).T.view(1, 2, 2, 2), torch.tensor(scores).view(1, 1, 2, 2)
    return response(maps[1], maps[0], torch.tensor([[0.2, 0.4]]), WINDOW).flatten()


def test_the_formula():
    sizes = [(0.2, 0.4), (0.4, 0.8), (0.1, 0.2), (0.4, 0.4)]
    found = respond(Response(window=0.25, penalty=0.3), sizes, [0.8, 0.8, 0.8, 0.8])
    # Doubling and halving the size cost the same. Doubling the width changes the size by sqrt(2), the shape by 2.
    changes = [0, 1, 1, 2 * math.sqrt(2) - 1]
    expected = [0.75 * 0.8 * math.exp(-0.3 * c) + 0.25 * w for c, w in zip(changes, (0, 0.5, 0.5, 1), strict=True)]
    assert found.tolist() == pytest.approx(expected)


def test_without_either_it_is_the_score():
    assert respond(Response(0, 0), [(0.1, 0.9)] * 4, [0.1, 0.2, 0.3, 0.4]).tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4]
    )


@pytest.mark.parametrize("values", [(1.5, 0), (-0.1, 0), (0.5, -1)])
def test_bad_settings_are_refused(values):
    with pytest.raises(ValueError, match="try window="):
        Response(*values)


def test_each_target_of_a_batch_has_its_own_last_size():
    tracker = small_ostrack(elimination=None)
    tracker.response = Response(window=0.3, penalty=2.0)
    rng = np.random.default_rng(0)

    def crop(side: int, size: float) -> Crop:
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        return Crop(pixels, np.zeros((2, side), bool), (0.5, 0.5, size, size))

    rules, runtime = tracker.open()
    states = [rules.start(runtime, crop(32, 0.5)) for _ in range(2)]
    searches = [crop(64, 0.05), crop(64, 0.9)]
    together = rules.steps(runtime, states, searches)
    alone = [rules.step(runtime, state, search) for state, search in zip(states, searches, strict=True)]
    tracker.response = None
    rules, runtime = tracker.open()
    original = rules.steps(runtime, states, searches)
    for one, other in zip(together, alone, strict=True):
        assert one.box == pytest.approx(other.box, abs=1e-5)
        assert one.score == pytest.approx(other.score, abs=1e-5)
    assert [one.evidence for one in together] == pytest.approx([one.evidence for one in original])
    assert [one.score for one in together] != pytest.approx([one.score for one in original])
