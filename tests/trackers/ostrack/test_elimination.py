"""Tests of the choice of candidates, above all for equal scores, as pruned attention causes them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trackers.ostrack.elimination import best_candidates, restore_tokens, select_tokens


@pytest.mark.parametrize("levels", [1, 2, 5, 10000])
@pytest.mark.parametrize("count", [7, 64, 256])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_equal_scores_keep_the_first_candidates(levels: int, count: int, share: float) -> None:
    """Compares with numpy's stable sort; with one level all scores are equal."""
    scores = np.random.default_rng(count).integers(0, levels, (3, count)) / levels
    kept = np.argsort(-scores, axis=1, kind="stable")[:, : int(np.ceil(share * count))]
    assert best_candidates(torch.from_numpy(scores), share).tolist() == np.sort(kept, axis=1).tolist()


def test_the_order_in_which_a_sort_leaves_equal_scores_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sort of a GPU may leave equal scores in any order; here they are left in reversed order."""
    scores, sort = torch.tensor([[0.0] * 9, [1.0, 2, 2, 0, 2, 1, 0, 1, 1]]), Tensor.sort
    expected = [[0, 1, 2, 3, 4], [0, 1, 2, 4, 5]]
    assert best_candidates(scores, 0.5).tolist() == expected

    def reversed_sort(tensor: Tensor, **options: object) -> object:
        values, indices = sort(tensor.flip(1), stable=True, **options)
        return torch.return_types.sort((values, tensor.shape[1] - 1 - indices))

    monkeypatch.setattr(Tensor, "sort", reversed_sort)
    assert best_candidates(scores, 0.5).tolist() == expected


def test_scores_that_are_no_numbers_do_not_leave_the_map() -> None:
    """Indices outside of the map would stop a GPU; as in a sort, such scores are the highest."""
    assert best_candidates(torch.tensor([[0.0, 1, torch.nan, 2]]), 0.5).tolist() == [[2, 3]]
    assert best_candidates(torch.full((1, 4), torch.nan), 0.5).tolist() == [[0, 1]]


def test_selected_tokens_return_to_their_places() -> None:
    tokens: Tensor = torch.arange(1.0, 13).view(2, 3, 2)
    indices = torch.tensor([[0, 2], [1, 2]])
    chosen = select_tokens(tokens, indices)
    assert chosen.tolist() == [[[1, 2], [5, 6]], [[9, 10], [11, 12]]]
    assert restore_tokens(chosen, indices, 3).tolist() == [[[1, 2], [0, 0], [5, 6]], [[0, 0], [9, 10], [11, 12]]]
