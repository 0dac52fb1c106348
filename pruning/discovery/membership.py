"""Membership: which groups have units in which tensors, and which operators touch them."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from pruning.discovery.flow import Flow, TensorDim
from pruning.discovery.recording import Operator, Value
from pruning.discovery.rules.products import convolution, product


class Membership:
    """Tells where the units of groups are in a recorded run.

    Args:
        flow: the flow of units.
        group_of_unit: number of the group of each unit.
    """

    def __init__(self, flow: Flow, group_of_unit: Mapping[int, int]):
        self.flow = flow
        self._lookup = np.full(flow.units.count + 1, -1)
        for unit, group in group_of_unit.items():
            self._lookup[unit] = group
        self._sizes = Counter(group_of_unit.values())
        self._groups_of_labels: dict[int, frozenset[int]] = {}
        self._only: dict[int, bool] = {}
        self._operators: dict[int, list[int]] = {}
        for number, operator in enumerate(flow.recording.operators):
            present = {g for v in (*operator.values, *operator.results) for dim in self.groups_in(v) for g in dim}
            for group in present:
                self._operators.setdefault(group, []).append(number)

    def operators(self, group: int) -> list[Operator]:
        """Returns the operators that read or write units of a group, in the order of the run."""
        return [self.flow.recording.operators[number] for number in self._operators.get(group, [])]

    def operator_numbers(self, group: int) -> list[int]:
        """Returns the numbers of `operators` in the recording."""
        return self._operators.get(group, [])

    def has_no_others(self, value: Value, dim: int) -> bool:
        """Returns whether all positions of a dimension belong to one group."""
        labels = self.flow.of(value)[dim]
        if labels is None:
            return False
        if id(labels) not in self._only:
            found = np.unique(self._lookup[self.flow.units.find(labels)])
            self._only[id(labels)] = len(found) == 1 and found[0] >= 0
        return self._only[id(labels)]

    def groups_in(self, value: Value) -> list[frozenset[int]]:
        """Returns the groups that have units in each dimension of a tensor."""
        return [self._groups_in_labels(labels) for labels in self.flow.of(value)]

    def covers(self, group: int, value: Value, dim: int) -> bool:
        """Returns whether a dimension has all units of a group, each equally often, and nothing else."""
        labels = self.flow.of(value)[dim]
        if labels is None:
            return False
        units, counts = np.unique(self.flow.units.find(labels), return_counts=True)
        whole = len(units) == self._sizes[group] and bool((self._lookup[units] == group).all())
        return whole and len(set(counts.tolist())) == 1

    def norms(self, group: int) -> tuple[str, ...]:
        """Returns the paths of the modules that normalise over units of a group."""
        norms = self.flow.norms_over_units
        return tuple(dict.fromkeys(o.module for o, labels in norms if group in self._groups_in_labels(labels)))

    def is_attention(self, group: int) -> bool:
        """Returns whether products of two activations have the units of a group in a batch, or sum over them."""
        for operator in self.products(group):
            first, second = map(self.groups_in, operator.values[-2:])
            if group in first[-1] or (group in first[0] and group in second[0]):
                return True
        return False

    def products(self, group: int) -> list[Operator]:
        """Returns the products of two activations that read units of a group."""
        products = [o for o in self.operators(group) if self.flow.rule_of(o) is product]
        return [o for o in products if not {*o.values[-2:]} & self.flow.views.keys()]

    def summed_dims(self, operator: Operator, group: int) -> list[tuple[Value, int]]:
        """Returns the dimensions with units of a group over which an operator sums products."""
        rule = self.flow.rule_of(operator)
        dims: list[tuple[Value, int]] = []
        if rule is product:
            first, second = operator.values[-2:]
            dims = [(first, len(first.shape) - 1), (second, max(len(second.shape) - 2, 0))]
        elif rule is convolution:
            weight, x, groups = (operator.arguments[name] for name in ("weight", "input", "groups"))
            read = 0 if operator.arguments.get("transposed") else 1
            # In a convolution with whole groups as units, channels of one group are summed within their unit.
            if groups == 1 or group in self.groups_in(weight)[read]:
                dims = [(weight, read), (x, len(x.shape) - len(weight.shape) + 1)]
        return [(v, d) for v, d in dims if group in self.groups_in(v)[d]]

    def read_weights(self, operator: Operator, group: int) -> list[TensorDim]:
        """Returns the weights whose entries for the group an operator sums over."""
        places = [self.flow.place(v, d) for v, d in self.summed_dims(operator, group)]
        return [place for place in places if place is not None]

    def _groups_in_labels(self, labels: np.ndarray | None) -> frozenset[int]:
        if labels is None:
            return frozenset()
        if id(labels) not in self._groups_of_labels:
            found = np.unique(self._lookup[self.flow.units.find(labels)])
            self._groups_of_labels[id(labels)] = frozenset(found.tolist()) - {-1}
        return self._groups_of_labels[id(labels)]
