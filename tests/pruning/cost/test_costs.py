import copy
import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor, nn

from pruning.arguments import InputFunction
from pruning.cost import MacCost, ParamCost, Polynomial, Term, UnitCost, count_macs, count_params
from pruning.cost.tracing import AffineSize
from pruning.groups import Group, Slice
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import (
    BranchNet,
    ConvNet,
    Filtered,
    Mixed,
    NormNet,
    Recipe,
    crops,
    full_ostrack,
    random_plan,
    tiny_ostrack,
)
from tests.test_config import composed
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker

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


def test_every_unit_costs_one_in_a_cost_of_units() -> None:
    network = ConvNet()
    assert UnitCost(network, network.groups())([3, 1, 4, 0]) == 8
    assert UnitCost(network, network.groups()[:2])([3, 1]) == 4


def test_params_of_a_network_without_groups_are_constant() -> None:
    assert ParamCost(nn.Linear(3, 4), [])([]) == 16


def ostrack_macs(
    dim: int, hidden: int, widths: Sequence[int], towers: Sequence[int], patch: int, sides: tuple[int, int]
) -> tuple[int, int]:
    """Returns the MACs of backbone and head for one block, counted by hand; `widths` of heads as in the kernel."""
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
    compact(network, network.groups(), Plan.from_dict({name: list(units) for name, units in plan.items()}))
    macs = count_macs(network, crops(network, batch=1))
    # The first head keeps 5 dims and the second none; what kernels fill up to 8 is not counted.
    backbone, head = ostrack_macs(9, 7, (5,), (4, 3), 16, (32, 64))
    assert macs.parts == {"backbone": backbone, "box_head": head}
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


def like(x: Tensor) -> InputFunction:
    """Returns the same input for every cut network."""
    return lambda network: {"x": x}


PICTURES, ROWS = like(torch.zeros(2, 3, 8, 8)), like(torch.zeros(3, 6))
MIXED = Recipe(((4, 3, (4, 3)), (5, 0, (3,)), (3, 4, ())), 2, 3, ((4, False), (3, True)), 4)
CASES: dict[str, tuple[Callable[[], nn.Module], InputFunction]] = {
    "ostrack": (lambda: tiny_ostrack(heads=4, head_channels=(6, 4, 3)), crops),
    "stem": (lambda: tiny_ostrack(stem_hidden=6, depth=1), crops),
    "cnn": (ConvNet, PICTURES),
    "square": (NormNet, ROWS),
    "branches": (BranchNet, ROWS),
    "filtered": (Filtered, like(torch.zeros(3, 5))),
    "mixed": (lambda: Mixed(MIXED), Mixed.inputs),
    "thin heads": (lambda: Mixed(Recipe(((4, 0, (3,)),), 4, 1, ((3, False),), 4)), Mixed.inputs),
}


def kept_counts(groups: Sequence[Group], plan: Plan) -> list[int]:
    return [len(plan.units(g)) for g in groups]


def assert_exact(network: nn.Module, cost: MacCost, inputs: InputFunction, plan: Plan) -> nn.Module:
    """Asserts that the child has exactly the predicted cost, and returns the child."""
    groups = network.groups()
    child = compact(copy.deepcopy(network), groups, plan)
    foretold = cost(kept_counts(groups, plan))
    assert round(foretold) == count_macs(child, inputs(child)).total, plan
    assert foretold == pytest.approx(round(foretold), abs=1e-3)
    return child


@functools.cache
def case(name: str) -> tuple[nn.Module, MacCost, InputFunction]:
    build, inputs = CASES[name]
    network = build()
    return network, MacCost(network, network.groups(), inputs), inputs


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(CASES)), st.integers(0, 2**20))
def test_macs_in_closed_form_are_those_counted_in_the_compacted_network(name: str, seed: int) -> None:
    network, cost, inputs = case(name)
    groups = network.groups()
    assert cost([g.size for g in groups]) == count_macs(network, inputs(network)).total
    assert_exact(network, cost, inputs, random_plan(groups, seed))


@pytest.mark.parametrize("name", CASES)
def test_macs_of_emptied_networks(name: str) -> None:
    network, cost, inputs = case(name)
    groups = network.groups()
    assert_exact(network, cost, inputs, Plan({g.name: () for g in groups if g.vanish is not None}))
    least = Plan({g.name: () if g.vanish is not None else (g.size - 1,) for g in groups})
    assert_exact(network, cost, inputs, least)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ostrack", "cnn", "branches", "mixed"])
@pytest.mark.parametrize("seed", range(2))
def test_macs_of_children_of_children(name: str, seed: int) -> None:
    """Cuts a child with ragged heads and empty groups, and a second child from the first."""
    build, inputs = CASES[name]
    network = build()
    rough = {g.name: tuple(range(g.size // 4, g.size)) for g in network.groups()}
    rough |= {g.name: () for g in network.groups()[:1] if g.vanish is not None}
    child = compact(network, network.groups(), Plan(rough))
    cost = MacCost(child, child.groups(), inputs)
    for later in range(3):
        assert_exact(child, cost, inputs, random_plan(child.groups(), 10 * seed + later))


def small_tracker(name: str, **changes: Any) -> Tracker:
    """Returns a tracker smaller than tiny scale, without weights."""
    recipe = OmegaConf.to_container(composed("train", [f"tracker={name}", "scale=tiny"]).tracker, resolve=True)
    if name == "ostrack":
        recipe["vit"] |= {"embed_dim": 24, "depth": 3, "num_heads": 3, "stem_hidden": 6}
        recipe["head_channels"] = [8, 6]
    with torch.device("meta"):
        return build_tracker(recipe | changes).eval()


ELIMINATION = {
    "_target_": "trackers.ostrack.elimination.Elimination",
    **{"blocks": [0, 1], "keep": [0.7, 0.5], "start_epoch": 0, "warmup_epochs": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"), [("ostrack", {}), ("ostrack", {"elimination": ELIMINATION}), ("stark", {}), ("dimp", {})]
)
def test_macs_of_trackers(name: str, changes: dict) -> None:
    tracker = small_tracker(name, **changes)
    network, groups = tracker.network, tracker.network.groups()
    cost = MacCost(network, groups, tracker.frame_inputs)
    assert cost([g.size for g in groups]) == count_macs(network, tracker.frame_inputs()).total
    for seed in range(3):
        assert_exact(network, cost, tracker.frame_inputs, random_plan(groups, seed))
    empty = Plan({g.name: () for g in groups if g.vanish is not None})
    child = assert_exact(network, cost, tracker.frame_inputs, empty)
    assert len(child.groups()) == sum(g.vanish is None for g in groups)


def test_macs_of_some_groups_leave_the_others_whole() -> None:
    network = ConvNet()
    inner = [g for g in network.groups() if g.kind == "inner"]
    cost, plan = MacCost(network, inner, PICTURES), Plan({"inner": (0, 1), "branch": (3,)})
    child = compact(copy.deepcopy(network), inner, plan)
    assert cost([2, 1]) == count_macs(child, PICTURES(child)).total
    everything = count_macs(network, PICTURES(network)).total
    assert MacCost(network, [], PICTURES)([]) == everything


def test_counting_in_closed_form_leaves_the_network_alone() -> None:
    network = ConvNet().train()
    before = copy.deepcopy(network.state_dict())
    MacCost(network, network.groups(), PICTURES)
    assert network.training
    assert all(p.requires_grad and not p.is_meta for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), network.state_dict().values(), strict=True))


class Wide(nn.Module):
    """Two linear layers with one group between them; `twist` is the operation between the layers."""

    def __init__(self, twist: Callable[[Tensor], Tensor], units: int = 12):
        super().__init__()
        self.fc1, self.fc2, self.twist = nn.Linear(6, units), nn.Linear(units, 2), twist

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.twist(self.fc1(x)))

    def groups(self) -> list[Group]:
        cut = (Slice("fc1.weight", 0, gated=True), Slice("fc1.bias", 0, gated=True), Slice("fc2.weight", 1))
        return [Group("inside", "mlp", self.fc1.out_features, cut)]


def products_of_channels(x: Tensor) -> Tensor:
    """Computes a product for all pairs of channels, like bilinear pooling."""
    pairs = (x[:, :, None] * x[:, None]).flatten(1)
    return x + (pairs @ pairs.T).sum()


def in_blocks_of_four(x: Tensor) -> Tensor:
    filled = nn.functional.pad(x, (0, -x.shape[1] % 4))
    return x + (filled @ filled.T).sum()


def one_more_when_wide(x: Tensor) -> Tensor:
    return x + (x.T @ x).sum() if x.shape[1] > 8 else x


@pytest.mark.parametrize(
    ("twist", "message"),
    [
        (
            products_of_channels,
            r"the MACs of Wide are not a polynomial in the kept counts: .* has \d+ MACs, but .* predict \d+",
        ),
        (in_blocks_of_four, "the MACs of Wide are not a polynomial in the kept counts"),
        (
            one_more_when_wide,
            r"operations of Wide change once units .* cannot be computed from sizes; the cut groups were \['inside'\]",
        ),
    ],
)
def test_costs_that_are_no_products_of_kept_counts_are_refused(twist: Callable, message: str) -> None:
    network = Wide(twist)
    with pytest.raises(ValueError, match=message):
        MacCost(network, network.groups(), ROWS)
    cost = MacCost(Wide(nn.ReLU()), network.groups(), ROWS)
    assert cost([5]) == 3 * 5 * (6 + 2)


def test_products_of_a_width_with_itself_are_known() -> None:
    network = Wide(lambda x: x + (x.T @ x).sum())
    cost = MacCost(network, network.groups(), ROWS)
    for n in (1, 4, 7, 11, 12):
        assert cost([n]) == 3 * n * (6 + 2) + 3 * n * n


def test_macs_count_groups_of_one_unit_as_constants() -> None:
    network = BranchNet(width=4, hidden=1, depth=2)
    cost = MacCost(network, network.groups(), ROWS)
    for width in range(1, 5):
        assert cost([1, 1, width]) == 3 * (6 * width + 2 * 2 * width + 2 * width)
    child = compact(copy.deepcopy(network), network.groups(), Plan({network.groups()[0].name: ()}))
    assert cost([0, 1, 4]) >= count_macs(child, ROWS(child)).total  # it may vanish, and is counted all the same
    single = NormNet(width=1, hidden=1)
    cost = MacCost(single, single.groups(), ROWS)
    assert cost([1, 1]) == count_macs(single, ROWS(single)).total


def polynomial() -> Polynomial:
    """Checks a polynomial with a constant, shared factors, an offset, a square and a term that needs a group."""
    a, b, both = AffineSize(0, ((0, 2),)), AffineSize(3, ((1, 1),)), AffineSize(1, ((0, 0.5), (2, 4)))
    return Polynomial([Term(7), Term(3, (a, b)), Term(2, (both,)), Term(1, (a, a, both)), Term(11, (b,), 2)], 3)


def naively(k: Sequence[float]) -> float:
    both = 1 + 0.5 * k[0] + 4 * k[2]
    return 7 + 3 * 2 * k[0] * (3 + k[1]) + 2 * both + (2 * k[0]) ** 2 * both + (11 * (3 + k[1]) if k[2] > 0 else 0)


COUNTS = st.lists(st.one_of(st.integers(0, 50), st.floats(0, 50)), min_size=3, max_size=3)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(COUNTS)
def test_a_polynomial_is_the_sum_of_its_terms(kept: list[float]) -> None:
    cost = polynomial()
    assert type(cost(kept)) is float
    assert cost(kept) == pytest.approx(naively(kept), rel=1e-12)
    assert cost(torch.tensor(kept, dtype=torch.float64)).item() == cost(kept)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.just(0.0), st.floats(0.01, 50)), min_size=3, max_size=3))
def test_gradients_of_a_polynomial_are_finite_differences(kept: list[float]) -> None:
    cost, counts = polynomial(), torch.tensor(kept, dtype=torch.float64, requires_grad=True)
    cost(counts).backward()
    assert counts.grad.isfinite().all()
    for i in range(3):
        if i == 2 and not kept[2]:
            continue  # a step: the last unit takes with it what needs it
        plus, minus = ([k + s * (i == j) for j, k in enumerate(kept)] for s in (1e-4, -1e-4))
        assert counts.grad[i].item() == pytest.approx((naively(plus) - naively(minus)) / 2e-4, rel=1e-5, abs=1e-4)


def test_a_step_costs_no_gradient() -> None:
    counts = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    polynomial()(counts).backward()
    assert counts.grad.tolist() == [3 * 2 * 5 + 2 * 0.5 + 8 * 1.5 + 4 * 0.5, 3 * 2, 2 * 4 + 4 * 4]


@pytest.mark.parametrize("of", [ParamCost, UnitCost])
def test_costs_of_networks_have_gradients(of: type) -> None:
    network = BranchNet(width=7, hidden=5, depth=3)
    cost = of(network, network.groups())
    counts = torch.tensor([2.0, 0.5, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    cost(counts).backward()
    for i in range(4):
        step = 1e-3 * torch.eye(4, dtype=torch.float64)[i]
        ahead, behind = (float(cost((counts + s * step).detach())) for s in (1, -1))
        assert counts.grad[i].item() == pytest.approx((ahead - behind) / 2e-3, rel=1e-6)
