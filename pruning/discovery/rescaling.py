"""Rescaling: which entries make the queries of attentions that divide their logits by the root of their own width."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pruning.discovery.closing import UngateableError
from pruning.discovery.flow import TensorDim
from pruning.discovery.membership import Membership
from pruning.discovery.recording import Operator, Value
from pruning.discovery.rules.norms import batch_norm, layer_norm
from pruning.discovery.rules.parts import SPLITS
from pruning.discovery.rules.products import convolution, product
from pruning.discovery.rules.shapes import PERMUTATIONS, RESHAPES
from pruning.discovery.tracked_shapes import ReadSize

# Operators that only choose and order the entries of their first argument.
MOVES = (*RESHAPES, *PERMUTATIONS, *SPLITS, "squeeze", "unsqueeze", "select", "unbind", "expand", "repeat", "slice")
SCALES = ("mul", "div", "neg", "_to_copy", "dropout", "native_dropout", "clone", "detach", "alias", "contiguous")
Entries = list[Tensor]  # for each term of a sum, a tensor with the number of the weight's entry behind every element


def rescaled_entries(membership: Membership, group: int) -> dict[TensorDim, list[int]]:
    """Returns the entries that a cut must multiply by the root of the kept fraction, by tensor and dimension.

    These are the entries that make the queries, see `Slice.rescaled`; {} if no attention takes its scale from the width
    of the group. If the queries cannot be scaled by entries of their own, keys are tried.

    Args:
        membership: tells where the units of groups are.
        group: number of the group.

    Raises:
        UngateableError: neither queries nor keys can be scaled.
    """
    products = [o for o in membership.products(group) if membership.summed_dims(o, group)]
    for operator in products:
        if not operator.width_scales and _has_float_width(membership, group, operator):
            raise UngateableError(f"{operator}: the module computes a number from the width of the heads")
    products = [o for o in products if o.width_scales]
    if not products:
        return {}
    if all(membership.covers(group, o.values[-2], len(o.values[-2].shape) - 1) for o in products):
        for side in (-2, -1):
            factors = _Factors(membership, group, {id(o): o.values[side] for o in products})
            if (entries := factors.entries()) is not None:
                return entries
    raise UngateableError(f"{products[0]}: the scale of the attention depends on the width of its heads")


def _has_float_width(membership: Membership, group: int, operator: Operator) -> bool:
    """Returns whether the module that runs a product makes a floating-point number of the width over which it sums."""
    for module, size in membership.flow.recording.float_sizes:
        if module != operator.module:
            continue
        if isinstance(size, ReadSize):
            if group in membership.groups_in(size.tensor)[size.dim]:
                return True
        elif int(size) == operator.values[-2].shape[-1]:
            return True
    return False


class _Factors:
    """Weights that make one factor of each of several products.

    Args:
        membership, group: see `rescaled_entries`.
        factors: for each product, by the id of its operator, the factor.
    """

    def __init__(self, membership: Membership, group: int, factors: dict[int, Value]):
        self.membership, self.group, self.factors = membership, group, factors
        self.operators = membership.flow.recording.operators
        self.makers: set[int] = set()  # numbers of the operators in which weights enter
        self.tensors: set[Value] = set()  # parameters that are added, or parts of a parameter that is added
        self.starts: dict[TensorDim, int] = {}

    def entries(self) -> dict[TensorDim, list[int]] | None:
        """Returns the entries of the weights, None if not all of them scale the factors and nothing else."""
        for number, operator in enumerate(self.operators):
            if id(operator) in self.factors and not self._trace(self.factors[id(operator)], number):
                return None
        return self._follow()

    def _trace(self, value: Value, before: int) -> bool:
        """Notes the weights that make a tensor; returns whether it is proportional to them."""
        if value in self.membership.flow.views:
            self.tensors.add(value)
            return self._place(value) is not None
        number = next((n for n in range(before - 1, -1, -1) if value in self.operators[n].results), None)
        if number is None:
            return False
        operator = self.operators[number]
        if self._weights(operator) is not None:
            self.makers.add(number)
            added = operator.values[0] if operator.name in ("addmm", "baddbmm") else None
            return added is None or self._trace(added, number)
        if operator.name in MOVES or operator.name == "cat":
            return all(self._trace(v, number) for v in operator.values[: None if operator.name == "cat" else 1])
        if operator.name == "add":
            return len(operator.values) == 2 and all(self._trace(v, number) for v in operator.values)
        if operator.name in SCALES:
            carrying = [v for v in operator.values if any(self.group in d for d in self.membership.groups_in(v))]
            return carrying == operator.values[:1] and self._trace(carrying[0], number)
        return False

    def _place(self, value: Value) -> tuple[TensorDim, int] | None:
        """Returns the one dimension of a parameter that has units of the group, and which of the view's it is."""
        groups = self.membership.groups_in(value)
        dims = [dim for dim, found in enumerate(groups) if self.group in found]
        place = self.membership.flow.place(value, dims[0]) if len(dims) == 1 else None
        return None if place is None else (place, dims[0])

    def _weights(self, operator: Operator) -> tuple[int, list[TensorDim]] | None:
        """Returns the dimension of the result along which weights make it, and the weights' entries along it, or None.

        None stands for operators in which no weight enters, or of which the result is not proportional to the weights.
        """
        rule, arguments, flow = self.membership.flow.rule_of(operator), operator.arguments, self.membership.flow
        rank = len(operator.results[0].shape)
        if rule is product and len(operator.values) > 1 and operator.values[-1] in flow.views:
            dim, found = rank - 1, [(operator.values[-1], len(operator.values[-1].shape) - 1)]
        elif rule is convolution and not arguments.get("transposed"):
            dim = rank - len(arguments["weight"].shape) + 1
            found = [(arguments.get(name), 0) for name in ("weight", "bias")]
        elif rule in (layer_norm, batch_norm):
            dim = 1 if rule is batch_norm else rank - 1
            found = [(arguments.get(name), 0) for name in ("weight", "bias")]
        else:
            return None
        places = [flow.place(value, d) for value, d in found if isinstance(value, Value)]
        if not isinstance(found[0][0], Value) or None in places:
            return None
        return dim, [place for place in places if place is not None]

    def _follow(self) -> dict[TensorDim, list[int]] | None:
        """Returns the entries, after a check that nothing but the factors depends on them."""
        state: dict[Value, Entries] = {}
        inside: set[int] = set()
        outside: set[int] = set()
        for value in self.tensors:
            place = self._place(value)
            assert place is not None  # `_trace` has seen it
            state[value] = [self._numbers(*place, value.shape)]
        for number, operator in enumerate(self.operators):
            if number in self.makers:
                made = self._made(operator, state)
                if made is None:
                    return None
                state[operator.results[0]] = made
                continue
            carried = [v for v in operator.values if v in state]
            if not carried:
                continue
            if (results := _passed(operator, state)) is not None:
                state |= results
                continue
            factor = self.factors.get(id(operator))
            for value in carried:
                (inside if value is factor else outside).update(_distinct(state[value]))
        outside.update(n for v in self.membership.flow.recording.outputs if v in state for n in _distinct(state[v]))
        if not inside or inside & outside:
            return None
        entries: dict[TensorDim, list[int]] = defaultdict(list)
        for place, start in self.starts.items():
            size = self.membership.flow.recording.tensors[place[0]].shape[place[1]]
            entries[place] = sorted(n - start for n in inside if start <= n < start + size)
        return {place: found for place, found in entries.items() if found}

    def _made(self, operator: Operator, state: dict[Value, Entries]) -> Entries | None:
        """Returns the entries behind the result of an operator in which weights enter."""
        found = self._weights(operator)
        assert found is not None  # `_trace` has seen it
        dim, places = found
        shape = operator.results[0].shape
        terms = [self._numbers(place, dim, shape) for place in places]
        if operator.name in ("addmm", "baddbmm"):
            if operator.values[0] not in state:
                return None
            terms += [t.expand(shape) for t in state[operator.values[0]]]
        return terms

    def _numbers(self, place: TensorDim, dim: int, shape: Sequence[int]) -> Tensor:
        """Returns the numbers of the entries of a tensor dimension along `dim` of a tensor with a shape."""
        if place not in self.starts:
            sizes = [self.membership.flow.recording.tensors[path].shape[d] for path, d in self.starts]
            self.starts[place] = sum(sizes)
        line = torch.arange(shape[dim]) + self.starts[place]
        return line.view([-1 if d == dim else 1 for d in range(len(shape))]).expand(tuple(shape))


def _passed(operator: Operator, state: dict[Value, Entries]) -> dict[Value, Entries] | None:
    """Returns the entries behind the results of an operator that moves, scales or adds tensors; None for others."""
    values, shape = operator.values, operator.results[0].shape if operator.results else ()
    if operator.name in MOVES and values[0] in state:
        terms = [_moved(operator, [values[0]], [term]) for term in state[values[0]]]
    elif operator.name == "cat" and all(v in state and len(state[v]) == len(state[values[0]]) for v in values):
        terms = [_moved(operator, values, list(parts)) for parts in zip(*map(state.__getitem__, values), strict=True)]
    elif operator.name == "add" and len(values) == 2 and all(v in state for v in values):
        terms = [[t.expand(shape)] for v in values for t in state[v]]
    elif operator.name in SCALES and values[0] in state and not any(v in state for v in values[1:]):
        terms = [[t.expand(shape)] for t in state[values[0]]]
    else:
        return None
    return {value: [term[i] for term in terms] for i, value in enumerate(operator.results[: len(terms[0])])}


def _moved(operator: Operator, values: Sequence[Value], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Runs an operator on numbers of entries in place of its tensors."""
    if operator.name in RESHAPES:
        return [tensors[0].reshape(tuple(operator.results[0].shape))]  # expanded numbers have other strides
    numbers = dict(zip(map(id, values), tensors, strict=True))
    arguments = tree_map_only(Value, lambda v: numbers[id(v)], operator.arguments)
    call: Callable[..., Any] = operator.function
    schema = operator.function._schema.arguments
    named = {a.name: arguments[a.name] for a in schema if a.kwarg_only and a.name not in ("device", "dtype", "layout")}
    result = call(*[arguments[a.name] for a in schema if not a.kwarg_only], **named)
    return [result] if isinstance(result, Tensor) else list(result)


def _distinct(entries: Entries) -> set[int]:
    """Returns the numbers of all entries behind a tensor."""
    return {n for term in entries for n in torch.unique(term).tolist()}
