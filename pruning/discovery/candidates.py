"""Candidates: sets of units that lie alike in the same tensors, each of which may become a group."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from pruning.discovery.counting import attributes_per_unit
from pruning.discovery.flow import Flow, TensorDim
from pruning.discovery.naming import name_and_kind
from pruning.discovery.tracked_attributes import TrackedInt
from pruning.discovery.units import FIXED
from pruning.gates.norms import is_plain_layer_norm
from pruning.groups import Group, Slice


@dataclass
class Candidate:
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
    places: dict[TensorDim, np.ndarray]
    whole_dims: set[TensorDim]
    attributes: tuple[tuple[str, int], ...]
    problem: str

    def is_floating(self, path: str) -> bool:
        """Returns whether the entries of a tensor are floating-point numbers."""
        return _tensor(self.network, path).is_floating_point()

    def group(
        self,
        norms: tuple[str, ...],
        is_attention: bool,
        gated: Sequence[TensorDim],
        rescaled: Mapping[TensorDim, Sequence[int]],
        taken: set[str],
    ) -> Group:
        """Returns the group.

        Args:
            norms: see `Group.norms`.
            is_attention: whether the units are heads or dims of heads.
            gated: weights that carry the gates, and buffers that are masked with them.
            rescaled: entries that the cut rescales, see `rescaling`.
            taken: names of other groups.
        """
        masked = {norm for norm in norms if not is_plain_layer_norm(self.network.get_submodule(norm))}
        slices = []
        for (path, dim), positions in self.places.items():
            options: dict[str, Any] = {"whole": (path, dim) in self.whole_dims}
            if (path, dim) in gated:
                options["gated" if isinstance(_tensor(self.network, path), nn.Parameter) else "masked"] = True
            elif path.rpartition(".")[0] in masked:
                options["masked"] = True
            is_rescaled = np.isin(positions, rescaled.get((path, dim), ()))
            for part in (True, False):
                if (is_rescaled == part).any():
                    chosen = positions[is_rescaled == part].reshape(len(positions), -1)
                    slices.append(Slice(path, dim, rescaled=part, **_layout(chosen), **options))
        name, kind = name_and_kind(self.network, slices, bool(norms), is_attention)
        names = (name, *(f"{name}.{i}" for i in range(2, len(taken) + 3)))
        unique = next(n for n in names if n not in taken)
        return Group(unique, kind, len(self.units), tuple(slices), norms=norms, attributes=self.attributes)


def find_candidates(network: nn.Module, flow: Flow) -> list[Candidate]:
    """Returns the sets of units that lie in the same tensors, equally often.

    Args:
        network: the network.
        flow: the flow of units.
    """
    places, attributes = _units_by_place(flow)
    where: dict[int, list[tuple[TensorDim, int]]] = defaultdict(list)
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
        if any(_tensor(network, path).is_complex() for (path, _), _ in found):
            problem = problem or "complex weights cannot be gated"
        table = {place: _positions(places[place], units, count) for place, count in found}
        order = np.argsort(next(iter(table.values()))[:, 0])
        table = {place: positions[order] for place, positions in table.items()}
        numbers, uneven = attributes_per_unit(network, counted[units[0]])
        candidates.append(
            Candidate(network, np.array(units)[order], table, full & table.keys(), numbers, problem or uneven)
        )
    return candidates


def _units_by_place(flow: Flow) -> tuple[dict[TensorDim, np.ndarray], list[tuple[TrackedInt, np.ndarray]]]:
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
    sizes: dict[tuple, tuple[TrackedInt, np.ndarray]] = {}
    for need in flow.requirements:
        key = (need.size.sources, int(need.size), need.size.exact)
        sizes.setdefault(key, (need.size, units(need.labels)))
    return places, list(sizes.values())


def _tensor(network: nn.Module, path: str) -> Tensor:
    """Returns the parameter or buffer with a name."""
    module, _, name = path.rpartition(".")
    return getattr(network.get_submodule(module), name)


def _positions(entries: np.ndarray, units: Sequence[int], count: int) -> np.ndarray:
    """Returns the positions of units among the units of all entries of a dimension, (units, count), ascending."""
    order = np.argsort(entries, kind="stable")
    starts = np.searchsorted(entries[order], units)
    return order[starts[:, None] + np.arange(count)]


def _layout(positions: np.ndarray) -> dict[str, Any]:
    """Returns the arguments of a `Slice` for positions (units, per unit)."""
    form = _as_offsets(positions)
    return {"table": tuple(map(tuple, positions.tolist()))} if form is None else {"offsets": form[0], "inner": form[1]}


def _as_offsets(positions: np.ndarray) -> tuple[tuple[int, ...], int] | None:
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
