"""The size that a job announces before anything is trained, against the size that its child has."""

from collections.abc import Sequence

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from evaluation.report.study_results import describe_sizes
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


def estimate(tracker, pruning) -> dict[str, list[float]]:
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
    given.append("pruning.scope={default: kind, width: kind}")
    found, pruning = setup(given)
    weights = {name: weight.clone() for name, weight in found.network.state_dict().items()}
    expected = estimate(found, pruning)
    assert all(torch.equal(weight, weights[name]) for name, weight in found.network.state_dict().items())
    child = achieved(found, pruning)
    for name, (about, low, high) in expected.items():
        assert low <= about <= high
        assert about == pytest.approx(child[name], rel=0.15)
    if ratio_of == "params":
        assert expected["params"] == pytest.approx((0.5, 0.5, 0.5), rel=0.02)


def test_the_announced_size_is_exact_if_each_layer_keeps_the_same_share():
    given = ["pruning=magnitude", "pruning.scope={default: layer, width: layer}", "pruning.ratio_of=units"]
    expected = estimate(*setup(given))
    assert expected == {name: [share] * 3 for name, share in achieved(*setup(given)).items()}
    assert expected == estimate(*setup(given, "meta"))


@pytest.mark.attack
@pytest.mark.parametrize(
    ("tracker", "params", "macs"),
    [
        ("ostrack", (0.172, 0.171, 0.172), (0.174, 0.141, 0.174)),
        ("stark_mini", (0.878, 0.877, 0.878), (0.926, 0.926, 0.927)),
        ("dimp", (0.714, 0.708, 0.732), (0.586, 0.586, 0.661)),
    ],
)
def test_a_tenth_of_the_units_at_full_size(tracker, params, macs):
    """The paper's budget counts units; what a tenth of them leaves differs between its trackers by a factor of five."""
    expected = estimate(*setup([f"tracker={tracker}", "experiment=icassp2023", "paths.data=/data"], "meta"))
    assert expected["params"] == pytest.approx(params, abs=0.005)
    assert expected["macs"] == pytest.approx(macs, abs=0.005)


def test_the_words_give_a_range_only_if_there_is_one():
    words = describe_sizes({"params": (0.1, 0.1004, 0.0996), "macs": (0.13, 0.004, 0.16)})
    assert words == "10% of the parameters and 13% (<1 to 16%) of the MACs"
    assert describe_sizes({"params": (0.5,), "macs": (0.25,)}) == "50% of the parameters and 25% of the MACs"


@pytest.mark.parametrize(("ratio_of", "words"), [("units", "gated units"), ("macs", "MACs")])
def test_a_ratio_of_units_that_is_far_from_the_sizes_is_a_warning(run, capsys, ratio_of, words):
    run("train", "ratio=0.1", f"pruning.ratio_of={ratio_of}", "dry_run=true")
    told = capsys.readouterr().out
    assert told.count(f"ratio 0.1 of the {words} keeps about ") == 2, "in the log and above the plan"
    warned = "ratio=0.1 counts units, and is far from the fraction of the parameters" in told
    assert warned == (ratio_of == "units")
