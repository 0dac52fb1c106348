"""What closed gates do: which tensors of a run are zero at the units whose gates are closed."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from pruning.discovery.flow import Rule, TensorDim, integers
from pruning.discovery.membership import Membership
from pruning.discovery.recording import Operator, Value
from pruning.discovery.rules.elementwise import along, new, pointwise, reduction, same
from pruning.discovery.rules.indexing import embedding, gather, index, index_select, scatter
from pruning.discovery.rules.norms import batch_norm, group_norm, layer_norm
from pruning.discovery.rules.products import convolution, product


class UngateableError(ValueError):
    """No set of weights can close the units; the message names the operator."""


class ClosedUnits:
    """Which tensors are zero at the closed units of a group, while some weights carry its gates.

    Args:
        membership: tells where the units of groups are.
        group: number of the group.
        gated: the weights that carry the gates.
        zero_functions: answers of `maps_to_zero` so far, by function and arguments.

    Attributes:
        gated_twice: whether a gated weight scales what another gated weight has made, unit by unit. The effect of the
            gate is then its square, whose gradient vanishes with the gate.
    """

    def __init__(
        self,
        membership: Membership,
        group: int,
        gated: Collection[TensorDim],
        zero_functions: dict[tuple, bool],
    ):
        self.membership, self.group, self.gated, self.zero_functions = membership, group, gated, zero_functions
        self.gated_twice = False
        self._zero: dict[Value, bool] = {}
        self._memory: dict[Value, Value] = {}  # for a view the tensor of which it is a view

    def has(self, value: Any, dim: int | None = None) -> bool:
        """Returns whether a tensor has units of the group, along one dimension or any."""
        if not isinstance(value, Value):
            return False
        dims = self.membership.groups_in(value)
        return any(self.group in d for d in (dims if dim is None else [dims[dim]]))

    def is_zero(self, value: Any, dim: int | None = None) -> bool:
        """Returns whether a tensor is zero at closed units; a tensor that is left out, such as a bias, is zero."""
        if not isinstance(value, Value):
            return True
        flow = self.membership.flow
        if value in flow.views:
            dims = range(len(value.shape)) if dim is None else [dim]
            return any(flow.place(value, d) in self.gated for d in dims)
        return self._zero.get(value, False)

    def follow(self, operator: Operator) -> None:
        """Notes whether the results of an operator are zero at closed units.

        Raises:
            UngateableError: the operator shows that a closed unit still has an effect.
        """
        rule = self.membership.flow.rule_of(operator)
        self.gated_twice |= self._scales_again(rule, operator)
        zero = _RESULTS.get(rule, _of_copies)(self, operator)
        self._zero |= dict.fromkeys(operator.results, zero)
        self._note_memory(operator, zero)

    def _scales_again(self, rule: Rule | None, operator: Operator) -> bool:
        """Returns whether an operator multiplies units that are zero when closed by weights that are gated, too."""
        unit_by_unit = rule in (batch_norm, group_norm, layer_norm) or operator.name == "mul"
        if rule is convolution and operator.arguments.get("groups") != 1:
            unit_by_unit = not self.membership.summed_dims(operator, self.group)
        weights = [v for v in operator.values if v in self.membership.flow.views]
        made = [v for v in operator.values if v not in self.membership.flow.views and self.has(v)]
        return unit_by_unit and any(map(self.is_zero, weights)) and any(map(self.is_zero, made))

    def _note_memory(self, operator: Operator, zero: bool) -> None:
        """Notes which tensors share memory: what an operator writes into one of them is in all of them."""
        if not (arguments := operator.function._schema.arguments):
            return
        first, alias = operator.arguments.get(arguments[0].name), arguments[0].alias_info
        if alias is None or not isinstance(first, Value):
            return
        memory = self._memory.get(first, first)
        if not alias.is_write:
            self._memory |= dict.fromkeys(operator.results, memory)
        elif not zero:
            self._zero |= dict.fromkeys([memory, *(v for v, of in self._memory.items() if of is memory)], False)


def _of_copies(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether the result of an operator that moves or mixes entries is zero at closed units."""
    carrying = [v for v in operator.values if units.has(v)]
    return bool(carrying) and all(map(units.is_zero, carrying))


def _of_same(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a copy is zero at closed units, or what is written in its place."""
    if operator.name in ("zero", "fill", "uniform", "normal"):
        return operator.name == "zero"
    return _of_copies(units, operator)


def _of_product(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a product of matrices is zero at closed units of its own dimensions."""
    summed = _check_sum(units, operator)
    pair = operator.values[-2:]
    dims = [(v, d) for v in pair for d in range(len(v.shape)) if (v, d) not in summed]
    added = operator.values[0] if len(operator.values) > 2 else None
    return any(units.has(v, d) and units.is_zero(v, d) for v, d in dims) and (
        added is None or (units.has(added) and units.is_zero(added))
    )


def _of_convolution(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether the outputs of a convolution are zero at closed units."""
    summed = _check_sum(units, operator)
    weight, x, bias, groups = (operator.arguments.get(name) for name in ("weight", "input", "bias", "groups"))
    writes = 1 if operator.arguments.get("transposed") and groups == 1 else 0
    zero = units.has(weight, writes) and units.is_zero(weight, writes)
    if groups != 1 and not summed and units.has(x):  # a unit is a whole group
        zero = zero or units.is_zero(x)
    return zero and units.is_zero(bias)


def _check_sum(units: ClosedUnits, operator: Operator) -> list[tuple[Value, int]]:
    """Returns the dimensions with units that a product sums over, of which one factor must be zero."""
    summed = units.membership.summed_dims(operator, units.group)
    if summed and not any(units.is_zero(v, d) for v, d in summed):
        raise UngateableError(str(operator))
    return summed


def _of_batch_norm(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a norm of single channels, or of groups of channels, writes zeros: its weight and bias do."""
    affine = [operator.arguments.get(name) for name in ("weight", "bias")]
    return isinstance(affine[0], Value) and all(map(units.is_zero, affine))


def _of_group_norm(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether the result of a group norm is zero at closed units."""
    if isinstance(operator.arguments.get("weight"), Value) and int(operator.arguments["group"]) == 1:
        return _check_zero(units, operator)
    return _of_batch_norm(units, operator)


def _of_layer_norm(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether the result of a norm over the last dimension is zero at closed units."""
    x = operator.values[0]
    return units.has(x, len(x.shape) - 1) and _check_zero(units, operator)


def _of_reduction(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a sum or another statistic is zero at closed units. A sum over units must not add closed ones."""
    x, zero = operator.values[0], _of_copies(units, operator)
    if operator.name in ("sum", "mean", "linalg_vector_norm", "norm"):
        rank = len(x.shape)
        reduced = {d % rank for name in ("dim", "dims") for d in integers(operator, name)} or range(rank)
        if not zero and any(units.has(x, d) for d in reduced):
            raise UngateableError(str(operator))
    return zero


def _check_zero(units: ClosedUnits, operator: Operator) -> bool:
    """Checks that the first argument is zero at closed units, which enter statistics over all units otherwise."""
    if not units.is_zero(operator.values[0]):
        raise UngateableError(str(operator))
    return True


def _of_entries(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether entries that are taken by number are zero; the numbers themselves do not matter."""
    return units.is_zero(operator.values[0])


def _of_scatter(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a tensor into which entries are written is zero at closed units."""
    return units.is_zero(operator.values[0]) and units.is_zero(operator.arguments.get("src"))


def _of_positions(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a function along a dimension is zero at closed units; a softmax is zero nowhere."""
    return "softmax" not in operator.name and _of_copies(units, operator)


def _of_new(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a new tensor is zero; what an empty one gets later, another operator tells."""
    return operator.name.removeprefix("new_").removesuffix("_like") in ("zeros", "empty")


def _of_pointwise(units: ClosedUnits, operator: Operator) -> bool:
    """Returns whether a function of zeros, and of any numbers in place of other tensors, is zero."""

    def is_zero(value: Value) -> bool:
        return units.has(value) and units.is_zero(value)

    leaves = tree_leaves(operator.arguments, lambda leaf: isinstance(leaf, Value))
    zeros = tuple(is_zero(leaf) if isinstance(leaf, Value) else repr(leaf) for leaf in leaves)
    key = (operator.function, zeros)
    if key not in units.zero_functions:
        units.zero_functions[key] = maps_to_zero(operator, is_zero)
    return units.zero_functions[key]


_RESULTS: dict[Rule | None, Callable[[ClosedUnits, Operator], bool]] = {
    product: _of_product,
    convolution: _of_convolution,
    batch_norm: _of_batch_norm,
    group_norm: _of_group_norm,
    layer_norm: _of_layer_norm,
    reduction: _of_reduction,
    pointwise: _of_pointwise,
    along: _of_positions,
    new: _of_new,
    same: _of_same,
    embedding: _of_entries,
    index: _of_entries,
    index_select: _of_entries,
    gather: _of_entries,
    scatter: _of_scatter,
}


def maps_to_zero(operator: Operator, is_zero: Callable[[Value], bool]) -> bool:
    """Returns whether a function of single elements is zero, whatever the elements of some tensors are.

    Args:
        operator: a call of the function.
        is_zero: returns whether a tensor is zero. Others have any numbers.
    """
    generator = torch.Generator().manual_seed(0)
    for sign in (1.0, -1.0):

        def stand_in(value: Value, sign: float = sign) -> torch.Tensor:
            return torch.zeros(1) if is_zero(value) else sign * (0.5 + torch.rand(1, generator=generator))

        arguments = tree_map_only(Value, stand_in, operator.arguments)
        for name in ("condition", "mask"):
            if isinstance(arguments.get(name), torch.Tensor):
                arguments[name] = arguments[name] > 0
        try:
            result = _call_by_name(operator.function, arguments)
        except (RuntimeError, TypeError):
            return False
        if bool((result != 0).any()):
            return False
    return True


def _call_by_name(function: Any, arguments: Mapping[str, Any]) -> Any:
    """Calls an operator with all arguments by name, on the CPU."""
    positional = [arguments[a.name] for a in function._schema.arguments if not a.kwarg_only]
    named = {a.name: arguments[a.name] for a in function._schema.arguments if a.kwarg_only and a.name != "device"}
    return function(*positional, **named)
