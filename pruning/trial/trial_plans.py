"""Plans that trial cuts try: a part of the units of a group, or all units of a branch."""

from collections.abc import Callable, Sequence

import torch

from pruning.budget import RemovalRules
from pruning.cost.tracing import separating_sets
from pruning.groups import Group, branches
from pruning.plan import Plan


def part_plans(
    groups: Sequence[Group], rules: RemovalRules, choose: Callable[[Group, int], tuple[int, ...]]
) -> list[Plan]:
    """Returns a plan for each group that may lose a part of its units; `choose` returns the kept units."""
    if rules.whole_branches:
        return []
    plans = [Plan({g.name: choose(g, rules.multiple(g))}) for g in groups]
    return [plan for g, plan in zip(groups, plans, strict=True) if len(plan.units(g)) < g.size]


def _runs(group: Group) -> list[range]:
    """Returns the units of each run. Runs of single units are treated as one run."""
    lengths = group.runs if max(group.runs, default=0) > 1 else (group.size,)
    return [range(sum(lengths[:i]), sum(lengths[: i + 1])) for i in range(len(lengths))]


def without_last_units(group: Group, round_to: int) -> tuple[int, ...]:
    """Returns the kept units of the smallest cut: the last units of one run are removed."""
    for run in _runs(group):
        if kept := (len(run) - 1) // round_to * round_to:
            return tuple(u for u in range(group.size) if not run[kept] <= u < run.stop)
    return tuple(range(group.size))


def random_half(group: Group, round_to: int) -> tuple[int, ...]:
    """Returns random units, about half of each run."""
    kept = []
    for run in _runs(group):
        count = len(run) // 2 // round_to * round_to or min(round_to, len(run))
        kept += [run[i] for i in torch.randperm(len(run), device="cpu")[:count].tolist()]
    return tuple(sorted(kept))


def empty_branches(groups: Sequence[Group], rules: RemovalRules) -> list[Plan]:
    """Returns a plan for each branch that may lose all its units."""
    may_vanish = [g.vanish is not None and (rules.whole_branches or (not rules.floor and not g.branch)) for g in groups]
    members = [m for m in branches(groups) if all(may_vanish[i] for i in m)]
    return [Plan({groups[i].name: () for i in m}) for m in members]


def separated(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Returns a few selections of the plans. For every two plans, a selection contains only the first of them."""
    cut_sets = separating_sets(torch.ones(len(plans)))
    return [[plan for plan, cut in zip(plans, cuts, strict=True) if cut] for cuts in cut_sets.tolist()]


def merge(plans: Sequence[Plan]) -> Plan:
    """Returns the plan that makes the cuts of all plans, which are of different groups."""
    return Plan({name: units for plan in plans for name, units in plan.kept.items()})
