"""The size that a job announces before anything is trained, against the size that its child has."""

from collections.abc import Sequence

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pruning.cost import count_macs, count_params
from tests.conftest import CONF
from trackers.checkpoints.checkpoint import build_tracker


def setup(overrides: Sequence[str], device: str = "cpu"):
    """Returns the tracker and the pruning callback of a job."""
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        cfg = compose("train", ["ratio=0.1", *overrides])
    torch.manual_seed(0)
    with torch.device(device):
        tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).eval()
    return tracker, instantiate(cfg.pruning, ratio=cfg.ratio)


def estimate(tracker, pruning) -> dict[str, float]:
    return pruning.estimate(tracker.network, tracker.groups(), tracker.frame_inputs)


def achieved(tracker, pruning) -> dict[str, float]:
    """Cuts the tracker and returns the fractions of its parameters and MACs that are left."""

    def sizes() -> tuple[int, int]:
        return count_params(tracker.network), count_macs(tracker.network, tracker.frame_inputs()).total

    whole = sizes()
    pruning.attach(tracker.network, tracker.groups(), tracker.frame_inputs)
    pruning.update()
    pruning.finish([tracker.example_inputs()])
    return {name: left / all_of_it for name, left, all_of_it in zip(("params", "macs"), sizes(), whole, strict=True)}


@pytest.mark.parametrize(("tracker", "ratio_of"), [("ostrack", "params"), ("stark", "units"), ("dimp", "units")])
def test_the_announced_size_is_about_the_size_of_the_child(tracker, ratio_of):
    given = [f"tracker={tracker}", "pruning=magnitude", f"pruning.ratio_of={ratio_of}", "ratio=0.5"]
    found, pruning = setup(given)
    weights = {name: weight.clone() for name, weight in found.network.state_dict().items()}
    expected = estimate(found, pruning)
    assert all(torch.equal(weight, weights[name]) for name, weight in found.network.state_dict().items())
    child = achieved(found, pruning)
    assert expected == pytest.approx(child, rel=0.15)
    if ratio_of == "params":
        assert expected["params"] == pytest.approx(0.5, rel=0.02)


def test_the_announced_size_is_exact_if_each_layer_keeps_the_same_share():
    given = ["pruning=magnitude", "pruning.scope={default: layer, width: layer}", "pruning.ratio_of=units"]
    expected = estimate(*setup(given))
    assert expected == achieved(*setup(given))
    assert expected == estimate(*setup(given, "meta"))


@pytest.mark.attack
@pytest.mark.parametrize(
    ("tracker", "params", "macs"), [("ostrack", 0.172, 0.173), ("stark_mini", 0.878, 0.926), ("dimp", 0.715, 0.585)]
)
def test_a_tenth_of_the_units_at_full_size(tracker, params, macs):
    """The paper's budget counts units; what a tenth of them leaves differs between its trackers by a factor of five."""
    expected = estimate(*setup([f"tracker={tracker}", "experiment=icassp2023", "paths.data=/data"], "meta"))
    assert expected == pytest.approx({"params": params, "macs": macs}, abs=0.005)
