"""Costs: parameters and MACs (multiply-accumulates) as closed-form functions of the kept counts."""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from pruning.arguments import InputFunction
from pruning.cost.tracing import AffineShape, AffineSize, OperationRecord, TensorRecord, trace
from pruning.errors import PruningError
from pruning.groups import Group
from pruning.surgery.multihead_attention import leave_nested_tensors
from pruning.surgery.tensor_places import find_places


class Cost(Protocol):
    """Cost of a network that a ratio can refer to."""

    def __call__(self, kept: Sequence[float] | np.ndarray) -> float:
        """Returns the cost when `kept[i]` units of group i are kept; it never falls with more units."""
        ...


@dataclass(frozen=True)
class Term:
    """Product of `weight` and all `factors`; zero if group `needs` is empty."""

    weight: float
    factors: tuple[AffineSize, ...] = ()
    needs: int | None = None


class Polynomial:
    """Cost as a sum of products of sizes, which are functions of the kept counts.

    Couplings between groups are exact: cutting the residual width makes every attention cheaper. One evaluation takes
    tens of microseconds. Counts may be fractional, and the value can be differentiated with respect to a tensor of
    counts.

    Args:
        terms: the terms of the sum.
        groups: number of groups.
    """

    def __init__(self, terms: Iterable[Term], groups: int):
        terms = list(terms)
        self.constant = float(sum(t.weight for t in terms if not t.factors and t.needs is None))
        terms = [t for t in terms if t.factors or t.needs is not None]
        width = max((len(t.factors) for t in terms), default=0)
        self.weights = torch.tensor([float(t.weight) for t in terms], dtype=torch.float64)
        self.fixed = torch.ones(len(terms), width, dtype=torch.float64)
        self.slopes = torch.zeros(len(terms), width, groups, dtype=torch.float64)
        for i, term in enumerate(terms):
            for j, factor in enumerate(term.factors):
                self.fixed[i, j] = factor.fixed
                for group, slope in factor.slopes:
                    self.slopes[i, j, group] = slope
        self.slopes = self.slopes.flatten(0, 1)  # (terms * width, G): one matrix-vector product gives all factors
        needs = [(i, t.needs) for i, t in enumerate(terms) if t.needs is not None]
        self._conditional_terms, self._needed_groups = torch.tensor(needs, dtype=torch.long).reshape(-1, 2).unbind(1)

    @overload
    def __call__(self, kept: Sequence[float] | np.ndarray) -> float: ...

    @overload
    def __call__(self, kept: Tensor) -> Tensor: ...

    def __call__(self, kept: Sequence[float] | np.ndarray | Tensor) -> float | Tensor:
        """Returns the cost when `kept[i]` units of group i are kept; a tensor if `kept` is a tensor (G,)."""
        counts = torch.as_tensor(kept, dtype=torch.float64)
        device = counts.device
        factors = (self.slopes.to(device) @ counts).view_as(self.fixed) + self.fixed.to(device)
        values = self.weights.to(device) * factors.prod(1)
        if len(self._conditional_terms):
            present = (counts.detach()[self._needed_groups.to(device)] > 0).double()
            values = values * torch.ones_like(values).index_put((self._conditional_terms.to(device),), present)
        total = self.constant + values.sum()
        return total if isinstance(kept, Tensor) else float(total)


class ParamCost(Polynomial):
    """Number of live parameters of `network`. Only shapes are read.

    Args:
        network: the network.
        groups: the groups of the network; `cost(kept)` takes their kept counts in this order.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group]):
        cuts: dict[Tensor, dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
        tensors = dict(network.named_buffers(remove_duplicate=False))
        tensors |= dict(network.named_parameters(remove_duplicate=False))  # a tied weight has several names
        for i, group in enumerate(groups):
            for s in group.slices:
                entries_per_unit = cuts[tensors[s.path]][s.dim]
                entries_per_unit[i] = entries_per_unit.get(i, 0) + s.per_unit
        vanishing = {f"{module}.": i for i, group in enumerate(groups) for module in group.vanish or ()}
        terms = []
        for path, parameter in network.named_parameters():
            needs = next((i for module, i in vanishing.items() if path.startswith(module)), None)
            uncut, factors = 1, []
            for dim, size in enumerate(parameter.shape):
                if dim in cuts[parameter]:
                    slopes = tuple(cuts[parameter][dim].items())
                    factors.append(AffineSize(size - sum(n * groups[i].size for i, n in slopes), slopes))
                else:
                    uncut *= size
            terms.append(Term(uncut, tuple(factors), needs))
        super().__init__(terms, len(groups))


class UnitCost(Polynomial):
    """Number of kept units, all of equal cost: the budget of the ICASSP 2023 paper."""

    def __init__(self, network: nn.Module, groups: Sequence[Group]):
        all_units = AffineSize(0, tuple((i, 1) for i in range(len(groups))))
        super().__init__([Term(1, (all_units,))], len(groups))


class MacCost(Polynomial):
    """MACs of one forward, attention included. The network is traced on the meta device, on shapes alone.

    Args:
        network: the network.
        groups: the groups of the network; `cost(kept)` takes their kept counts in this order.
        inputs: returns the arguments of the forward.

    Raises:
        PruningError: the closed form differs from the count of a cut network, because the network computes something
            in another way once units are removed, or uses an operation that is not supported here.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group], inputs: InputFunction):
        traced = trace(copy_to_meta(network), groups, inputs, _record_product)
        super().__init__([_term(operation.tensors[0]) for operation in traced.operations], len(groups))
        counted = count_macs(traced.control, inputs(traced.control)).total
        predicted = round(self(traced.control_counts))
        if predicted != counted:
            raise PruningError(
                f"the MACs of {type(network).__name__} are not a polynomial in the kept counts: with about a third of "
                f"all units the network has {counted} MACs, but the operations of the dense network predict {predicted}"
            )


def _record_product(function: Any, args: tuple, kwargs: dict, result: Any) -> list[OperationRecord]:
    """Records the sizes whose product is the MACs of an operation; [] if it is no matrix product or convolution.

    All matrix products get the same name, as the operator that torch chooses may depend on the sizes.
    """
    tensors, name = [a.shape for a in args if isinstance(a, Tensor)], function.overloadpacket.__name__
    factors: list[tuple[int, ...]] = []
    if name in ("mm", "bmm", "addmm", "baddbmm"):
        (*rows, inner), (*_, columns) = tensors[-2:]
        factors = [(prod(rows), inner, columns)]
    elif name == "convolution":
        is_transposed = args[6]  # its weights are multiplied with every input position
        (rows, *kernel), (batch, _, *positions) = tensors[1], tensors[0] if is_transposed else result.shape
        factors = [(batch, rows, *kernel, *positions)]
    return [OperationRecord("product", [TensorRecord(tuple(sizes))]) for sizes in factors]


def _term(sizes: AffineShape) -> Term:
    """Returns the term whose factors are some sizes."""
    return Term(prod(s.fixed for s in sizes if not s.slopes), tuple(s for s in sizes if s.slopes))


@dataclass(frozen=True)
class Macs:
    """MACs of one forward, attention included; `parts` by direct child of the network."""

    total: int
    parts: dict[str, int]


def count_params(network: nn.Module) -> int:
    """Returns the number of parameters. Networks hold live parameters only, so this is the live count."""
    return sum(p.numel() for p in network.parameters())


def count_macs(network: nn.Module, inputs: Mapping[str, Any]) -> Macs:
    """Counts the MACs of one forward `network(**inputs)` in evaluation mode.

    The forward runs on the meta device, on shapes alone. There torch's counter includes attention, which it misses in
    the fused CPU kernel. Convolutions, linear layers, attention and batched matrix products are counted; norms and
    activations are not.
    """
    with torch.no_grad(), FlopCounterMode(display=False, depth=2) as counter:
        copy_to_meta(network)(**copy_to_meta(dict(inputs)))
    flops = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    root = type(network).__name__
    parts = {name: _flops(child, f"{root}.{name}", flops) // 2 for name, child in network.named_children()}
    return Macs(flops.get("Global", 0) // 2, parts)


def copy_to_meta(thing: Any) -> Any:
    """Returns a copy of a network (in evaluation mode) or of a mapping of tensors on the meta device."""
    if isinstance(thing, nn.Module):
        copied = copy.deepcopy(thing)
        tied = [places for places in find_places(copied).values() if len(places) > 1]
        copied.to("meta")  # which makes a tensor for each name
        for first, *others in tied:
            for place in others:
                setattr(place.module, place.name, getattr(first.module, first.name))
        leave_nested_tensors(copied)
        return copied.eval().requires_grad_(False)
    return tree_map_only(Tensor, lambda t: t.to("meta"), dict(thing))


def _flops(module: nn.Module, name: str, counted: Mapping[str, int]) -> int:
    """Returns the FLOPs of a module, including children that ran outside the module's own forward."""
    children = sum(_flops(child, f"{name}.{key}", counted) for key, child in module.named_children())
    return max(counted.get(name, 0), children)
