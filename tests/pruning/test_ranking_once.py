"""A training without a mask ranks units for all ratios: a cut to any ratio equals a training for that ratio."""

import copy
from pathlib import Path

import pytest
import torch

from pruning.schedules import Cubic, OneShot
from tests.pruning.training import METHODS, assert_same, draws, fit, loader, pruning, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "chipnet"])
def test_one_training_serves_all_ratios(method: str, tmp_path: Path) -> None:
    trained, callback = METHODS[method].module(), pruning(method, schedule=OneShot(), ratio=0.8)
    assert callback.ranks_once
    fit(trained, [callback], loader(), tmp_path)
    torch.save(callback.ranking_state(), tmp_path / "learned.pt")

    direct, trained_for_it = METHODS[method].module(), pruning(method, schedule=OneShot(), ratio=0.5)
    fit(direct, [trained_for_it], loader(), tmp_path)
    cut = copy.deepcopy(trained)
    again = pruning(method, schedule=OneShot(), ratio=0.5)
    again.attach(cut.network, cut.groups())
    again.load_ranking(torch.load(tmp_path / "learned.pt", weights_only=True))
    again.update()
    assert again.plan == trained_for_it.plan != callback.plan
    assert again.finish(draws(1)) == trained_for_it.finish(draws(1))
    assert_same(weights(cut), weights(direct))


def test_a_ranking_for_all_ratios_is_refused_if_the_ratio_changes_it() -> None:
    assert not pruning("chipnet", schedule=OneShot()).ranks_once
    assert not pruning("slim", schedule=OneShot(at=0.9)).ranks_once
    assert not pruning("slim", schedule=Cubic(end=1.0)).ranks_once
