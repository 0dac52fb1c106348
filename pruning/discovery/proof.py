"""Proof of found groups: trial cuts, after which a group that cannot be cut is left whole."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning.arguments import InputFunction
from pruning.cost import copy_to_meta
from pruning.errors import PruningError
from pruning.groups import Group
from pruning.plan import Plan
from pruning.trial.cut_errors import CutError
from pruning.trial.layer_sizes import check_layers
from pruning.trial.trial_plans import random_half
from pruning.trial.trials import (
    MAX_MACS,
    PRECISE,
    Trial,
    copy_to_cpu,
    count_macs_on_meta,
    has_gates_in_several_layers,
    random_numbers_kept,
)

HALF = (torch.float16, torch.bfloat16)


def separate(
    network: nn.Module, groups: Sequence[Group], inputs: InputFunction
) -> tuple[list[Group], list[tuple[Group, str]]]:
    """Separates groups that can be cut from groups that cannot.

    A part of the units of all groups is removed from a copy of the network. Shapes are tried on the meta device.
    Values of the cut copy and of the masked network are compared if a forward needs less than `trials.MAX_MACS`, with
    the parts for the training too. If a trial fails, fewer groups are tried, until the groups at fault are known.

    Args:
        network: the network; it stays as it is.
        groups: the groups to try.
        inputs: returns the arguments of a forward.

    Returns:
        The groups that can be cut, and the others, each with the reason.
    """
    meta = copy_to_meta(network)
    refused: list[tuple[Group, str]] = []
    with random_numbers_kept(network), torch.no_grad():
        macs = count_macs_on_meta(meta, inputs)
        trial = Trial(meta if macs is not None else copy_to_cpu(network), list(groups), inputs)
        groups = _sieve(trial, list(groups), trial.run, refused)
        groups = _sieve(trial, groups, lambda _: check_layers(trial.network, trial.groups), refused)
        if not any(p.is_meta for p in network.parameters()) and (macs or 0) < MAX_MACS:
            precise = _precise(network, inputs)
            groups = groups if precise is None else _sieve_values(*precise, groups, refused)
    return list(groups), refused


def _precise(network: nn.Module, inputs: InputFunction) -> tuple[nn.Module, InputFunction] | None:
    """Returns a copy of a network on the CPU whose numbers can be compared, and its inputs; None if it does not run."""
    copy = copy_to_cpu(network)
    if all(p.dtype in PRECISE for p in network.parameters()):
        return copy, inputs

    def in_float(of: nn.Module) -> dict[str, Any]:
        return tree_map_only(Tensor, lambda t: t.float() if t.dtype in HALF else t, dict(inputs(of)))

    try:
        copy.float()(**tree_map_only(Tensor, Tensor.cpu, in_float(copy)))
    except Exception:  # of any kind: the network may need its own type
        return None
    return copy, in_float


def _sieve_values(
    network: nn.Module, inputs: InputFunction, groups: list[Group], refused: list[tuple[Group, str]]
) -> list[Group]:
    """Returns the groups whose cut has the effect of closed gates, and adds the others to `refused`."""
    trial = Trial(network, groups, inputs)
    trial.vary_constants()
    groups = _sieve(trial, groups, trial.compare, refused)
    for test in trial.training_tests() if groups else []:
        groups = _sieve(trial, groups, test, refused)
    twice = {}
    for kind, members in _by_kind([g for g in groups if has_gates_in_several_layers(g)]).items():
        twice[kind] = _error(trial, members[:1], trial.scale)  # the other members have the same layers
    refused += [(g, error) for g in groups if (error := twice.get(_kind(g)))]
    return [g for g in groups if not twice.get(_kind(g))]


def _sieve(
    trial: Trial, groups: list[Group], test: Callable[[Plan], object], refused: list[tuple[Group, str]]
) -> list[Group]:
    """Returns the groups that pass a test together, and adds the others to `refused`.

    If all together fail, groups of one kind (the same name but for its numbers) are tested together. Of a kind that
    fails, each group is tested alone, as usually all of them fail for one reason.
    """
    if not groups or _error(trial, groups, test) is None:
        return groups
    passed: list[Group] = []
    for members in _by_kind(groups).values():
        if _error(trial, [*passed, *members], test) is None:
            passed += members
            continue
        for group in members:
            error = _error(trial, [*passed, group], test)
            if error is None:
                passed.append(group)
            else:
                refused.append((group, error))
    return passed


def _kind(group: Group) -> str:
    """Returns the name of a group without its numbers, which alike layers of a network share."""
    return re.sub(r"\d+", "N", group.name)


def _by_kind(groups: Sequence[Group]) -> dict[str, list[Group]]:
    kinds: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        kinds[_kind(group)].append(group)
    return kinds


def _error(trial: Trial, groups: Sequence[Group], test: Callable[[Plan], object]) -> str | None:
    """Returns why a part of the units of groups cannot be removed; None if they can."""
    trial.groups = list(groups)  # a wrong declaration fails, whatever is cut
    plan = Plan({g.name: _random_part(g) for g in groups})
    try:
        test(plan)
    except (CutError, PruningError, RuntimeError) as error:  # also a norm that cannot be masked
        return str(error)
    return None


def _random_part(group: Group) -> tuple[int, ...]:
    """Returns random units, 30 to 80 % of a group. Two widths that must be equal would be so if all lost a half."""
    if group.runs:
        return random_half(group, 1)
    count = min(max(round(group.size * float(torch.empty(()).uniform_(0.3, 0.8))), 1), group.size - 1)
    return tuple(sorted(torch.randperm(group.size)[:count].tolist()))
