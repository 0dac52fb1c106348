"""Proof of found groups: trial cuts, after which a group that cannot be cut is left whole."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning.arguments import InputFunction
from pruning.cost import copy_to_meta
from pruning.discovery.branch_proof import keep_proved_branches
from pruning.discovery.part_cuts import by_kind, error_of_cut, kind_of
from pruning.groups import Group
from pruning.plan import Plan
from pruning.trial.layer_sizes import check_layers
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
        groups = keep_proved_branches(trial, groups, trial.run)
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
    groups = keep_proved_branches(trial, groups, trial.compare)
    for test in trial.training_tests() if groups else []:
        groups = _sieve(trial, groups, test, refused)
    twice = {}
    for kind, members in by_kind([g for g in groups if has_gates_in_several_layers(g)]).items():
        twice[kind] = error_of_cut(trial, members[:1], trial.scale)  # the other members have the same layers
    refused += [(g, error) for g in groups if (error := twice.get(kind_of(g)))]
    return [g for g in groups if not twice.get(kind_of(g))]


def _sieve(
    trial: Trial, groups: list[Group], test: Callable[[Plan], object], refused: list[tuple[Group, str]]
) -> list[Group]:
    """Returns the groups that pass a test together, and adds the others to `refused`.

    If all together fail, groups of one kind (the same name but for its numbers) are tested together. Of a kind that
    fails, each group is tested alone, as usually all of them fail for one reason.
    """
    if not groups or error_of_cut(trial, groups, test) is None:
        return groups
    passed: list[Group] = []
    for members in by_kind(groups).values():
        if error_of_cut(trial, [*passed, *members], test) is None:
            passed += members
            continue
        for group in members:
            error = error_of_cut(trial, [*passed, group], test)
            if error is None:
                passed.append(group)
            else:
                refused.append((group, error))
    return passed
