import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pruning.budget import Cost, check_ratio, fit
from pruning.cost import ParamCost, UnitCost, count_params
from pruning.criteria import quantiles
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import BranchNet, ConvNet, NormNet, full_ostrack, tiny_ostrack

RATIOS = (1.0, 0.9, 0.5, 0.25, 0.1, 0.05, 0.01)
TINY = {
    "ostrack": lambda: tiny_ostrack(dim=48, depth=3, heads=3, head_channels=(24, 12)),
    "stem": lambda: tiny_ostrack(dim=48, depth=2, heads=4, stem_hidden=16, head_channels=(16, 16, 8)),
    "cnn": lambda: ConvNet(24, 20, 16, 30),
    "norms": lambda: NormNet(40, 30),
    "branches": lambda: BranchNet(30, 20, depth=4),
}


def random_places(groups: Sequence[Group], scope: str = "global", seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = {g.name: torch.rand(g.size, generator=generator) * 3 ** (i % 4) for i, g in enumerate(groups)}
    return quantiles(scores, groups, {"default": scope})


def counts(groups: Sequence[Group], plan: Plan) -> list[int]:
    plan.check(groups)
    return [len(plan.units(g)) for g in groups]


def uniform_share(groups: Sequence[Group], cost: Cost, asked: float) -> float:
    shares = torch.linspace(0, 1, 20001, dtype=torch.float64).tolist()
    return max(s for s in shares[::10] if s == 0 or cost([s * g.size for g in groups]) <= asked)


def assert_tight(groups: Sequence[Group], cost: Cost, plan: Plan, ratio: float) -> None:
    """Within the budget, and no unit that left could return."""
    kept, asked = counts(groups, plan), ratio * cost([g.size for g in groups])
    assert cost(kept) <= asked
    for i, group in enumerate(groups):
        if kept[i] < group.size:
            assert cost([k + (i == j) for j, k in enumerate(kept)]) > asked, group.name


def assert_ranked(groups: Sequence[Group], places: dict[str, Tensor], plan: Plan) -> None:
    """No unit stays while a better one of its group leaves."""
    for group in groups:
        order = places[group.name].argsort(descending=True).tolist()
        assert set(plan.units(group)) == set(order[: len(plan.units(group))]), group.name


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("scope", ["global", "kind", "layer"])
@pytest.mark.parametrize("floor", [0.0, 0.1, 0.7])
def test_tiny_networks_meet_every_budget_they_can(name: str, scope: str, floor: float) -> None:
    network = TINY[name]()
    groups = network.groups()
    places = random_places(groups, scope)
    reached, before = 0, None
    for cost in (ParamCost(network, groups), UnitCost()):
        for ratio in RATIOS:
            try:
                plan = fit(groups, places, cost, ratio, floor)
            except ValueError:
                assert ratio < 0.1
                continue
            reached += 1
            assert_tight(groups, cost, plan, ratio)
            assert_ranked(groups, places, plan)
            assert all(plan.units(g) or (floor == 0 and g.vanish is not None) for g in groups)
            for group in groups if before else ():
                a, b = sorted((set(plan.units(group)), set(before.units(group))), key=len)
                assert a <= b, "the kept units of two ratios are nested"
            before = plan
    assert reached >= 10


@pytest.mark.parametrize(("of", "scope"), [("params", "global"), ("params", "layer"), ("units", "global")])
def test_the_published_network_meets_every_budget_within_seconds(of: str, scope: str) -> None:
    network = full_ostrack()
    groups = network.groups()
    places = random_places(groups, scope)
    cost = ParamCost(network, groups) if of == "params" else UnitCost()
    for ratio in RATIOS:
        start = time.perf_counter()
        plan = fit(groups, places, cost, ratio)
        assert time.perf_counter() - start < 5
        assert_tight(groups, cost, plan, ratio)
        assert_ranked(groups, places, plan)
        achieved = cost(counts(groups, plan)) / cost([g.size for g in groups])
        assert ratio - achieved < (1e-4 if of == "units" else 1e-5)


def test_the_child_holds_what_the_budget_says() -> None:
    network = full_ostrack()
    groups = network.groups()
    plan = fit(groups, random_places(groups), ParamCost(network, groups), 0.25)
    assert 0 <= 0.25 * 92_366_469 - count_params(compact(network, groups, plan)) < 768


def test_ratio_one_keeps_everything() -> None:
    network = TINY["cnn"]()
    groups = network.groups()
    assert fit(groups, random_places(groups), ParamCost(network, groups), 1) == Plan()


def test_the_best_units_stay_without_floors() -> None:
    groups = [Group("a", "mlp", 4, ()), Group("b", "mlp", 4, ())]
    places = {"a": torch.tensor([0.9, 0.1, 0.8, 0.7]), "b": torch.tensor([0.2, 0.6, 0.3, 0.4])}
    assert fit(groups, places, UnitCost(), 0.5, floor=0) == Plan({"a": (0, 2, 3), "b": (1,)})
    assert fit(groups, places, UnitCost(), 0.25, floor=0) == Plan({"a": (0,), "b": (1,)})  # never below one
    assert fit(groups, places, UnitCost(), 0.5, floor=1) == Plan({"a": (0, 2), "b": (1, 3)})  # all alike


def test_a_unit_that_is_too_dear_makes_room_for_cheaper_ones() -> None:
    groups = [Group("dear", "mlp", 3, ()), Group("cheap", "mlp", 20, ())]
    places = {"dear": torch.full((3,), 0.5), "cheap": torch.linspace(0, 0.4, 20)}

    def cost(kept: Sequence[float]) -> float:
        return 100 * kept[0] + kept[1]

    plan = fit(groups, places, cost, 215 / 320, floor=0)
    assert counts(groups, plan) == [2, 15]
    assert plan.units(groups[1]) == tuple(range(5, 20))


@pytest.mark.parametrize("floor", [0.1, 0.5, 1.0])
def test_floors_hold_for_the_worst_group(floor: float) -> None:
    network = TINY["ostrack"]()
    groups = network.groups()
    cost = ParamCost(network, groups)
    places = random_places(groups)
    worst = [g for g in groups if g.kind == "mlp"]
    for group in worst:
        places[group.name] = places[group.name] * 1e-3
    for ratio in (0.5, 0.25, 0.1):
        plan = fit(groups, places, cost, ratio, floor)
        share = uniform_share(groups, cost, ratio * cost([g.size for g in groups]))
        for group in groups:
            assert len(plan.units(group)) >= max(1, math.floor(floor * share * group.size))
        if floor < 1:
            least = [math.ceil(floor * share * g.size) + 1 for g in worst]
            assert [len(plan.units(g)) for g in worst] <= least  # and no more than that is protected


@pytest.mark.parametrize(("floor", "ratio"), [(0.0, 1e-3), (0.1, 1e-6), (0.9, 1e-6), (1.0, 0.01)])
def test_out_of_reach_names_the_smallest_ratio_which_then_works(floor: float, ratio: float) -> None:
    network = full_ostrack()
    groups = [g for g in network.groups() if g.kind != "width"]
    cost, places = ParamCost(network, groups), random_places(groups)
    with pytest.raises(ValueError, match=rf"ratio={ratio} is out of reach.* the smallest is ") as error:
        fit(groups, places, cost, ratio, floor)
    smallest = float(re.search(r"smallest is (\d+\.\d+)", str(error.value))[1])
    assert smallest > ratio
    assert_tight(groups, cost, fit(groups, places, cost, smallest, floor), smallest)
    with pytest.raises(ValueError, match="out of reach"):
        fit(groups, places, cost, smallest - 2e-4, floor)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_groups_that_are_empty_already_stay_so(floor: float) -> None:
    network = TINY["norms"]()
    compact(network, network.groups(), Plan({"hidden": ()}))
    groups = network.groups()
    cost = ParamCost(network, groups)
    plan = fit(groups, random_places(groups), cost, 0.3, floor)
    assert_tight(groups, cost, plan, 0.3)
    assert plan.units(groups[0]) == ()


def test_only_without_floor_and_only_where_they_may_groups_lose_all_units() -> None:
    groups = [Group("a", "mlp", 4, (), vanish=()), Group("b", "mlp", 4, ())]
    places = {"a": torch.linspace(0.0, 0.1, 4), "b": torch.linspace(0.5, 0.6, 4)}
    assert fit(groups, places, UnitCost(), 0.5, floor=0) == Plan({"a": (), "b": (0, 1, 2, 3)})
    assert fit(groups, places, UnitCost(), 0.5, floor=1e-9) == Plan({"a": (3,), "b": (1, 2, 3)})
    assert fit(groups, places, UnitCost(), 1 / 8, floor=0) == Plan({"a": (), "b": (3,)})
    with pytest.raises(
        ValueError, match=r"with floor=0, 2 groups keep at least 1 of 8 units, and the smallest is 0\.125"
    ):
        fit(groups, places, UnitCost(), 0.1, floor=0)
    with pytest.raises(
        ValueError, match=r"floor=0\.1, 2 groups keep at least 2 of 8 units, and the smallest is 0\.25\."
    ):
        fit(groups, places, UnitCost(), 0.2, floor=0.1)


def test_a_norm_that_vanishes_leaves_its_parameters_to_other_units() -> None:
    network = BranchNet(width=16, hidden=4, depth=2)
    groups = network.groups()
    first, second, width = groups
    places = {first.name: torch.zeros(4), second.name: torch.ones(4), width.name: torch.ones(16)}
    cost = ParamCost(network, groups)
    one, none = cost([1, 4, 16]), cost([0, 4, 16])
    assert one - none == 2 * 16 + 1 + 2 * 16 + 2  # fc1 and fc2 of the last unit, and both norms
    dense = cost([4, 4, 16])
    assert counts(groups, fit(groups, places, cost, (one - 1) / dense, floor=0)) == [0, 4, 16]
    assert counts(groups, fit(groups, places, cost, one / dense, floor=0)) == [1, 4, 16]
    stay = [replace(g, vanish=None) for g in groups]
    assert counts(stay, fit(stay, places, ParamCost(network, stay), (one - 1) / dense, floor=0))[0] == 1


@pytest.mark.parametrize("ratio", [0.6, 0.3, 0.15])
def test_a_child_with_vanished_branches_holds_what_the_budget_says(ratio: float) -> None:
    network = TINY["branches"]()
    groups = network.groups()
    places = random_places(groups)
    for group in groups[:2]:
        places[group.name] = places[group.name] * 1e-3
    dense = count_params(network)
    plan = fit(groups, places, ParamCost(network, groups), ratio, floor=0)
    kept = counts(groups, plan)
    assert 0 in kept
    assert 0 <= ratio * dense - count_params(compact(network, groups, plan)) < 30 * 8  # a channel of the stream


@pytest.mark.parametrize("ratio", [0, -0.1, 1.0001, 25, math.nan])
def test_ratios_outside_of_zero_to_one_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        check_ratio(ratio)
    with pytest.raises(ValueError, match="must lie in"):
        fit([], {}, UnitCost(), ratio)


@pytest.mark.parametrize("floor", [-0.1, 1.1])
def test_floors_outside_of_zero_to_one_are_refused(floor: float) -> None:
    with pytest.raises(ValueError, match=r"floor=.* must lie in \[0, 1\]"):
        fit([], {}, UnitCost(), 0.5, floor)


def test_a_network_without_groups_can_only_stay_whole() -> None:
    cost = ParamCost(nn.Linear(2, 2), [])
    assert fit([], {}, cost, 1) == Plan()
    with pytest.raises(ValueError, match=r"smallest is 1\.0"):
        fit([], {}, cost, 0.5)
