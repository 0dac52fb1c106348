"""Trial cuts of found groups, and the kinds of groups that are tried together."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import torch

from pruning.errors import PruningError
from pruning.groups import Group
from pruning.plan import Plan
from pruning.trial.cut_errors import CutError
from pruning.trial.trial_plans import random_half
from pruning.trial.trials import Trial


def kind_of(group: Group) -> str:
    """Returns the name of a group without its numbers, which alike layers of a network share."""
    return re.sub(r"\d+", "N", group.name)


def by_kind(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Returns the groups of each kind."""
    kinds: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        kinds[kind_of(group)].append(group)
    return kinds


def error_of_cut(
    trial: Trial, groups: Sequence[Group], test: Callable[[Plan], object], emptied: Collection[str] = ()
) -> str | None:
    """Returns why a part of the units of groups cannot be removed; None if they can.

    Args:
        trial: trial cuts of a network.
        groups: the groups. A wrong declaration fails, whatever is cut.
        test: the trial to make.
        emptied: names of groups that lose all their units.
    """
    trial.groups = list(groups)
    try:
        test(Plan({g.name: () if g.name in emptied else _random_part(g) for g in groups}))
    except (CutError, PruningError, RuntimeError) as error:  # also a norm that cannot be masked
        return str(error)
    return None


def _random_part(group: Group) -> tuple[int, ...]:
    """Returns random units, 30 to 80 % of a group. Two widths that must be equal would be so if all lost a half."""
    if group.runs:
        return random_half(group, 1)
    count = min(max(round(group.size * float(torch.empty(()).uniform_(0.3, 0.8))), 1), group.size - 1)
    return tuple(sorted(torch.randperm(group.size)[:count].tolist()))
