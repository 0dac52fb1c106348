"""Flow of units through a recorded run: which positions of all tensors can only be removed together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from pruning.discovery.recording import Operator, Recording, Value
from pruning.discovery.tracked_attributes import TrackedInt
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
RETURNED = "the network returns them"  # the reason for which every network has units that stay
TensorDim = tuple[str, int]  # a tensor's name and a dimension
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


@dataclass(frozen=True)
class Split:
    """A reshape that makes several dimensions of one with units. The index along one of them becomes the unit.

    Attributes:
        options: those of the new dimensions that would have several units, the one with most units first.
        chosen: the dimension that has the units, as its number among the new dimensions.
        labels: its labels.
    """

    options: list[int]
    chosen: int
    labels: np.ndarray


Rule = Callable[["Flow", Operator], None]  # sets the labels of an operator's results


class Flow:
    """Labels of all tensors of a recorded run.

    Args:
        recording: the run.
        rules: by operator name, a `Rule`.
        unit_dims: for a reshape that splits a dimension, by its number in the recording, which of the new dimensions
            has the units; by default the one with most units.

    Attributes:
        units: the units.
        labels: labels by tensor.
        splits: reshapes that split a dimension with units, by number in the recording.
        norms_over_units: norms over units, as (operator, labels): their statistics depend on all units.
        inputs: inputs of the network, and views of them.
        views: for each parameter or buffer, and each view of one, this parameter or buffer.
        products: products of two activations, as (operator, labels that it sums over).
        requirements: integer attributes that count units.
    """

    def __init__(
        self,
        recording: Recording,
        rules: Mapping[str, Rule],
        unit_dims: Mapping[int, int] | None = None,
    ):
        self.recording, self.rules, self.units = recording, rules, Units()
        self.labels: dict[Value, Labels] = {}
        self.unit_dims = unit_dims or {}
        self.splits: dict[int, Split] = {}
        self.norms_over_units: list[tuple[Operator, np.ndarray]] = []
        self.requirements: list[Requirement] = []
        self.products: list[tuple[Operator, np.ndarray]] = []
        self.number = 0
        self.views: dict[Value, Value] = {}
        self.inputs: set[Value] = set()
        self._places: dict[int, TensorDim] = {}
        for value in recording.tensors.values():
            self.set(value, [self.units.fresh(n) if n > 1 else None for n in value.shape])
            self.views[value] = value
            self._places |= {id(part): (value.name, dim) for dim, part in enumerate(self.labels[value])}
        self._of_tensors = self.units.count  # labels of parameters and buffers are the first ones
        for self.number, operator in enumerate(recording.operators):
            rule = self.rule_of(operator)
            if rule is None:
                self.freeze_all(operator)
                continue
            rule(self, operator)
            if operator.name in VIEWS and operator.values[0] in self.views:
                self.views |= dict.fromkeys(operator.results, self.views[operator.values[0]])
            if operator.name in VIEWS and operator.values[0] in self.inputs:
                self.inputs.update(operator.results)
        for value in recording.outputs:
            self.freeze(value, RETURNED)

    def rule_of(self, operator: Operator) -> Rule | None:
        """Returns the rule of an operator, None if no rule knows it."""
        is_pointwise = torch.Tag.pointwise in operator.function.tags
        return self.rules.get(operator.name, self.rules["pointwise"] if is_pointwise else None)

    def of(self, value: Value) -> Labels:
        """Returns the labels of a tensor; those of an input of the network are fixed."""
        if value not in self.labels:
            self.labels[value] = [None] * len(value.shape)
            self.inputs.add(value)
        return self.labels[value]

    def place(self, value: Value, dim: int) -> TensorDim | None:
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

    def unite_rows(self, labels: np.ndarray, operator: Operator) -> np.ndarray:
        """Unites all labels of each row of a matrix, and returns the first column."""
        for column in range(1, labels.shape[1]):
            self.units.unite(labels[:, 0], labels[:, column], str(operator))
        return labels[:, 0]

    def unite_counts(self, first: np.ndarray | None, second: np.ndarray | None, operator: Operator) -> None:
        """Unites the labels of two dimensions that must stay equally long, unless they have the same units anyway."""
        if first is not None and second is not None:
            one, other = (np.sort(self.units.find(labels)) for labels in (first, second))
            if np.array_equal(one, other):
                return  # e.g. the same channels in another order
        self.unite(first, second, operator)

    def in_tensors(self, labels: np.ndarray | None) -> bool:
        """Returns whether some of the units lie in a parameter or buffer, and not only in results of operators."""
        return labels is not None and bool((self.units.find(labels[labels != FIXED]) < self._of_tensors).any())

    def freeze(self, value: Value, reason: str) -> None:
        """Freezes all units of a tensor."""
        for labels in self.of(value):
            self.units.freeze(labels, reason)

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

    def freeze_mixed(self, operator: Operator, labels: np.ndarray | None) -> None:
        """Freezes labels of a dimension that an operator mixes."""
        self.units.freeze(labels, str(operator))


def integers(operator: Operator, name: str) -> list[int]:
    """Returns an argument that is an integer or a list of integers as a list."""
    value = operator.arguments.get(name)
    return [int(v) for v in tree_leaves(value) if v is not None]
