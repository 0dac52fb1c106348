"""Finds the groups of a network from a recorded run."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from pruning.arguments import InputFunction
from pruning.discovery.candidates import find_candidates
from pruning.discovery.closing import UngateableError
from pruning.discovery.counting import unite_counted
from pruning.discovery.emptying import Emptying
from pruning.discovery.flow import Flow, TensorDim
from pruning.discovery.gating import GateChooser
from pruning.discovery.membership import Membership
from pruning.discovery.proof import separate
from pruning.discovery.readable import readable_copy
from pruning.discovery.recording import Recording, in_training, record
from pruning.discovery.rescaling import rescaled_entries
from pruning.discovery.splits import UnitDims
from pruning.discovery.vanishing import with_branches
from pruning.groups import Group, Slice


@dataclass(frozen=True)
class LeftWhole:
    """Units that no group cuts.

    Attributes:
        tensors: names of the tensors with such units, with the dimension: "conv1.weight, dim 0".
        units: number of units.
        reason: why, with the operator that forbids it.
    """

    tensors: tuple[str, ...]
    units: int
    reason: str


@dataclass(frozen=True)
class Found:
    """Result of `find_groups`.

    Attributes:
        groups: the groups.
        whole: what is left whole.
        share: fraction of the parameters that some group can cut.
    """

    groups: list[Group]
    whole: list[LeftWhole]
    share: float


def groups_of_recording(
    network: nn.Module, recording: Recording, choice: UnitDims | None = None
) -> tuple[list[Group], list[LeftWhole]]:
    """Returns the groups of a recorded run, and what cannot be cut.

    Args:
        network: the network of the run.
        recording: the run.
        choice: the choice of heads or dims as the units of attentions; by default a new one. It changes if no weights
            can carry the gates of the units.
    """
    choice = choice or UnitDims(recording)
    while True:
        groups, whole, failed = _groups_of_flow(network, choice.flow)
        if not choice.reject(failed):
            return groups, whole


def _groups_of_flow(network: nn.Module, flow: Flow) -> tuple[list[Group], list[LeftWhole], set[int]]:
    """Returns the groups of a flow of units, what cannot be cut, and the units that no weights can close."""
    recording = flow.recording
    unite_counted(network, flow)
    candidates = find_candidates(network, flow)
    membership = Membership(flow, {unit: i for i, c in enumerate(candidates) for unit in c.units.tolist()})
    chooser = GateChooser(membership)
    groups: list[Group] = []
    numbers: dict[str, int] = {}
    whole: list[LeftWhole] = []
    failed: set[int] = set()
    for i, candidate in enumerate(candidates):
        if not membership.operators(i):
            continue
        try:
            if candidate.problem:
                raise UngateableError(candidate.problem)
            parameters = [place for place in candidate.places if not recording.tensors[place[0]].is_buffer]
            buffers = [p for p in candidate.places if p not in parameters and candidate.is_floating(p[0])]
            sizes = {place: prod(recording.tensors[place[0]].shape) for place in parameters}
            gated = chooser.choose(i, sizes, buffers)
            rescaled = rescaled_entries(membership, i)
        except UngateableError as error:
            whole.append(LeftWhole(_names(candidate.places), len(candidate.units), str(error)))
            failed.update(candidate.units.tolist())
            continue
        norms, is_attention = membership.norms(i), membership.is_attention(i)
        groups.append(candidate.group(norms, is_attention, gated, rescaled, {g.name for g in groups}))
        numbers[groups[-1].name] = i
    groups = with_branches(network, Emptying(membership), numbers, groups)
    return groups, [*whole, *_frozen(flow)], failed


def _units_of(flow: Flow, group: Group) -> set[int]:
    """Returns the units of a group in a flow."""
    units: set[int] = set()
    for s in group.slices:
        labels = flow.of(flow.recording.tensors[s.path])[s.dim] if s.path in flow.recording.tensors else None
        if labels is not None:
            units.update(flow.units.find(labels[s.positions(torch.arange(group.size)).flatten().numpy()]).tolist())
    return units


def _frozen(flow: Flow) -> list[LeftWhole]:
    """Returns the units of weights that an operator keeps from being removed, by reason."""
    found: dict[str, tuple[dict[TensorDim, None], set[int]]] = {}
    for name, value in flow.recording.tensors.items():
        for dim, labels in enumerate(flow.of(value)):
            if labels is None or value.is_buffer:
                continue
            for unit in np.unique(flow.units.find(labels)).tolist():
                if flow.units.reasons.get(unit):
                    places, units = found.setdefault(flow.units.reasons[unit], ({}, set()))
                    units.add(unit)
                    places[name, dim] = None
    return [LeftWhole(_names(places), len(units), reason) for reason, (places, units) in found.items()]


def _names(places: Iterable[TensorDim]) -> tuple[str, ...]:
    """Returns the names of tensors with their dimensions, as in `LeftWhole.tensors`."""
    return tuple(f"{path}, dim {dim}" for path, dim in places)


def _with_declared(network: nn.Module, groups: Sequence[Group]) -> list[Group]:
    """Returns the groups with those that a module declares in place of what was found in its tensors.

    A module with methods `groups` and `keep` stores structure that no graph shows, such as heads of several widths.
    """
    declared: list[Group] = []
    for path, module in network.named_modules():
        if path and callable(getattr(module, "groups", None)) and callable(getattr(module, "keep", None)):
            declared += [group.with_prefix(f"{path}.") for group in cast(Any, module).groups()]
    places = {(s.path, s.dim) for group in declared for s in group.slices}
    found = [group for group in groups if not places & {(s.path, s.dim) for s in group.slices}]
    return [*found, *declared]


def cut_share(network: nn.Module, groups: Sequence[Group]) -> float:
    """Returns the fraction of the parameters that have an entry in some group."""
    total = cut = 0
    slices: dict[str, list[tuple[Group, Slice]]] = defaultdict(list)
    for group in groups:
        for s in group.slices:
            slices[s.path].append((group, s))
    for name, parameter in network.named_parameters():
        kept = 1.0
        for dim, size in enumerate(parameter.shape):
            owned = sum(g.size * s.per_unit for g, s in slices[name] if s.dim == dim)
            kept *= 1 - owned / max(size, 1)
        total += parameter.numel()
        cut += parameter.numel() * (1 - kept)
    return cut / max(total, 1)


def find_groups(network: nn.Module, inputs: InputFunction) -> Found:
    """Finds the groups of a network: which entries of its tensors can only be cut together.

    The network runs on the meta device, and units flow through its operators. What no rule can follow is left whole,
    and named with the operator that stopped it. Then a part of the units of all groups is removed from copies of the
    network; groups that fail are left whole, too.

    Args:
        network: the network, of any kind; it stays as it is.
        inputs: returns the arguments of a forward of the network or of a cut copy of it, as for `Pruner.attach`.

    Returns:
        The groups, ready for `Pruner.attach`, and what is left whole with the reasons.

    Raises:
        PruningError: the network does not run on the meta device, or the arguments do not fit it.
    """
    with torch.device("cpu"):  # discovery tries functions on numbers, also where a caller makes new tensors on "meta"
        return _find(network, inputs)


def _find(network: nn.Module, inputs: InputFunction) -> Found:
    copy, arguments, function = readable_copy(network, inputs)
    recording = record(copy, lambda n: n(**arguments))
    if recording.unused:
        recording = record(copy, lambda n: (n(**arguments), in_training(n, arguments)))
    choice = UnitDims(recording)
    while True:
        groups, whole = groups_of_recording(copy, recording, choice)
        groups, refused = separate(network, _with_declared(copy, groups), function)
        if not choice.reject({unit for group, _ in refused for unit in _units_of(choice.flow, group)}):
            break
    for group, reason in refused:
        whole.append(LeftWhole(_names([(s.path, s.dim) for s in group.slices]), group.size, reason))
    return Found(groups, whole, cut_share(network, groups))
