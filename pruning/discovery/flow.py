"""Flow of units through a recorded run: which positions of all tensors can only be removed together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from pruning.discovery.recording import Operator, Recording, Value
from pruning.discovery.tracked_sizes import TrackedInt
from pruning.discovery.units import FIXED, Units

VIEWS = (
    "t",
    "permute",
    "transpose",
    "view",
    "_unsafe_view",
    "expand",
    "clone",
    "detach",
    "alias",
    "_to_copy",
    "unsqueeze",
)
Labels = list[np.ndarray | None]  # one entry a dimension: labels of its positions, or None if all are fixed


@dataclass(frozen=True)
class Requirement:
    """An integer attribute that counts positions: it falls with the units of `labels`.

    Attributes:
        size: the tracked integer.
        labels: labels of the positions that it counts.
    """

    size: TrackedInt
    labels: np.ndarray


Rule = Callable[["Flow", Operator], None]  # sets the labels of an operator's results


class Flow:
    """Labels of all tensors of a recorded run.

    Args:
        recording: the run.
        rules: by operator name, a `Rule`.
        split_choices: for a reshape, by its number in the recording, the part of a split dimension whose index is the
            unit; by default the part with most units.

    Attributes:
        units: the units.
        labels: labels by tensor.
        splits: reshapes that split a dimension with units, by number in the recording: the possible choices, the
            choice, and its labels.
        joint_norms: norms over units, as (operator, labels): their statistics depend on all units.
        inputs: inputs of the network, and views of them.
        views: for each parameter or buffer, and each view of one, this parameter or buffer.
        products: products of two activations, as (operator, labels that it sums over).
        requirements: integer attributes that count units.
    """

    def __init__(
        self,
        recording: Recording,
        rules: Mapping[str, Rule],
        split_choices: dict[int, int] | None = None,
    ):
        self.recording, self.units = recording, Units()
        self.labels: dict[Value, Labels] = {}
        self.split_choices = split_choices or {}
        self.splits: dict[int, tuple[list[int], int, np.ndarray]] = {}
        self.joint_norms: list[tuple[Operator, np.ndarray]] = []
        self.requirements: list[Requirement] = []
        self.products: list[tuple[Operator, np.ndarray]] = []
        self.number = 0
        self.views: dict[Value, Value] = {}
        self.inputs: set[Value] = set()
        self._places: dict[int, tuple[str, int]] = {}
        for value in recording.tensors.values():
            self.set(value, [self.units.fresh(n) if n > 1 else None for n in value.shape])
            self.views[value] = value
            self._places |= {id(part): (value.name, dim) for dim, part in enumerate(self.labels[value])}
        for self.number, operator in enumerate(recording.operators):
            rule = rules.get(operator.name)
            if rule is None and torch.Tag.pointwise in operator.function.tags:
                rule = rules["pointwise"]
            if rule is None:
                self.freeze_all(operator)
                continue
            rule(self, operator)
            if operator.name in VIEWS and operator.values[0] in self.views:
                self.views |= dict.fromkeys(operator.results, self.views[operator.values[0]])
            if operator.name in VIEWS and operator.values[0] in self.inputs:
                self.inputs.update(operator.results)
        for value in recording.outputs:
            self.freeze(value, "the network returns them")

    def of(self, value: Value) -> Labels:
        """Returns the labels of a tensor; those of an input of the network are fixed."""
        if value not in self.labels:
            self.labels[value] = [None] * len(value.shape)
            self.inputs.add(value)
        return self.labels[value]

    def place(self, value: Value, dim: int) -> tuple[str, int] | None:
        """Returns the parameter or buffer, and its dimension, of which a dimension of a tensor is a view; else None."""
        return self._places.get(id(self.of(value)[dim])) if value in self.views else None

    def set(self, value: Value, labels: Sequence[np.ndarray | None]) -> None:
        """Sets the labels of a tensor. A dimension without any unit is None."""
        assert len(labels) == len(value.shape), (value, labels)
        self.labels[value] = [
            None if d is None or n == 1 or not (d >= 0).any() else d for d, n in zip(labels, value.shape, strict=True)
        ]

    def fresh(self, size: int) -> np.ndarray | None:
        """Returns new labels for a dimension whose size another tensor may give; None for too long ones."""
        return self.units.fresh(size) if 1 < size <= 8192 else None

    def unite(self, first: np.ndarray | None, second: np.ndarray | None, operator: Operator) -> np.ndarray | None:
        """Unites the labels of two dimensions of equal length and returns them."""
        if first is None and second is None:
            return None
        if first is None or second is None:
            self.units.freeze(first if second is None else second, str(operator))
            return None
        self.units.unite(first, second, str(operator))
        return first

    def unite_counts(self, first: np.ndarray | None, second: np.ndarray | None, operator: Operator) -> None:
        """Unites the labels of two dimensions that must stay equally long, unless they have the same units anyway."""
        if first is not None and second is not None:
            one, other = (np.sort(self.units.find(labels)) for labels in (first, second))
            if np.array_equal(one, other):
                return  # e.g. the same channels in another order
        self.unite(first, second, operator)

    def freeze(self, value: Value, reason: str, dims: Sequence[int] | None = None) -> None:
        """Freezes the units of some dimensions of a tensor."""
        labels = self.of(value)
        for dim in range(len(labels)) if dims is None else dims:
            self.units.freeze(labels[dim], reason)

    def freeze_all(self, operator: Operator) -> None:
        """Freezes all units of the arguments of an operator that no rule knows."""
        for value in operator.values:
            self.freeze(value, str(operator))
        for value in operator.results:
            if value not in self.labels:
                self.set(value, [None] * len(value.shape))

    def require(self, operator: Operator, size: int, labels: np.ndarray | None, skip: int = 0) -> bool:
        """Notes that an attribute must count `labels`, if the size of an operator comes from an attribute.

        Args:
            operator: the operator.
            size: the size as the operator got it.
            labels: labels of the positions.
            skip: number of earlier sizes of the operator with the same value.

        Returns:
            Whether there is such an attribute.
        """
        found = [s for s in operator.sizes if int(s) == size]
        if labels is None or not found:
            return bool(found)
        self.requirements.append(Requirement(found[min(skip, len(found) - 1)], labels))
        return True

    def keep_free(self, operator: Operator, labels: np.ndarray | None) -> None:
        """Freezes labels of a dimension that an operator mixes."""
        self.units.freeze(labels, str(operator))


def reshaped(flow: Flow, operator: Operator, labels: Labels, before: Sequence[int], after: Sequence[int]) -> Labels:
    """Returns the labels of a tensor after a reshape from sizes `before` to sizes `after`."""
    result: Labels = [None] * len(after)
    left, right = ([d for d, n in enumerate(sizes) if n != 1] for sizes in (before, after))
    while left and right:
        ins, outs = [left.pop(0)], [right.pop(0)]
        while (taken := prod(before[d] for d in ins)) != (given := prod(after[d] for d in outs)):
            if taken < given:
                ins.append(left.pop(0))
            else:
                outs.append(right.pop(0))
        flat = _merged(flow, operator, [labels[d] for d in ins], [before[d] for d in ins])
        if flat is None:
            continue
        if len(outs) == 1:
            result[outs[0]] = flat
        else:
            which, part = _split(flow, operator, flat, [after[d] for d in outs])
            result[outs[which]] = part
    return result


def _merged(flow: Flow, operator: Operator, parts: Labels, sizes: Sequence[int]) -> np.ndarray | None:
    """Returns the labels of several dimensions that become one; only one of them keeps its units."""
    known = [i for i, part in enumerate(parts) if part is not None]
    if not known:
        return None
    live = [i for i in known if not _all_frozen(flow, parts[i])] or known
    chosen = max(live, key=lambda i: sizes[i])
    for i in known:
        if i != chosen:
            flow.keep_free(operator, parts[i])
    part = parts[chosen]
    assert part is not None
    inner, outer = prod(sizes[chosen + 1 :]), prod(sizes[:chosen])
    return part if inner == outer == 1 else np.tile(np.repeat(part, inner), outer)


def _all_frozen(flow: Flow, labels: np.ndarray | None) -> bool:
    if labels is None:
        return True
    return all(u == FIXED or u in flow.units.reasons for u in np.unique(flow.units.find(labels)).tolist())


def _split(flow: Flow, operator: Operator, flat: np.ndarray, sizes: Sequence[int]) -> tuple[int, np.ndarray]:
    """Splits a dimension: the index along one of the new dimensions becomes the unit.

    Returns:
        The number of this dimension, and its labels.
    """
    grid = flow.units.find(flat).reshape(*sizes)
    counts = [_count_units(np.moveaxis(grid, d, 0).reshape(sizes[d], -1)) for d in range(len(sizes))]
    order = sorted(range(len(sizes)), key=lambda d: (-counts[d], -sizes[d]))
    chosen = flow.split_choices.get(flow.number, order[0])
    rows = np.moveaxis(grid, chosen, 0).reshape(sizes[chosen], -1)
    for column in range(1, rows.shape[1]):
        flow.units.unite(rows[:, 0], rows[:, column], str(operator))
    flow.splits[flow.number] = ([d for d in order if counts[d] > 1], chosen, rows[:, 0])
    return chosen, rows[:, 0]


def _count_units(rows: np.ndarray) -> int:
    """Returns how many units remain if all labels of a row are united; rows with a FIXED label count as none."""
    labels, numbers = np.unique(rows, return_inverse=True)
    if len(labels) == rows.size and labels[0] != FIXED:
        return len(rows)
    pairs = np.unique(np.stack([np.arange(len(rows)).repeat(rows.shape[1]), numbers.reshape(-1)]), axis=1)
    parts = Units()
    row, label = parts.fresh(len(rows)), parts.fresh(len(labels))
    parts.unite(row[pairs[0]], label[pairs[1]], "")
    fixed = {int(u) for u in parts.find(label[labels == FIXED]).tolist()}
    return len(set(parts.find(row).tolist()) - fixed)


def integers(operator: Operator, name: str) -> list[int]:
    """Returns an argument that is an integer or a list of integers as a list."""
    value = operator.arguments.get(name)
    return [int(v) for v in tree_leaves(value) if v is not None]
