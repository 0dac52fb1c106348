"""Properties of every network that declares its groups, for every cut."""

import copy
import json
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import nn

from pruning.budget import RemovalRules, fit_plan
from pruning.cost import MacCost, ParamCost, UnitCost, count_macs, count_params
from pruning.gates import Gates
from pruning.groups import Group, branches
from pruning.groups.checks import check_groups
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import Mixed, Recipe, compacted, largest_error, shake


def examples(number: int) -> settings:
    return settings(max_examples=number, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def tuples(values: st.SearchStrategy, least: int, most: int) -> st.SearchStrategy:
    return st.lists(values, min_size=least, max_size=most).map(tuple)


def recipes(least: int = 1, most: int = 5) -> st.SearchStrategy[Recipe]:
    """Draws groups of `least` to `most` units, and attention of one to three heads."""
    size = st.integers(least, most)
    stage = st.tuples(size, st.one_of(st.just(0), size), tuples(size, 0, 2))
    return st.builds(
        Recipe, tuples(stage, 1, 3), st.integers(1, 3), size, tuples(st.tuples(size, st.booleans()), 0, 2), size
    )


SEEDS = st.integers(0, 2**10)


@st.composite
def plans(draw: Callable, groups: Sequence[Group]) -> Plan:
    """Draws the units of each group by the bits of a number; a group that must not be empty keeps its last unit."""
    masks = [draw(st.one_of(st.just(0), st.integers(0, 2**g.size - 1))) for g in groups]
    together = {i: branch for branch in branches(groups) for i in branch}
    kept = {}
    for i, (group, mask) in enumerate(zip(groups, masks, strict=True)):
        units = tuple(u for u in range(group.size) if mask >> u & 1)
        may_go = i in together and not any(masks[j] for j in together[i])
        kept[group.name] = units or (() if may_go else (group.size - 1,))
    named = {g.name for g in groups} - draw(st.sets(st.sampled_from([g.name for g in groups])))  # these keep everything
    named |= {groups[j].name for i, g in enumerate(groups) if g.name in named for j in together.get(i, ())}
    return Plan({name: kept[name] for name in kept if name in named})


@st.composite
def gates_of(draw: Callable, network: nn.Module, plan: Plan) -> Gates:
    """Draws gates closed by the plan; the values of the first gates are drawn, the other gates repeat them."""
    gates = Gates(network, network.groups())
    gates.close(plan)
    values = draw(st.lists(st.sampled_from([1.0, 0.25, 1.75, -0.5]), min_size=1, max_size=7))
    gates.values.data.copy_(torch.tensor(values).repeat(len(gates.values))[: len(gates.values)])
    return gates


def built(recipe: Recipe, seed: int) -> Mixed:
    return shake(Mixed(recipe), seed)


def counts(groups: Sequence[Group], plan: Plan) -> list[int]:
    return [len(plan.units(g)) for g in groups]


def places_of(groups: Sequence[Group], seed: int) -> dict[str, torch.Tensor]:
    ranks = torch.randperm(sum(g.size for g in groups), generator=torch.Generator().manual_seed(seed)).double()
    parts = (ranks / max(len(ranks), 1)).split([g.size for g in groups])
    return {g.name: part for g, part in zip(groups, parts, strict=True)}


@examples(70)
@given(st.data(), recipes(), SEEDS)
def test_the_masked_network_computes_what_the_cut_network_computes(
    data: st.DataObject, recipe: Recipe, seed: int
) -> None:
    network = built(recipe, seed)
    plan = data.draw(plans(network.groups()))
    gates = data.draw(gates_of(network, plan))
    child, inputs = compacted(network, gates, plan), network.inputs()
    with torch.no_grad():
        with gates.folded():
            masked = network(**inputs)
        assert largest_error(masked, child(**inputs)) < 1e-9
    assert check_groups(child, child.groups())
    assert [g.size for g in child.groups()] == [n for n in counts(network.groups(), plan) if n]
    event(f"emptied: {sum(not units for units in plan.kept.values())}")


@examples(40)
@given(st.data(), recipes(), SEEDS)
def test_a_plan_after_a_plan_is_one_plan(data: st.DataObject, recipe: Recipe, seed: int) -> None:
    network = built(recipe, seed)
    first = data.draw(plans(network.groups()))
    assert Plan.from_dict(json.loads(json.dumps(first.to_dict()))) == first
    child = compact(copy.deepcopy(network), network.groups(), first)
    second = data.draw(plans(child.groups()))
    both = first.followed_by(second)
    assert Plan.from_dict(json.loads(json.dumps(both.to_dict()))) == both
    both.check(network.groups())
    at_once = compact(copy.deepcopy(network), network.groups(), both)
    step_by_step = compact(child, child.groups(), second)
    a, b = at_once.state_dict(), step_by_step.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    with torch.no_grad():
        assert largest_error(at_once(**network.inputs()), step_by_step(**network.inputs())) < 1e-12


@pytest.mark.slow
@examples(50)
@given(st.data(), recipes())
def test_parameters_in_closed_form_are_those_of_the_child(data: st.DataObject, recipe: Recipe) -> None:
    with torch.device("meta"):
        network = Mixed(recipe)
    groups = network.groups()
    cost = ParamCost(network, groups)
    for _ in range(2):
        plan = data.draw(plans(groups))
        child = compact(copy.deepcopy(network), groups, plan)
        assert cost(counts(groups, plan)) == count_params(child)
    assert ParamCost(child, child.groups())([g.size for g in child.groups()]) == count_params(child)


@pytest.mark.slow
@examples(8)
@given(st.data(), recipes(least=3, most=6))
def test_macs_in_closed_form_are_those_of_the_child(data: st.DataObject, recipe: Recipe) -> None:
    with torch.device("meta"):
        network = Mixed(recipe)
    groups = network.groups()
    cost = MacCost(network, groups, Mixed.inputs)
    for _ in range(3):
        plan = data.draw(plans(groups))
        child = compact(copy.deepcopy(network), groups, plan)
        assert round(cost(counts(groups, plan))) == count_macs(child, Mixed.inputs()).total


def next_blocks(group: Group, plan: Plan, open_units: set[int], step: int) -> list[int]:
    """Returns how many units would return next in every run."""
    kept, begin, found = {*plan.units(group)}, 0, []
    for run in group.runs or (group.size,):
        units = {*range(begin, begin + run)}
        begin += run
        n, there = len(kept & units), len(open_units & units)
        assert n % step == 0 or n == there
        if n < there:
            found.append(min(step, there - n))
    return found


@pytest.mark.slow
@examples(80)
@given(
    recipes(most=9),
    SEEDS,
    st.integers(10, 100),
    st.sampled_from([0.0, 0.1, 0.6]),
    st.integers(1, 4),
    st.booleans(),
    st.lists(st.integers(1, 5), max_size=3),
)
def test_budgets_are_met_tightly_and_nothing_returns(
    recipe: Recipe, seed: int, percent: int, floor: float, step: int, of_units: bool, falls: list[int]
) -> None:
    with torch.device("meta"):
        network = Mixed(recipe)
    groups = network.groups()
    cost = (UnitCost if of_units else ParamCost)(network, groups)
    dense, gone, rules, ratio = cost([g.size for g in groups]), Plan(), RemovalRules(floor, step), percent / 100
    for i, fall in enumerate([0, *falls]):
        ratio *= 1 - fall / 10
        try:
            plan = fit_plan(groups, places_of(groups, seed + i), cost, ratio, rules, gone)
        except ValueError:
            least = cost([g.vanish is None or g.branch is not None for g in groups])
            assert least > ratio * dense or floor or step > 1
            event("out of reach")
            return
        plan.check(groups)
        kept = counts(groups, plan)
        assert cost(kept) <= ratio * dense * (1 + 1e-12)
        for j, group in enumerate(groups):
            assert {*plan.units(group)} <= {*gone.units(group)}
            assert kept[j] or (floor == 0 and group.vanish is not None and group.branch is None)
            for block in next_blocks(group, plan, {*gone.units(group)}, step):
                more = [k + block * (j == i) for i, k in enumerate(kept)]
                assert cost(more) > ratio * dense
        assert count_params(compact(copy.deepcopy(network), groups, plan)) == ParamCost(network, groups)(kept)
        gone = plan
    event("met")


@examples(60)
@given(recipes(most=6), SEEDS, st.integers(10, 100), st.lists(st.integers(1, 5), max_size=2))
def test_whole_branches_leave_or_stay(recipe: Recipe, seed: int, percent: int, falls: list[int]) -> None:
    with torch.device("meta"):
        network = Mixed(recipe)
    groups = network.groups()
    cost, gone, ratio = ParamCost(network, groups), Plan(), percent / 100
    least = cost([g.size * (g.vanish is None) for g in groups])
    dense = cost([g.size for g in groups])
    for i, fall in enumerate([0, *falls]):
        ratio *= 1 - fall / 10
        try:
            plan = fit_plan(groups, places_of(groups, seed + i), cost, ratio, RemovalRules(0, 1, True), gone)
        except ValueError:
            assert least > ratio * dense
            return
        kept = counts(groups, plan)
        assert cost(kept) <= ratio * dense * (1 + 1e-12)
        for branch in branches(groups):
            assert {kept[j] / groups[j].size for j in branch} in ({0}, {1})
            if not kept[branch[0]] and all(gone.units(groups[j]) for j in branch):
                assert cost([groups[j].size if j in branch else k for j, k in enumerate(kept)]) > ratio * dense
        assert all({*plan.units(g)} <= {*gone.units(g)} for g in groups)
        assert all(k == g.size for k, g in zip(kept, groups, strict=True) if g.vanish is None)
        assert count_params(compact(copy.deepcopy(network), groups, plan)) == cost(kept)
        gone = plan


@examples(40)
@given(st.data(), recipes(), SEEDS)
def test_masks_on_their_way_begin_and_end_as_hard_ones(data: st.DataObject, recipe: Recipe, seed: int) -> None:
    network = built(recipe, seed)
    groups = network.groups()
    before, after = (data.draw(plans(groups)) for _ in range(2))
    gates = data.draw(gates_of(network, before))

    def outputs() -> dict[str, torch.Tensor]:
        with torch.no_grad(), gates.folded():
            return network(**network.inputs())

    start, hard_start = outputs(), gates.mask.clone()
    gates.close(after)
    end, hard_end = outputs(), gates.mask.clone()
    gates.close(after, before, 0.0)
    assert torch.equal(gates.mask, hard_start)
    assert torch.equal(outputs()["out"], start["out"])
    gates.close(after, before, 1.0)
    assert torch.equal(gates.mask, hard_end)
    assert torch.equal(outputs()["out"], end["out"])
    gates.close(after, before, 0.25)
    torch.testing.assert_close(gates.mask, 0.75 * hard_start + 0.25 * hard_end)
    assert outputs()["out"].isfinite().all()
    for progress, near in ((1e-6, start), (1 - 1e-6, end)):  # without a jump
        gates.close(after, before, progress)
        assert largest_error(near, outputs()) < 0.02
