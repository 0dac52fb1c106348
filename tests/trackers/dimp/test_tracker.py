"""Tests of DiMP as a whole: sizes, groups, training, tracking, official files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pruning.cost import ParamCost, count_macs, count_params
from pruning.gates import Gates
from pruning.groups.checks import check_groups
from pruning.surgery import compact
from tests.pruning.networks import random_plan
from trackers.checkpoints.checkpoint import Checkpoint, build_tracker, load_checkpoint
from trackers.dimp.localisation import NORMAL, NOT_FOUND, Thresholds
from trackers.online import OnlineTracker

CONF = Path(__file__).parents[3] / "conf"
FULL = ("dimp", "dimp50", "dimp18", "prdimp50", "prdimp18")


def recipe(name, scale="full", *changes):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"tracker={name}", f"scale={scale}", *changes])
    return OmegaConf.to_container(cfg.tracker, resolve=True)


def small(name="dimp"):
    """Returns a tracker with a published network's layers and small crops, or the tiny tracker."""
    changes = ["tracker.template.size=96", "tracker.template.factor=3", "tracker.frozen_stages=null"]
    return build_tracker(recipe(name, "full", *changes) if name != "tiny" else recipe("dimp", "tiny"))


def batch(tracker, sequences=2):
    def crops(role, spec):
        size = spec.size
        return {
            role: torch.randint(0, 255, (sequences, spec.count, 3, size, size), dtype=torch.uint8),
            f"{role}_box": torch.tensor([0.35, 0.3, 0.3, 0.4]).repeat(sequences, spec.count, 1),
        }

    return crops("template", tracker.template) | crops("search", tracker.search)


# Sizes


@pytest.mark.parametrize(
    ("name", "backbone", "classifier", "box_head"),
    # SuperDiMP's published numbers include layers that are never executed, which are left out here.
    [("dimp", 8543296, 7078702, 10461569)],
)
def test_the_published_network_has_its_published_sizes(name, backbone, classifier, box_head):
    with torch.device("meta"):
        tracker = build_tracker(recipe(name)).eval()
    parts = {part: count_params(module) for part, module in tracker.network.named_children()}
    assert parts == {"backbone": backbone, "classifier": classifier, "box_head": box_head}
    assert sum(parts.values()) == 26_083_567
    macs = count_macs(tracker.network, tracker.frame_inputs())
    assert macs.parts["backbone"] / 1e9 == pytest.approx(8.09, abs=0.005)
    convolution = count_macs(tracker.network.classifier.features, {"features": torch.empty(1, 1024, 22, 22)}).total
    assert convolution / 1e9 == pytest.approx(2.28, abs=0.005)
    maps = [torch.empty(1, 512, 44, 44), torch.empty(1, 1024, 22, 22)]
    views = sum(
        count_macs(tracker.network.box_head.get_submodule(f"conv{i + 3}_{n}t"), {"input": x}).total
        for i, m in enumerate(maps)
        for n, x in ((1, m), (2, torch.empty(1, 256, *m.shape[2:])))
    )
    assert views / 1e9 == pytest.approx(4.85, abs=0.01)


@pytest.mark.parametrize("name", FULL)
def test_every_published_network_can_be_cut_to_one_percent(name):
    with torch.device("meta"):
        tracker = build_tracker(recipe(name))
    groups = check_groups(tracker.network, tracker.groups())
    cost = ParamCost(tracker.network, groups)
    assert cost([1] * len(groups)) < 0.005 * cost([g.size for g in groups])


# Groups


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["dimp", "dimp18", "prdimp18", "tiny"])
@torch.no_grad()
def test_masked_is_cut(name, seed):
    torch.manual_seed(seed)
    tracker = small(name).double().eval()
    for parameter in tracker.network.parameters():
        if parameter.dim() == 1:
            parameter += 0.1 * torch.randn_like(parameter)
    network, groups = tracker.network, tracker.groups()
    plan, given = random_plan(groups, seed), {k: v.double() for k, v in tracker.example_inputs().items()}
    expected = ParamCost(network, groups)([len(plan.units(g)) for g in groups])
    gates = Gates(network, groups)
    gates.close(plan)
    with gates.folded():
        masked = network(**given)
    compact(network, groups, plan)
    cut = network(**given)
    assert count_params(network) == expected
    for output, values in masked.items():
        torch.testing.assert_close(cut[output], values, rtol=1e-7, atol=1e-9)
    left = {g.name: len(plan.units(g)) for g in groups}
    assert {g.name: g.size for g in tracker.groups()} == {name: n for name, n in left.items() if n}
    refined = tracker.float().network(**tracker.frame_inputs())  # a frame of the cut network
    assert all(output.isfinite().all() for output in refined.values())


# Learning


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "dimp18", "prdimp18"])
def test_all_that_is_trained_gets_a_gradient_and_nothing_is_nan(name):
    torch.manual_seed(0)
    tracker = small(name).train()
    tracker.losses(batch(tracker, sequences=3))["total"].backward()
    silent = {n for n, p in tracker.network.named_parameters() if p.grad is None}
    assert silent == set()
    assert all(p.grad.isfinite().all() for p in tracker.network.parameters())


@pytest.mark.slow
def test_a_small_network_learns_one_batch_by_heart():
    torch.manual_seed(0)
    tracker = small("tiny").train()
    shown = batch(tracker, sequences=4)
    optimiser, totals = torch.optim.Adam(tracker.parameters(), 1e-3), []
    for _ in range(40):
        losses = tracker.losses(shown)
        totals.append(float(losses["total"].detach()))
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
    assert np.mean(totals[-5:]) < np.mean(totals[:5]) - 0.3


def test_frozen_stages_keep_weights_and_statistics():
    tracker = build_tracker(recipe("dimp", "full", "tracker.template.size=96"))
    tracker.setup("fit")
    tracker.train()
    network = tracker.network
    before = {n: t.clone() for n, t in network.backbone.state_dict().items()}
    network.backbone(torch.randn(2, 3, 96, 96))
    changed = {n for n, t in network.backbone.state_dict().items() if not torch.equal(t, before[n])}
    assert changed
    assert all(n.startswith("layer3.") for n in changed)
    trained = {n for n, p in network.backbone.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in network.backbone.named_parameters() if n.startswith("layer3.")}
    tracker.eval()
    assert not any(m.training for m in network.modules())


def test_learning_rates_are_those_of_the_parts():
    rate = build_tracker(recipe("dimp", "tiny")).recipe.rate
    assert rate("classifier.optimiser.label") == 10
    assert rate("classifier.features.conv.weight") == rate("backbone.conv1.weight") == 1


@pytest.mark.parametrize(("key", "value"), [("classifier", "focal"), ("boxes", "giou")])
def test_an_unknown_loss_is_an_error(key, value):
    with pytest.raises(Exception, match=rf"losses.{key}={value} is not known; choose one of"):
        build_tracker(recipe("dimp", "tiny", f"tracker.losses.{key}={value}"))


# Tracking


def moving(t, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 130, (120, 160, 3), dtype=np.uint8)
    image[30 + 2 * t : 60 + 2 * t, 40 + 3 * t : 70 + 3 * t] = rng.integers(0, 255, (30, 30, 3), dtype=np.uint8)
    return image


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "dimp18", "prdimp18"])
def test_tracking_is_deterministic_and_stays_finite(name):
    torch.manual_seed(0)
    tracker, runs = small(name), []
    for _ in range(2):
        online = OnlineTracker(tracker)
        online.init(moving(0), (40, 30, 30, 30))
        runs.append([online.update(moving(t)) for t in range(1, 5)])
    assert runs[0] == runs[1]
    assert np.isfinite([box for box, _ in runs[0]]).all()
    assert all(0 <= score <= 1 for _, score in runs[0])


def test_a_lost_target_leaves_box_and_memory_alone():
    torch.manual_seed(0)
    tracker = small("tiny")
    online = OnlineTracker(tracker)
    online.init(moving(0), (40, 30, 30, 30))
    object.__setattr__(tracker.online, "thresholds", Thresholds(not_found=2.0))
    stored, filter = len(online.target.memory.memory), online.target.memory.filter.clone()
    box, _ = online.update(moving(9))
    assert box == pytest.approx((40, 30, 30, 30), abs=1e-4)
    assert online.target.memory.flag == NOT_FOUND
    assert len(online.target.memory.memory) == stored
    assert torch.equal(online.target.memory.filter, filter)


def test_the_filter_is_updated_when_it_is_time():
    torch.manual_seed(0)
    tracker = small("tiny")
    object.__setattr__(tracker.online, "thresholds", Thresholds(not_found=-9.0, distractor=9.0, hard_negative=9.0))
    object.__setattr__(tracker.online, "update_interval", 3)
    online, filters = OnlineTracker(tracker), []
    online.init(moving(0), (40, 30, 30, 30))
    for t in range(1, 7):
        online.update(moving(t))
        assert online.target.memory.flag == NORMAL
        filters.append(online.target.memory.filter.clone())
    moved = [not torch.equal(a, b) for a, b in pairwise(filters)]
    assert moved == [False, True, False, False, True]


def test_a_child_comes_back_from_its_file(tmp_path):
    torch.manual_seed(0)
    made = recipe("dimp", "tiny")
    tracker = build_tracker(made).eval()
    groups = tracker.groups()
    plan = random_plan(groups, 1)
    compact(tracker.network, groups, plan)
    path = Checkpoint(tracker, made, plan).save(tmp_path / "child.safetensors")
    back, given = load_checkpoint(path).tracker, tracker.example_inputs()
    weights = tracker.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in back.network.state_dict().items())
    with torch.no_grad():
        wanted, found = tracker.network(**given), back.network(**given)
    torch.testing.assert_close(found, wanted)  # where weights lie in memory may change the rounding
    assert {v.device for v in (back.example_inputs()["boxes"], *back.parameters())} == {torch.device("cpu")}
