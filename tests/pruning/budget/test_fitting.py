import copy
import functools
import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pruning.budget import RemovalRules, fit_plan
from pruning.budget.ranking import quantile_ranks
from pruning.cost import Cost, MacCost, ParamCost, UnitCost, count_macs, count_params
from pruning.groups import Group, branches
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import BranchNet, ConvNet, Mixed, NormNet, Recipe, full_ostrack, tiny_ostrack

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
    return quantile_ranks(scores, groups, {"default": scope})


def units(groups: Sequence[Group]) -> UnitCost:
    return UnitCost(nn.Identity(), groups)


def counts(groups: Sequence[Group], plan: Plan) -> list[int]:
    plan.check(groups)
    return [len(plan.units(g)) for g in groups]


def uniform_share(groups: Sequence[Group], cost: Cost, asked: float) -> float:
    shares = torch.linspace(0, 1, 20001, dtype=torch.float64).tolist()
    return max(s for s in shares[::10] if s == 0 or cost([s * g.size for g in groups]) <= asked)


def assert_tight(groups: Sequence[Group], cost: Cost, plan: Plan, ratio: float) -> None:
    """Asserts that the cost fits and that no removed unit could return."""
    kept, asked = counts(groups, plan), ratio * cost([g.size for g in groups]) * (1 + 1e-12)
    assert cost(kept) <= asked
    for i, group in enumerate(groups):
        if kept[i] < group.size:
            assert cost([k + (i == j) for j, k in enumerate(kept)]) > asked, group.name


def assert_ranked(groups: Sequence[Group], places: dict[str, Tensor], plan: Plan) -> None:
    """Asserts that no unit is kept while a better one of its group is removed."""
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
    for cost in (ParamCost(network, groups), UnitCost(network, groups)):
        for ratio in RATIOS:
            try:
                plan = fit_plan(groups, places, cost, ratio, RemovalRules(floor))
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
    cost = ParamCost(network, groups) if of == "params" else UnitCost(network, groups)
    for ratio in RATIOS:
        start = time.process_time()
        plan = fit_plan(groups, places, cost, ratio)
        assert time.process_time() - start < 5
        assert_tight(groups, cost, plan, ratio)
        assert_ranked(groups, places, plan)
        achieved = cost(counts(groups, plan)) / cost([g.size for g in groups])
        assert ratio - achieved < (1e-4 if of == "units" else 1e-5)


FULL_INPUTS = {"template": torch.empty(1, 3, 128, 128), "search": torch.empty(1, 3, 256, 256)}


@functools.cache
def published(of: str) -> tuple[nn.Module, Cost]:
    network = full_ostrack()
    groups = network.groups()
    return network, ParamCost(network, groups) if of == "params" else MacCost(network, groups, lambda _: FULL_INPUTS)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["params", "macs"])
@pytest.mark.parametrize("ratio", [0.5, 0.25, 0.1])
def test_the_child_holds_what_the_budget_says(of: str, ratio: float) -> None:
    network, cost = published(of)
    groups = network.groups()
    start = time.process_time()
    plan = fit_plan(groups, random_places(groups), cost, ratio)
    assert time.process_time() - start < 5
    assert_tight(groups, cost, plan, ratio)
    child = compact(copy.deepcopy(network), groups, plan)
    whole, left = (count_params(n) if of == "params" else count_macs(n, FULL_INPUTS).total for n in (network, child))
    assert cost(counts(groups, plan)) == left
    assert cost([g.size for g in groups]) == whole
    # The cheapest unit that left: a row and a column of a tower or an MLP, at every place of the maps.
    assert 0 <= ratio * whole - left < (768 if of == "params" else 1e6)


@pytest.mark.parametrize("rules", [RemovalRules(0), RemovalRules(0.1, 8), RemovalRules(0, 1, True)])
def test_budgets_with_rounding_or_whole_branches_are_met_within_seconds(rules: RemovalRules) -> None:
    network, cost = published("params")
    groups = network.groups()
    start = time.process_time()
    fit_plan(groups, random_places(groups), cost, 0.5, rules)
    assert time.process_time() - start < 5


def test_ratio_one_keeps_everything() -> None:
    network = TINY["cnn"]()
    groups = network.groups()
    assert fit_plan(groups, random_places(groups), ParamCost(network, groups), 1) == Plan()


def test_the_best_units_stay_without_floors() -> None:
    groups = [Group("a", "mlp", 4, ()), Group("b", "mlp", 4, ())]
    places = {"a": torch.tensor([0.9, 0.1, 0.8, 0.7]), "b": torch.tensor([0.2, 0.6, 0.3, 0.4])}

    def fitted(ratio: float, floor: float) -> Plan:
        return fit_plan(groups, places, units(groups), ratio, RemovalRules(floor))

    assert fitted(0.5, 0) == Plan({"a": (0, 2, 3), "b": (1,)})
    assert fitted(0.25, 0) == Plan({"a": (0,), "b": (1,)})  # every group keeps at least one unit
    assert fitted(0.5, 1) == Plan({"a": (0, 2), "b": (1, 3)})  # every group keeps the same share


def test_a_unit_that_is_too_dear_makes_room_for_cheaper_ones() -> None:
    groups = [Group("dear", "mlp", 3, ()), Group("cheap", "mlp", 20, ())]
    places = {"dear": torch.full((3,), 0.5), "cheap": torch.linspace(0, 0.4, 20)}

    def cost(kept: Sequence[float]) -> float:
        return 100 * kept[0] + kept[1]

    plan = fit_plan(groups, places, cost, 215 / 320, RemovalRules(0))
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
        plan = fit_plan(groups, places, cost, ratio, RemovalRules(floor))
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
        fit_plan(groups, places, cost, ratio, RemovalRules(floor))
    smallest = float(re.search(r"smallest is (\d+\.\d+)", str(error.value))[1])
    assert smallest > ratio
    assert_tight(groups, cost, fit_plan(groups, places, cost, smallest, RemovalRules(floor)), smallest)
    with pytest.raises(ValueError, match="out of reach"):
        fit_plan(groups, places, cost, smallest - 2e-4, RemovalRules(floor))


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_groups_that_a_cut_has_emptied_stay_empty(floor: float) -> None:
    network = TINY["norms"]()
    compact(network, network.groups(), Plan({"hidden": ()}))
    groups = network.groups()
    cost = ParamCost(network, groups)
    plan = fit_plan(groups, random_places(groups), cost, 0.3, RemovalRules(floor))
    assert_tight(groups, cost, plan, 0.3)
    assert plan.units(groups[0]) == ()


def test_only_without_floor_and_only_where_they_may_groups_lose_all_units() -> None:
    groups = [Group("a", "mlp", 4, (), vanish=()), Group("b", "mlp", 4, ())]
    places = {"a": torch.linspace(0.0, 0.1, 4), "b": torch.linspace(0.5, 0.6, 4)}
    assert fit_plan(groups, places, units(groups), 0.5, RemovalRules(0)) == Plan({"a": (), "b": (0, 1, 2, 3)})
    assert fit_plan(groups, places, units(groups), 0.5, RemovalRules(1e-9)) == Plan({"a": (3,), "b": (1, 2, 3)})
    assert fit_plan(groups, places, units(groups), 1 / 8, RemovalRules(0)) == Plan({"a": (), "b": (3,)})
    with pytest.raises(
        ValueError, match=r"the smallest is 0\.125, with 1 of 8 units left in 2 groups\. .* 'b' \(1 of 4 units\)"
    ):
        fit_plan(groups, places, units(groups), 0.1, RemovalRules(0))
    with pytest.raises(ValueError, match=r"the smallest is 0\.25, .*floor=0, now 0\.1"):
        fit_plan(groups, places, units(groups), 0.2, RemovalRules(0.1))


def test_a_norm_that_vanishes_leaves_its_parameters_to_other_units() -> None:
    network = BranchNet(width=16, hidden=4, depth=2)
    groups = network.groups()
    first, second, width = groups
    places = {first.name: torch.zeros(4), second.name: torch.ones(4), width.name: torch.ones(16)}
    cost = ParamCost(network, groups)
    one, none = cost([1, 4, 16]), cost([0, 4, 16])
    assert one - none == 2 * 16 + 1 + 2 * 16 + 2  # fc1 and fc2 of the last unit, and both norms
    dense = cost([4, 4, 16])
    assert counts(groups, fit_plan(groups, places, cost, (one - 1) / dense, RemovalRules(0))) == [0, 4, 16]
    assert counts(groups, fit_plan(groups, places, cost, one / dense, RemovalRules(0))) == [1, 4, 16]
    stay = [replace(g, vanish=None) for g in groups]
    assert counts(stay, fit_plan(stay, places, ParamCost(network, stay), (one - 1) / dense, RemovalRules(0)))[0] == 1


@pytest.mark.parametrize("ratio", [0.6, 0.3, 0.15])
def test_a_child_with_vanished_branches_holds_what_the_budget_says(ratio: float) -> None:
    network = TINY["branches"]()
    groups = network.groups()
    places = random_places(groups)
    for group in groups[:2]:
        places[group.name] = places[group.name] * 1e-3
    dense = count_params(network)
    plan = fit_plan(groups, places, ParamCost(network, groups), ratio, RemovalRules(0))
    kept = counts(groups, plan)
    assert 0 in kept
    assert 0 <= ratio * dense - count_params(compact(network, groups, plan)) < 30 * 8  # a channel of the stream


@pytest.mark.parametrize("floor", [-0.1, 1.1])
def test_floors_outside_of_zero_to_one_are_refused(floor: float) -> None:
    with pytest.raises(ValueError, match=r"floor=.* must lie in \[0, 1\]"):
        RemovalRules(floor)


def test_a_network_without_groups_can_only_stay_whole() -> None:
    cost = ParamCost(nn.Linear(2, 2), [])
    assert fit_plan([], {}, cost, 1) == Plan()
    with pytest.raises(ValueError, match=r"smallest is 1\.0"):
        fit_plan([], {}, cost, 0.5)


def runs_kept(group: Group, plan: Plan) -> list[tuple[int, int]]:
    """Returns the numbers of kept units and of all units of every run."""
    kept, begin, found = set(plan.units(group)), 0, []
    for run in group.runs or (group.size,):
        found.append((len(kept & {*range(begin, begin + run)}), run))
        begin += run
    return found


def assert_rounded(groups: Sequence[Group], cost: Cost, plan: Plan, ratio: float, step: int) -> None:
    """Asserts that kept counts of runs are multiples or complete, and that no further block fits."""
    kept, asked = counts(groups, plan), ratio * cost([g.size for g in groups]) * (1 + 1e-12)
    assert cost(kept) <= asked
    for i, group in enumerate(groups):
        for n, run in runs_kept(group, plan):
            assert n % step == 0 or n == run, group.name
            if n < run:
                assert cost([k + min(step, run - n) * (i == j) for j, k in enumerate(kept)]) > asked, group.name


@pytest.mark.parametrize("step", [2, 3, 8])
@pytest.mark.parametrize("name", TINY)
def test_kept_counts_are_rounded_run_by_run(name: str, step: int) -> None:
    network = TINY[name]()
    groups = network.groups()
    places, reached = random_places(groups), 0
    for cost in (ParamCost(network, groups), units(groups)):
        for ratio in (0.9, 0.7, 0.5, 0.35):
            for floor in (0, 0.1, 0.5):
                try:
                    plan = fit_plan(groups, places, cost, ratio, RemovalRules(floor, step))
                except ValueError:
                    assert step == 8  # no group can have less than a block
                    continue
                reached += 1
                assert_rounded(groups, cost, plan, ratio, step)
    assert reached >= 12


def test_of_every_run_the_best_stay_and_the_rest_leaves_first() -> None:
    group = Group("a", "attention", 16, (), runs=(10, 6))
    places = {"a": torch.cat([torch.arange(10) * 0.01, 0.5 + torch.arange(6) * 0.01])}
    for kept, ratio in [((8, 6), 0.9), ((4, 6), 0.7), ((0, 6), 0.6), ((0, 4), 0.3)]:
        plan = fit_plan([group], places, units([group]), ratio, RemovalRules(0, 4))
        assert runs_kept(group, plan) == [*zip(kept, group.runs, strict=True)], ratio
        assert set(plan.units(group)) == {*range(10 - kept[0], 10), *range(16 - kept[1], 16)}


def test_the_rest_of_a_run_does_not_return_in_place_of_a_block() -> None:
    """10 units are removed in blocks of 2 + 4 + 4 and 6.5 may stay: 4 units stay, as 2 + 4 is no multiple."""
    for places in (torch.linspace(0, 1, 10), torch.full((10,), 0.5)):
        group = Group("a", "mlp", 10, ())
        plan = fit_plan([group], {"a": places}, units([group]), 0.65, RemovalRules(0, 4))
        assert len(plan.units(group)) == 4
        several = [replace(group, name=name) for name in "abc"]
        plan = fit_plan(several, {g.name: places for g in several}, units(several), 0.65, RemovalRules(0.5, 4))
        assert sorted(counts(several, plan)) == [4, 4, 10]


def test_a_run_shorter_than_a_block_stays_or_leaves_whole() -> None:
    groups = [Group("a", "mlp", 3, (), vanish=()), Group("b", "mlp", 8, ())]
    places = {"a": torch.full((3,), 0.1), "b": torch.full((8,), 0.5)}
    assert counts(groups, fit_plan(groups, places, units(groups), 0.9, RemovalRules(0, 8))) == [0, 8]
    with pytest.raises(ValueError, match=r"smallest is 0\.7273, .* 'b' \(8 of 8 units\).*pruning.round_to=1, now 8"):
        fit_plan(groups, places, units(groups), 0.5, RemovalRules(0, 8))


MIXED = Recipe(((6, 4, (5, 4)), (5, 0, (6,))), 2, 6, ((9, False), (8, True), (7, True)), 10)
BRANCHY = {
    "mixed": lambda: Mixed(MIXED),
    "branches": TINY["branches"],
    "ostrack": TINY["ostrack"],
    "norms": TINY["norms"],
}


@pytest.mark.parametrize("name", BRANCHY)
@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_groups_of_a_branch_lose_all_their_units_together(name: str, floor: float) -> None:
    network = BRANCHY[name]()
    groups = network.groups()
    members = branches(groups)
    assert any(len(m) > 1 for m in members) == (name == "mixed")
    for cost in (ParamCost(network, groups), units(groups)):
        dense, seen = cost([g.size for g in groups]), set()
        for ratio in (0.95, 0.8, 0.6, 0.45):
            try:
                plan = fit_plan(groups, random_places(groups), cost, ratio, RemovalRules(floor, 1, True))
            except ValueError:
                least = cost([g.size * (g.vanish is None) for g in groups])
                assert least > ratio * dense
                continue
            kept = counts(groups, plan)
            assert cost(kept) <= ratio * dense
            assert all(k in (0, g.size) for k, g in zip(kept, groups, strict=True))
            assert all(k == g.size for k, g in zip(kept, groups, strict=True) if g.vanish is None)
            for branch in members:
                assert len({kept[i] > 0 for i in branch}) == 1
                if not kept[branch[0]]:
                    with_it = [g.size if i in branch else k for i, (g, k) in enumerate(zip(groups, kept, strict=True))]
                    assert cost(with_it) > ratio * dense
            compact(copy.deepcopy(network), groups, plan)
            seen.add(tuple(kept))
        assert seen


def test_the_worst_branch_leaves_first() -> None:
    groups = [
        *(Group(f"a{i}", "mlp", 4, (), vanish=(), branch="a") for i in range(2)),
        *(Group(f"b{i}", "mlp", 2 + i, (), vanish=(), branch="b") for i in range(2)),
        Group("c", "mlp", 6, (), vanish=()),
        Group("width", "width", 3, ()),
    ]
    places = {"a0": [0.1] * 4, "a1": [0.8] * 4, "b0": [0.3] * 2, "b1": [0.3] * 3, "c": [0.6] * 6, "width": [0.0] * 3}
    places = {name: torch.tensor(p) for name, p in places.items()}
    whole = RemovalRules(0, 1, True)
    assert counts(groups, fit_plan(groups, places, units(groups), 0.9, whole)) == [4, 4, 0, 0, 6, 3]
    assert counts(groups, fit_plan(groups, places, units(groups), 0.65, whole)) == [0, 0, 2, 3, 6, 3]  # b returns
    assert counts(groups, fit_plan(groups, places, units(groups), 0.45, whole)) == [0, 0, 0, 0, 6, 3]
    with pytest.raises(
        ValueError, match=r"smallest is 0\.1364, with 3 of 22 .* 13\.64% in 'width' .*pruning.whole_branches=False"
    ):
        fit_plan(groups, places, units(groups), 0.1, whole)


def test_partners_in_a_branch_do_not_vanish_one_by_one() -> None:
    network = Mixed(MIXED)
    groups = network.groups()
    places = random_places(groups)
    for group in groups:
        if group.vanish is not None:
            places[group.name] = places[group.name] * 1e-3
    plan = fit_plan(groups, places, ParamCost(network, groups), 0.3, RemovalRules(0))
    kept = counts(groups, plan)
    assert all(k > 0 for k, g in zip(kept, groups, strict=True) if g.branch is not None)
    assert any(k == 0 for k, g in zip(kept, groups, strict=True) if g.vanish is not None and g.branch is None)
    compact(network, groups, plan)


@pytest.mark.parametrize(
    "rules", [RemovalRules(0), RemovalRules(0.1), RemovalRules(0.8), RemovalRules(0, 4), RemovalRules(0, 1, True)]
)
@pytest.mark.parametrize("name", ["ostrack", "cnn"])
def test_units_that_an_earlier_plan_removed_never_return(name: str, rules: RemovalRules) -> None:
    network = TINY[name]()
    groups, gone = network.groups(), Plan()
    cost = ParamCost(network, groups)
    for step, ratio in enumerate((0.95, 0.8, 0.75, 1.0, 0.8, 0.75, 0.6)):
        try:
            plan = fit_plan(groups, random_places(groups, seed=step), cost, ratio, rules, gone)
        except ValueError:
            assert rules.whole_branches
            continue
        for group in groups:
            assert {*plan.units(group)} <= {*gone.units(group)}, (group.name, ratio)
        if ratio == 1 or cost(counts(groups, gone)) <= ratio * cost([g.size for g in groups]):
            assert [plan.units(g) for g in groups] == [gone.units(g) for g in groups]  # nothing more leaves than must
        gone = plan
    assert any(len(gone.units(g)) < g.size for g in groups)


def test_floors_bring_back_no_unit_that_an_earlier_plan_removed() -> None:
    groups = [Group("a", "mlp", 20, ()), Group("b", "mlp", 20, ())]
    places = {"a": torch.linspace(0, 0.4, 20), "b": torch.linspace(0.5, 1, 20)}
    gone = fit_plan(groups, places, units(groups), 0.5)
    assert counts(groups, gone) == [1, 19]
    assert counts(groups, fit_plan(groups, places, units(groups), 1, RemovalRules(0.5), gone)) == [1, 19]


def test_blocks_have_only_units_that_an_earlier_plan_kept() -> None:
    group = Group("a", "mlp", 12, ())
    places = {"a": torch.linspace(0, 1, 12)}
    gone = Plan({"a": tuple(range(1, 12))})
    assert fit_plan([group], places, units([group]), 1, RemovalRules(0, 4), gone) == gone
    plan = fit_plan([group], places, units([group]), 0.9, RemovalRules(0, 4), gone)
    assert plan == Plan({"a": tuple(range(4, 12))})


def test_empty_groups_do_not_disturb_branches() -> None:
    groups = [Group(name, "mlp", size, (), vanish=()) for name, size in (("a", 4), ("empty", 0), ("b", 4), ("c", 4))]
    places = {g.name: torch.full((g.size,), p) for g, p in zip(groups, (0.9, 0.0, 0.1, 0.5), strict=True)}
    for ratio, kept in ((0.7, [4, 0, 0, 4]), (0.34, [4, 0, 0, 0])):
        assert counts(groups, fit_plan(groups, places, units(groups), ratio, RemovalRules(0, 1, True))) == kept


def test_a_share_of_units_is_exact_although_floats_are_not() -> None:
    groups = [Group(f"{i}", "mlp", 1, ()) for i in range(28)] + [Group("big", "mlp", 72, ())]
    places = {g.name: torch.linspace(0, 1, g.size) for g in groups}
    assert 0.29 * 100 < 29
    assert sum(counts(groups, fit_plan(groups, places, units(groups), 0.29, RemovalRules(0)))) == 29
    with pytest.raises(ValueError, match=r"smallest is 0\.29,"):
        fit_plan(groups, places, units(groups), 0.1, RemovalRules(0))


@pytest.mark.parametrize("rules", [RemovalRules(0), RemovalRules(0.5), RemovalRules(0.2, 8), RemovalRules(0, 1, True)])
@pytest.mark.parametrize("of", ["params", "units"])
def test_the_message_tells_what_is_in_the_way_and_names_the_settings_that_would_help(
    of: str, rules: RemovalRules
) -> None:
    network = TINY["ostrack"]()
    groups = [g for g in network.groups() if g.kind != "width"]
    cost, places = ParamCost(network, groups) if of == "params" else units(groups), random_places(groups)
    dense = cost([g.size for g in groups])
    with pytest.raises(ValueError, match=r"^ratio=0\.001 is out of reach: ") as error:
        fit_plan(groups, places, cost, 0.001, rules)
    message = str(error.value)
    smallest, left = re.search(r"the smallest is ([\d.]+), with (\d+) of \d+ units left", message).groups()
    plan = fit_plan(groups, places, cost, float(smallest), rules)
    assert sum(counts(groups, plan)) >= int(left)
    with pytest.raises(ValueError, match="out of reach"):
        fit_plan(groups, places, cost, float(smallest) - 2e-4, rules)
    constant = float(re.search(r"The remaining cost is ([\d.]+)% that no group cuts", message)[1])
    assert constant == pytest.approx(100 * cost([0] * len(groups)) / dense, abs=0.01)
    named = re.findall(r"([\d.]+)% in '([^']+)' \((\d+) of \d+ units\)", message)
    assert 1 <= len(named) <= 3
    shares = [float(share) for share, _, _ in named]
    assert shares == sorted(shares, reverse=True)
    assert {name for _, name, _ in named} <= {g.name for g in groups}
    assert all(int(n) <= next(g.size for g in groups if g.name == name) for _, name, n in named)
    assert ("(pruning.round_to=1, now" in message) == (rules.round_to > 1)
    assert ("(pruning.floor=0, now" in message) == (rules.floor > 0)
    assert ("(pruning.whole_branches=False)" in message) == rules.whole_branches


@pytest.mark.parametrize("step", [0, -1, 1.5])
def test_round_to_that_is_no_positive_integer_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match=r"round_to=.* must be a positive integer"):
        RemovalRules(0.1, step)


def test_a_floor_of_which_nothing_is_left_is_no_remedy() -> None:
    groups = [Group("a", "mlp", 4, ())]
    with pytest.raises(ValueError, match=r"smallest is 0\.25, .* Possible remedies: .*prune more groups$"):
        fit_plan(groups, {"a": torch.rand(4)}, units(groups), 0.1, RemovalRules(0.1))
