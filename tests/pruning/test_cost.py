from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning.cost import ParamCost, UnitCost, count_macs, count_params
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import BranchNet, ConvNet, NormNet, crops, full_ostrack, random_plan, tiny_ostrack

NETWORKS = {
    "ostrack": lambda: tiny_ostrack(heads=4, head_channels=(6, 4, 3)),
    "stem": lambda: tiny_ostrack(stem_hidden=6, depth=1),
    "cnn": ConvNet,
    "square": NormNet,
    "branches": BranchNet,
}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 2**20))
def test_the_closed_form_is_what_the_compacted_network_holds(name: str, seed: int) -> None:
    network = NETWORKS[name]()
    groups = network.groups()
    cost, plan = ParamCost(network, groups), random_plan(groups, seed)
    assert cost([g.size for g in groups]) == count_params(network)
    child = compact(network, groups, plan)
    assert cost([len(plan.units(g)) for g in groups]) == count_params(child)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 5), min_size=3, max_size=3), st.integers(1, 7))
def test_the_closed_form_counts_vanished_branches(branches: list[int], width: int) -> None:
    network = BranchNet(width=7, hidden=5, depth=3)
    groups, kept = network.groups(), [*branches, width]
    cost = ParamCost(network, groups)(kept)
    plan = Plan({g.name: tuple(range(k)) for g, k in zip(groups, kept, strict=True)})
    assert cost == count_params(compact(network, groups, plan))


def test_a_fraction_of_a_unit_keeps_what_vanishes_with_the_last() -> None:
    network = BranchNet(width=8, hidden=4, depth=1)
    cost = ParamCost(network, network.groups())
    per_unit = 2 * 8 + 1 + 2  # fc1, fc2, and the norm between them, of which no unit is no parameter
    assert cost([0.5, 8]) - cost([0, 8]) == 0.5 * per_unit + 2 * 8
    assert cost([1, 8]) - cost([0.5, 8]) == 0.5 * per_unit


def test_uncut_parameters_vanish_too() -> None:
    network = BranchNet(width=8, hidden=4, depth=1)
    inner = network.groups()[:1]  # without the stream, nothing cuts the norm in front
    plan = Plan({inner[0].name: ()})
    assert ParamCost(network, inner)([0]) == count_params(compact(network, inner, plan))


def test_cost_of_some_groups_leaves_the_others_whole() -> None:
    network = ConvNet()
    inner = [g for g in network.groups() if g.kind == "inner"]
    cost, plan = ParamCost(network, inner), Plan({"inner": (0, 1), "branch": (3,)})
    assert cost([2, 1]) == count_params(compact(network, inner, plan))


def test_units_count_as_one() -> None:
    assert UnitCost()([3, 0, 4]) == 7


def test_params_of_a_network_without_groups_are_constant() -> None:
    assert ParamCost(nn.Linear(3, 4), [])([]) == 16


def ostrack_macs(
    dim: int, hidden: int, widths: Sequence[int], towers: Sequence[int], patch: int, sides: tuple[int, int]
) -> tuple[int, int]:
    """By hand, for one block: (backbone, head). `widths` of heads as the kernel sees them."""
    z, x = ((side // patch) ** 2 for side in sides)
    n, live = z + x, sum(widths)
    embed = n * dim * 3 * patch * patch
    attention = n * dim * 3 * live + 2 * n * n * live + n * live * dim
    mlp = 2 * n * dim * hidden
    layers = [dim, *towers]
    tower = sum(9 * a * b for a, b in pairwise(layers))
    return embed + attention + mlp, x * (3 * tower + towers[-1] * (1 + 2 + 2))


def test_macs_of_a_small_ostrack_are_those_by_hand() -> None:
    network = tiny_ostrack(dim=16, depth=1, heads=2, head_channels=(6, 4))
    macs = count_macs(network, crops(network, batch=1))
    backbone, head = ostrack_macs(16, 32, (8, 8), (6, 4), 16, (32, 64))
    assert macs.total == backbone + head
    assert macs.parts == {"backbone": backbone, "box_head": head}


def test_macs_of_a_pruned_ostrack_are_those_by_hand() -> None:
    network = tiny_ostrack(dim=16, depth=1, heads=2, head_channels=(6, 4))
    plan = {"backbone.blocks.0.attn": range(3, 8), "backbone.blocks.0.mlp": range(7), "backbone.width": range(9)}
    plan |= {f"box_head.conv{i}_{t}": range(5 - i) for i in (1, 2) for t in ("ctr", "offset", "size")}
    compact(network, network.groups(), Plan.from_dict(plan))
    macs = count_macs(network, crops(network, batch=1))
    # The first head keeps 5 dims and the second none; one bucket of width 8 runs: q, k, v, both products, the output.
    backbone, head = ostrack_macs(9, 7, (5,), (4, 3), 16, (32, 64))
    assert macs.parts == {"backbone": backbone + (2 * 20 * 20 + 4 * 20 * 9) * (8 - 5), "box_head": head}
    assert macs.total == sum(macs.parts.values())


def test_macs_of_a_small_cnn_are_those_by_hand() -> None:
    network = ConvNet()
    macs = count_macs(network, {"x": torch.zeros(2, 3, 8, 8)})
    parts = {
        "conv0": 64 * 27 * 6,
        "conv1": 64 * 54 * 5,
        "conv2": 64 * 5 * 6,
        "conv3": 9 * 54 * 4,
        "fc1": 280,
        "fc2": 21,
    }
    assert {k: v for k, v in macs.parts.items() if v} == {k: 2 * v for k, v in parts.items()}
    assert macs.total == 2 * sum(parts.values())


def test_counting_changes_nothing_and_counts_evaluation() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.fc = nn.BatchNorm1d(4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            return self.fc(self.bn(x)) + self.fc(x)

    network = Twice().train()
    macs = count_macs(network, {"x": torch.zeros(3, 4)})
    assert macs.total == 2 * 3 * 4 * 5
    assert macs.parts == {"bn": 0, "fc": macs.total}
    assert network.training
    assert network.bn.num_batches_tracked == 0
    assert not any(p.is_meta for p in network.parameters())


def test_a_network_without_products_costs_nothing() -> None:
    assert count_macs(nn.Sequential(nn.ReLU()), {"input": torch.zeros(3)}).total == 0


def test_published_ostrack_256() -> None:
    network = full_ostrack()
    assert count_params(network) == 92_366_469  # official 92,518,533 less cls_token and its pos_embed, never executed
    groups = network.groups()
    assert ParamCost(network, groups)([g.size for g in groups]) == 92_366_469
    shapes = {"template": torch.empty(1, 3, 128, 128), "search": torch.empty(1, 3, 256, 256)}
    macs = count_macs(network, shapes)
    patch, linear, attention, head = 0.189, 27.179, 1.887, 1.656  # G, measured apart
    assert macs.total / 1e9 == pytest.approx(30.91, abs=5e-3)
    assert macs.parts["backbone"] / 1e9 == pytest.approx(patch + linear + attention, abs=2e-3)
    assert macs.parts["box_head"] / 1e9 == pytest.approx(head, abs=1e-3)
    assert macs.total == sum(macs.parts.values())
    n, d = 64 + 256, 768
    assert macs.parts["backbone"] == n * d * 768 + 12 * (n * 12 * d * d + 2 * n * n * d)
