"""Choice of the weights that carry the gates of a group, such that closed gates equal removed units."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from pruning.discovery.flow import Flow, TensorDim, integers
from pruning.discovery.recording import Operator, Value
from pruning.discovery.rules.elementwise import ELEMENTWISE, pointwise
from pruning.discovery.rules.products import PRODUCTS, convolution, product


class UngateableError(ValueError):
    """No set of weights can close the units; the message names the operator."""


class GateChooser:
    """Chooses which weights carry the gates of groups.

    Args:
        flow: the flow of units.
        group_of_unit: number of the group of each unit.
    """

    def __init__(self, flow: Flow, group_of_unit: Mapping[int, int]):
        self.flow = flow
        self.lookup = np.full(flow.units.count + 1, -1)
        for unit, group in group_of_unit.items():
            self.lookup[unit] = group
        self.vectors = {name for name, value in flow.recording.tensors.items() if len(value.shape) == 1}
        self.zero_functions: dict[tuple, bool] = {}
        self._groups_of_labels: dict[int, frozenset[int]] = {}
        self._operators: dict[int, list[Operator]] = {}
        for operator in flow.recording.operators:
            present = {g for v in (*operator.values, *operator.results) for dim in self.groups_in(v) for g in dim}
            for group in present:
                self._operators.setdefault(group, []).append(operator)

    def uses(self, group: int) -> bool:
        """Returns whether some operator reads or writes units of a group."""
        return group in self._operators

    def groups_in(self, value: Value) -> list[frozenset[int]]:
        """Returns the groups that have units in each dimension of a tensor."""
        return [self.groups_in_labels(labels) for labels in self.flow.of(value)]

    def is_attention(self, group: int) -> bool:
        """Returns whether products of two activations have the units of a group in a batch, or sum over them."""
        for operator in self._operators.get(group, []):
            pair = operator.values[-2:]
            if PRODUCTS.get(operator.name) is product and not {*pair} & self.flow.views.keys():
                if all(group in dim for dim in (self.groups_in(pair[0])[0], self.groups_in(pair[1])[0])):
                    return True
                if group in self.groups_in(pair[0])[-1]:
                    return True
        return False

    def groups_in_labels(self, labels: np.ndarray | None) -> frozenset[int]:
        """Returns the groups that have units among labels."""
        if labels is None:
            return frozenset()
        if id(labels) not in self._groups_of_labels:
            found = np.unique(self.lookup[self.flow.units.find(labels)])
            self._groups_of_labels[id(labels)] = frozenset(found.tolist()) - {-1}
        return self._groups_of_labels[id(labels)]

    def choose(self, group: int, places: Mapping[TensorDim, int]) -> list[TensorDim]:
        """Returns the weights that carry the gates of a group.

        Either the weights that produce the units or those that read them, whichever has fewer entries. If both have a
        gate, its gradient would vanish with the gate.

        Args:
            group: number of the group.
            places: parameters with units of the group, with their number of entries.

        Raises:
            UngateableError: neither the producers nor the readers can close the units.
        """
        operators = self._operators.get(group, [])
        read = {p for operator in operators for p in self._read_weights(operator, group)} & places.keys()
        written = [p for p in places if p not in read]
        producers, problem = self._try(operators, group, written)
        if problem is None:
            for place in written:  # in the order of use: what a later norm overwrites needs no gate
                fewer = [p for p in producers if p != place]
                if fewer and self._try(operators, group, fewer)[1] is None:
                    producers = fewer
        readers, trouble = self._try(operators, group, sorted(read))
        options = [o for o, p in ((producers, problem), (readers, trouble)) if p is None and o]
        if not options:
            raise UngateableError(
                str(trouble if read and not problem else problem or trouble or "no weight reads them")
            )
        if problem is None and producers and all(p[0] in self.vectors for p in producers):
            return producers  # the scales of norms
        return min(options, key=lambda o: (sum(places[p] for p in o), o is producers))

    def _read_weights(self, operator: Operator, group: int) -> list[TensorDim]:
        """Returns the weights whose entries for the group an operator sums over."""
        places = [self.flow.place(v, d) for v, d in self.summed_dims(operator, group)]
        return [place for place in places if place is not None]

    def summed_dims(self, operator: Operator, group: int) -> list[tuple[Value, int]]:
        """Returns the dimensions with units of a group over which an operator sums products."""
        rule = PRODUCTS.get(operator.name)
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

    def _try(self, operators: list[Operator], group: int, gated: Collection[TensorDim]) -> tuple[Any, str | None]:
        """Returns `gated`, and the operator that shows that its gates do not close the units; None if they do."""
        state = _Zeros(self, group, set(gated))
        for operator in operators:
            if not state.step(operator):
                return gated, str(operator)
        return gated, None


class _Zeros:
    """Which tensors are zero at the closed units of a group, while some weights carry its gates."""

    def __init__(self, chooser: GateChooser, group: int, gated: set[TensorDim]):
        self.chooser, self.group, self.gated = chooser, group, gated
        self.zero: dict[Value, bool] = {}

    def has(self, value: Any, dim: int | None = None) -> bool:
        """Returns whether a tensor has units of the group, along one dimension or any."""
        if not isinstance(value, Value):
            return False
        dims = self.chooser.groups_in(value)
        return any(self.group in d for d in (dims if dim is None else [dims[dim]]))

    def is_zero(self, value: Any, dim: int | None = None) -> bool:
        """Returns whether a tensor is zero at closed units."""
        if not isinstance(value, Value):
            return True
        flow = self.chooser.flow
        if value in flow.views:
            dims = range(len(value.shape)) if dim is None else [dim]
            return any(flow.place(value, d) in self.gated for d in dims)
        return self.zero.get(value, False)

    def step(self, operator: Operator) -> bool:
        """Notes which results are zero; returns False if the operator shows that a closed unit still has an effect."""
        name, arguments = operator.name, operator.arguments
        rule = PRODUCTS.get(name)
        carrying = [v for v in operator.values if self.has(v)]
        zero = bool(carrying) and all(self.is_zero(v) for v in carrying)
        if rule is not None:
            summed = self.chooser.summed_dims(operator, self.group)
            if summed and not any(self.is_zero(v, d) for v, d in summed):
                return False
            zero = self._product(operator)
        elif (
            "norm" in name and isinstance(arguments.get("weight"), Value) and "layer" not in name and "rms" not in name
        ):
            if name == "native_group_norm" and int(arguments["group"]) == 1:
                zero = self.is_zero(operator.values[0])
                if not zero:
                    return False
            else:
                affine = [arguments.get("weight"), arguments.get("bias")]
                zero = all(self.is_zero(v) for v in affine)
        elif "layer_norm" in name or "rms_norm" in name:
            over = len(operator.values[0].shape) - 1
            if self.has(operator.values[0], over):
                if not self.is_zero(operator.values[0]):
                    return False
                zero = True
            else:
                zero = False
        elif "norm" in name and name not in ("linalg_vector_norm", "norm"):
            zero = False  # a batch norm without weights
        elif name in ("sum", "mean", "linalg_vector_norm", "norm"):
            reduced = [d for d in range(len(operator.values[0].shape)) if self._is_reduced(operator, d)]
            if any(self.has(operator.values[0], d) for d in reduced) and not zero:
                return False
        elif name in ("gather", "index", "index_select", "embedding"):
            zero = self.is_zero(operator.values[0])  # the numbers of the entries do not matter
        elif name == "scatter":
            zero = self.is_zero(operator.values[0]) and self.is_zero(operator.arguments.get("src"))
        elif "softmax" in name or name in ("ones", "full", "new_ones", "new_full", "arange", "ones_like", "full_like"):
            zero = False
        elif ELEMENTWISE.get(name, pointwise) is pointwise and (
            name in ELEMENTWISE or torch.Tag.pointwise in operator.function.tags
        ):
            zero = self._pointwise(operator)
        elif name in ("zeros", "new_zeros", "zeros_like", "empty", "new_empty", "zero"):
            zero = True
        for result in operator.results:
            self.zero[result] = zero
        return True

    def _is_reduced(self, operator: Operator, dim: int) -> bool:
        rank = len(operator.values[0].shape)
        dims = [d % rank for name in ("dim", "dims") for d in integers(operator, name)]
        return not dims or dim in dims

    def _product(self, operator: Operator) -> bool:
        """Returns whether the result of a product is zero at closed units of its own dimensions."""
        arguments, summed = operator.arguments, self.chooser.summed_dims(operator, self.group)
        if PRODUCTS[operator.name] is convolution:
            weight, x, bias = (arguments.get(name) for name in ("weight", "input", "bias"))
            assert isinstance(weight, Value)
            writes = 1 if arguments.get("transposed") and arguments["groups"] == 1 else 0
            zero = self.has(weight, writes) and self.is_zero(weight, writes)
            if arguments["groups"] != 1 and not summed and self.has(x):  # a unit is a whole group
                zero = zero or self.is_zero(x)
            return zero and (not isinstance(bias, Value) or self.is_zero(bias))
        first, second = operator.values[-2:]
        zero = any(
            self.has(v, d) and (v, d) not in summed and self.is_zero(v, d)
            for v in (first, second)
            for d in range(len(v.shape))
        )
        added = operator.values[0] if len(operator.values) > 2 else None
        return zero and (added is None or (self.has(added) and self.is_zero(added)))

    def _pointwise(self, operator: Operator) -> bool:
        """Returns whether a function of zeros, and of any numbers in place of other tensors, is zero."""
        leaves = tree_leaves(operator.arguments, lambda leaf: isinstance(leaf, Value))
        zeros = tuple(
            (self.has(leaf) and self.is_zero(leaf)) if isinstance(leaf, Value) else repr(leaf) for leaf in leaves
        )
        known, key = self.chooser.zero_functions, (operator.function, zeros)
        if key not in known:
            known[key] = _maps_to_zero(operator, lambda value: self.has(value) and self.is_zero(value))
        return known[key]


def _maps_to_zero(operator: Operator, is_zero: Callable[[Value], bool]) -> bool:
    """Returns whether a function is zero for zeros and for any numbers in place of other tensors."""
    generator = torch.Generator().manual_seed(0)
    for sign in (1.0, -1.0):

        def stand_in(value: Value, sign: float = sign) -> torch.Tensor:
            return torch.zeros(1) if is_zero(value) else sign * (0.5 + torch.rand(1, generator=generator))

        arguments = tree_map_only(Value, stand_in, operator.arguments)
        for name in ("condition", "mask"):
            if isinstance(arguments.get(name), torch.Tensor):
                arguments[name] = arguments[name] > 0
        try:
            result = call_by_name(operator.function, arguments)
        except (RuntimeError, TypeError):
            return False
        if bool((result != 0).any()):
            return False
    return True


def call_by_name(function: Any, arguments: Mapping[str, Any]) -> Any:
    """Calls an operator with all arguments by name, on the CPU."""
    positional = [arguments[a.name] for a in function._schema.arguments if not a.kwarg_only]
    named = {a.name: arguments[a.name] for a in function._schema.arguments if a.kwarg_only and a.name != "device"}
    return function(*positional, **named)
