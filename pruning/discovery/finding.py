"""Finds the groups of a network from a recorded run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np
from torch import nn

from pruning.discovery.flow import Flow
from pruning.discovery.gating import GateChooser, Place, UngateableError
from pruning.discovery.naming import name_of
from pruning.discovery.proof import separate
from pruning.discovery.readable import readable_copy
from pruning.discovery.recording import Recording, in_training, record
from pruning.discovery.rules import RULES
from pruning.discovery.tracked_sizes import TrackedInt
from pruning.discovery.units import FIXED
from pruning.groups import Group, Slice
from pruning.norms import is_plain_layer_norm
from pruning.tracing import InputFunction

ROUNDS = 4  # of choices among the parts of a split dimension


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


def groups_of_recording(network: nn.Module, recording: Recording) -> tuple[list[Group], list[LeftWhole]]:
    """Returns the groups of a recorded run, and what cannot be cut.

    Args:
        network: the network of the run.
        recording: the run.
    """
    flow = _choose_splits(recording)
    flow.requirements = [n for n in flow.requirements if not any(follows_cut(network, s) for s in n.size.sources)]
    _unite_requirements(flow)
    units, attributes = _units_by_place(flow)
    whole: list[LeftWhole] = []
    candidates = _candidates(network, units, attributes)
    chooser = GateChooser(flow, {unit: i for i, c in enumerate(candidates) for unit in c.units.tolist()})
    groups: list[Group] = []
    for i, candidate in enumerate(candidates):
        parameters = {
            place: prod(recording.tensors[place[0]].shape)
            for place in candidate.places
            if not recording.tensors[place[0]].is_buffer
        }
        if not chooser.uses(i):
            continue
        try:
            if candidate.problem:
                raise UngateableError(candidate.problem)
            gated = chooser.choose(i, parameters)
        except UngateableError as error:
            whole.append(candidate.left_whole(str(error)))
            continue
        groups.append(candidate.group(chooser, i, gated, {g.name for g in groups}))
    return groups, [*whole, *_frozen(flow)]


def _choose_splits(recording: Recording) -> Flow:
    """Returns the flow in which a reshape that splits channels into heads makes a whole head a unit.

    By default the part of a split with most units is chosen. If its units are summed over in the product of two
    activations (the dims of queries and keys), or cannot be removed, another part is tried.
    """
    choices: dict[int, int] = {}
    tried: dict[int, list[int]] = defaultdict(list)
    flow = Flow(recording, RULES)
    for _ in range(ROUNDS):
        contracted = {u for _, labels in flow.products for u in flow.units.find(labels).tolist()}
        changed = False
        for number, (options, chosen, labels) in flow.splits.items():
            if len(options) < 2 or (number in tried and not tried[number]):
                continue
            found = set(flow.units.find(labels).tolist()) - {FIXED}
            if found & contracted or found & flow.units.reasons.keys():
                tried[number].append(chosen)
                rest = [o for o in options if o not in tried[number]]
                if rest:
                    choices[number], changed = rest[0], True
                elif choices.get(number) != options[0]:
                    choices[number], changed = options[0], True
        if not changed:
            break
        flow = Flow(recording, RULES, choices)
    for operator, labels in flow.products:
        if operator.width_scales:
            flow.units.freeze(labels, f"{operator}: the scale of the attention depends on the width of its heads")
    return flow


def _unite_requirements(flow: Flow) -> None:
    """Unites the units that one attribute counts in several places."""
    first: dict[tuple[str, ...], np.ndarray] = {}
    for need in flow.requirements:
        if not need.size.exact:
            continue
        known = first.setdefault(need.size.sources, need.labels)
        if known is not need.labels:
            reason = f"the attribute {need.size.sources[0]} counts several kinds of units"
            if len(known) == len(need.labels):
                flow.units.unite(known, need.labels, reason)
            else:
                flow.units.freeze(known, reason)
                flow.units.freeze(need.labels, reason)


def _units_by_place(flow: Flow) -> tuple[dict[Place, np.ndarray], list[tuple[TrackedInt, np.ndarray]]]:
    """Returns the units of every tensor dimension, FIXED where none can be removed, and those that attributes count."""
    frozen = np.array(sorted(flow.units.reasons), dtype=int)

    def units(labels: np.ndarray) -> np.ndarray:
        found = flow.units.find(labels)
        return np.where(np.isin(found, frozen), FIXED, found)

    places = {
        (name, dim): units(labels)
        for name, value in flow.recording.tensors.items()
        for dim, labels in enumerate(flow.of(value))
        if labels is not None
    }
    needs: dict[tuple, tuple[TrackedInt, np.ndarray]] = {}
    for need in flow.requirements:
        key = (need.size.sources, int(need.size), need.size.exact)
        needs.setdefault(key, (need.size, units(need.labels)))
    return places, list(needs.values())


@dataclass
class _Candidate:
    """Units that lie alike in the same tensors: a group, if weights can carry its gates.

    Attributes:
        units: the units.
        places: for each tensor dimension the positions of every unit, (units, per unit), ascending.
        whole_dims: tensor dimensions of which every position belongs to some unit.
        attributes: see `Group.attributes`.
        problem: why the units cannot be cut, "" if they can.
    """

    network: nn.Module
    units: np.ndarray
    places: dict[Place, np.ndarray]
    whole_dims: set[Place]
    attributes: tuple[tuple[str, int], ...]
    problem: str

    def left_whole(self, reason: str) -> LeftWhole:
        """Returns the entry for units that no weight can gate."""
        return LeftWhole(tuple(f"{path}, dim {dim}" for path, dim in self.places), len(self.units), reason)

    def group(self, chooser: GateChooser, number: int, gated: Sequence[Place], taken: set[str]) -> Group:
        """Returns the group."""
        norms = tuple(
            dict.fromkeys(
                operator.module
                for operator, labels in chooser.flow.joint_norms
                if number in chooser.groups_in_labels(labels)
            )
        )
        masked = {norm for norm in norms if not is_plain_layer_norm(self.network.get_submodule(norm))}
        slices = []
        for (path, dim), positions in self.places.items():
            form = _regular(positions)
            options: dict[str, Any] = {} if form is None else {"offsets": form[0], "inner": form[1]}
            if form is None:
                options["table"] = tuple(map(tuple, positions.tolist()))
            if (path, dim) in gated:
                options["gated"] = True
            elif path.rpartition(".")[0] in masked:
                options["masked"] = True
            slices.append(Slice(path, dim, whole=(path, dim) in self.whole_dims, **options))
        name, kind = name_of(self.network, slices, bool(norms), chooser.is_attention(number))
        unique = (
            name if name not in taken else next(f"{name}.{i}" for i in range(2, 10**6) if f"{name}.{i}" not in taken)
        )
        return Group(unique, kind, len(self.units), tuple(slices), norms=norms, attributes=self.attributes)


def _regular(positions: np.ndarray) -> tuple[tuple[int, ...], int] | None:
    """Returns the offsets and the number of neighbours of regular positions (units, per unit); None for others."""
    first, units = positions[0], len(positions)
    breaks = np.flatnonzero(np.diff(first) != 1) + 1
    runs = np.split(first, breaks)
    for inner in dict.fromkeys((len(runs[0]), 1)):
        if len(first) % inner:
            continue
        offsets = first[::inner]
        expected = offsets[None, :, None] + np.arange(units)[:, None, None] * inner + np.arange(inner)
        if (expected.reshape(units, -1) == positions).all():
            return tuple(offsets.tolist()), inner
    return None


def _candidates(
    network: nn.Module, places: Mapping[Place, np.ndarray], attributes: Sequence[tuple[TrackedInt, np.ndarray]]
) -> list[_Candidate]:
    """Returns the sets of units that lie in the same tensors, equally often."""
    where: dict[int, list[tuple[Place, int]]] = defaultdict(list)
    for place, units in places.items():
        for unit, count in zip(*np.unique(units[units != FIXED], return_counts=True), strict=True):
            where[int(unit)].append((place, int(count)))
    counted: dict[int, list[tuple[TrackedInt, int]]] = defaultdict(list)
    for size, units in attributes:
        for unit, count in zip(*np.unique(units[units != FIXED], return_counts=True), strict=True):
            counted[int(unit)].append((size, int(count)))
    alike: dict[tuple, list[int]] = defaultdict(list)
    for unit, found in where.items():
        sizes = tuple((s.sources, int(s), n) for s, n in counted[unit])
        alike[(tuple(found), sizes)].append(unit)
    full = {place for place, units in places.items() if (units != FIXED).all()}
    candidates = []
    for (found, _), units in alike.items():
        problem = "" if len(units) > 1 else "all of them depend on each other, so they are one unit"
        table = {place: _positions(places[place], units, count) for place, count in found}
        order = np.argsort(next(iter(table.values()))[:, 0])
        table = {place: positions[order] for place, positions in table.items()}
        needs, uneven = _attributes(network, counted[units[0]])
        candidates.append(
            _Candidate(network, np.array(units)[order], table, full & table.keys(), needs, problem or uneven)
        )
    return candidates


def _positions(entries: np.ndarray, units: Sequence[int], count: int) -> np.ndarray:
    """Returns the positions of units among the units of all entries of a dimension, (units, count), ascending."""
    order = np.argsort(entries, kind="stable")
    starts = np.searchsorted(entries[order], units)
    return order[starts[:, None] + np.arange(count)]


def _attributes(network: nn.Module, needs: Sequence[tuple[TrackedInt, int]]) -> tuple[tuple[tuple[str, int], ...], str]:
    """Returns the attributes that count the units of a group, with their number per unit, and a problem or ""."""
    result: dict[str, int] = {}
    for size, count in sorted(needs, key=lambda n: not n[0].exact):
        if not size.exact and any(source in result for source in size.sources):
            continue  # computed from an attribute that is already known; the trial cut shows whether it fits
        if len(set(size.sources)) > 1:
            return (), f"a size of {int(size)} is computed from the attributes {sorted(set(size.sources))}"
        path = size.sources[0]
        value = attribute(network, path)
        per_unit, rest = divmod(count * value, int(size))
        if rest and not size.exact:
            continue  # an equal number by chance
        if rest or result.get(path, per_unit) != per_unit:
            return (), f"the attribute {path}={value} does not count these units evenly"
        result[path] = per_unit
    return tuple(result.items()), ""


def attribute(network: nn.Module, path: str) -> int:
    """Returns an integer attribute of a module, or an entry of a tuple or list, by its path."""
    owner: Any = network
    for part in path.split("."):
        owner = owner[int(part)] if isinstance(owner, list | tuple) else getattr(owner, part)
    return int(owner)


def follows_cut(network: nn.Module, path: str) -> bool:
    """Returns whether surgery sets an attribute from the tensors of its layer, or the module's method `keep` does."""
    *parts, name = path.split(".")
    owner: Any = network
    for part in parts:
        if isinstance(owner, list | tuple):
            return False
        owner = getattr(owner, part)
        if isinstance(owner, nn.LayerNorm | nn.RMSNorm) or callable(getattr(owner, "keep", None)):
            return True
    return isinstance(owner, nn.MultiheadAttention) and name != "num_heads"


def _frozen(flow: Flow) -> list[LeftWhole]:
    """Returns the units of weights that an operator keeps from being removed, by reason."""
    found: dict[str, tuple[list[str], set[int]]] = {}
    for name, value in flow.recording.tensors.items():
        for dim, labels in enumerate(flow.of(value)):
            if labels is None or value.is_buffer:
                continue
            for unit in np.unique(flow.units.find(labels)).tolist():
                if flow.units.reasons.get(unit):
                    names, units = found.setdefault(flow.units.reasons[unit], ([], set()))
                    units.add(unit)
                    if not names or names[-1] != f"{name}, dim {dim}":
                        names.append(f"{name}, dim {dim}")
    return [LeftWhole(tuple(names), len(units), reason) for reason, (names, units) in found.items()]


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

    The network runs once, on the meta device, and units flow through its operators. What no rule can follow is left
    whole, and named with the operator that stopped it.

    Args:
        network: the network, of any kind; it stays as it is.
        inputs: returns the arguments of a forward of the network or of a cut copy of it, as for `Pruner.attach`.

    Raises:
        PruningError: the network does not run on the meta device, or the arguments do not fit it.
    """
    copy, arguments, function = readable_copy(network, inputs)
    recording = record(copy, lambda n: n(**arguments))
    if recording.unused:
        recording = record(copy, lambda n: (n(**arguments), in_training(n, arguments)))
    groups, whole = groups_of_recording(copy, recording)
    groups, refused = separate(network, _with_declared(copy, groups), function)
    for group, reason in refused:
        names = tuple(f"{s.path}, dim {s.dim}" for s in group.slices)
        whole.append(LeftWhole(names, group.size, reason))
    return Found(groups, whole, cut_share(network, groups))
