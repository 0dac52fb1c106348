"""Tests of `torch.export` and `torch.jit.trace`: every network, dense and pruned, as a program of its own."""

import io
from functools import cache
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils._pytree import tree_leaves

from pruning.surgery import compact
from tests.conftest import CONF
from tests.pruning.networks import random_plan
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker


@cache
def small(name: str, pruned: bool) -> Tracker:
    """Returns a tiny tracker; DiMP with few iterations, which are all alike."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        recipe = OmegaConf.to_container(compose("train", [f"tracker={name}", "scale=tiny"]).tracker, resolve=True)
    torch.manual_seed(0)
    tracker = build_tracker(recipe).eval()
    if name == "dimp":
        tracker.network.classifier.iterations, tracker.network.refinement["steps"] = 1, 1
    if pruned:
        groups = tracker.groups()
        compact(tracker.network, groups, random_plan(groups, 1))
    return tracker


def inputs_and_outputs(tracker: Tracker, forward: str) -> tuple[dict[str, Any], Any]:
    torch.manual_seed(1)
    inputs = {"complete": tracker.example_inputs, "frame": tracker.frame_inputs}[forward]()
    with torch.no_grad():
        return dict(inputs), tracker.network(**inputs)


def assert_same(outputs: Any, expected: Any) -> None:
    assert outputs.keys() == expected.keys()
    for ours, theirs in zip(tree_leaves(outputs), tree_leaves(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


each_forward = pytest.mark.parametrize("forward", ["complete", "frame"])
each_size = pytest.mark.parametrize("pruned", [False, True], ids=["dense", "pruned"])
each_tracker = pytest.mark.parametrize("name", ["ostrack", "stark", "dimp"])


# The complete forward of a pruned network holds all that the others hold.
others = pytest.mark.attack
each_variant = pytest.mark.parametrize(
    ("pruned", "forward"),
    [
        pytest.param(True, "complete", id="pruned-complete"),
        pytest.param(True, "frame", id="pruned-frame", marks=others),
        pytest.param(False, "complete", id="dense-complete", marks=others),
        pytest.param(False, "frame", id="dense-frame", marks=others),
    ],
)


@pytest.mark.attack
@each_variant
@each_tracker
def test_an_exported_network_is_saved_and_loaded(name: str, pruned: bool, forward: str, caplog: Any) -> None:
    tracker = small(name, pruned)
    inputs, expected = inputs_and_outputs(tracker, forward)
    file = io.BytesIO()
    torch.export.save(torch.export.export(tracker.network, (), inputs), file)
    file.seek(0)
    assert_same(torch.export.load(file).module()(**inputs), expected)
    assert "weights_only" not in caplog.text  # the file holds nothing that torch refuses to read


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*")
@each_forward
@each_size
@each_tracker
def test_a_traced_network_gives_the_same_for_other_inputs(name: str, pruned: bool, forward: str) -> None:
    """Traces with one draw of the inputs and runs with another; `strict=False` allows the outputs by name."""
    tracker = small(name, pruned)
    first = {"complete": tracker.example_inputs, "frame": tracker.frame_inputs}[forward]()
    traced = torch.jit.trace(tracker.network, example_kwarg_inputs=dict(first), strict=False, check_trace=False)
    inputs, expected = inputs_and_outputs(tracker, forward)
    with torch.no_grad():
        assert_same(traced(**inputs), expected)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    with torch.no_grad():
        assert_same(torch.jit.load(file)(**inputs), expected)
