"""Proof of found residual branches: trials without all their units, after which a branch that fails must keep some."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from pruning.discovery.part_cuts import error_of_cut, kind_of
from pruning.groups import Group, branches
from pruning.plan import Plan
from pruning.trial.trials import Trial


def keep_proved_branches(trial: Trial, groups: Sequence[Group], test: Callable[[Plan], object]) -> list[Group]:
    """Returns the groups; those of branches that fail a test without units lose `vanish` and `branch`.

    All branches are emptied together, while other groups lose a part of their units. If that fails, branches of one
    kind are emptied together, and of a kind that fails, each alone.

    Args:
        trial: trial cuts of the network.
        groups: groups that pass the test while they lose a part of their units.
        test: the trial to make.
    """
    candidates = [[groups[i].name for i in members] for members in branches(groups)]
    if not candidates or _pass(trial, groups, test, candidates):
        return list(groups)
    kinds: dict[str, list[list[str]]] = defaultdict(list)
    for members, names in zip(branches(groups), candidates, strict=True):
        kinds[kind_of(groups[members[0]])].append(names)
    passed: list[list[str]] = []
    for of_kind in kinds.values():
        if _pass(trial, groups, test, [*passed, *of_kind]):
            passed += of_kind
            continue
        for names in of_kind:
            if _pass(trial, groups, test, [*passed, names]):
                passed.append(names)
    return _without_others(groups, passed)


def _pass(
    trial: Trial, groups: Sequence[Group], test: Callable[[Plan], object], candidates: Sequence[Sequence[str]]
) -> bool:
    """Returns whether some branches pass a test without units."""
    emptied = {name for names in candidates for name in names}
    return error_of_cut(trial, _without_others(groups, candidates), test, emptied) is None


def _without_others(groups: Sequence[Group], candidates: Sequence[Sequence[str]]) -> list[Group]:
    """Returns the groups, of which only those of some branches may vanish."""
    kept = {name for names in candidates for name in names}
    return [g if g.name in kept else replace(g, vanish=None, branch=None) for g in groups]
