"""What a network costs as a function of how many units stay: parameters and multiply-accumulates in closed form."""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from pruning.groups import Group
from pruning.tracing import Inputs, Linear, Seen, Shape, Sized, trace


class Cost(Protocol):
    """Anything that a ratio can be of."""

    def __call__(self, kept: Sequence[float]) -> float:
        """The cost when `kept[i]` units of group i stay; never less for more units."""
        ...


@dataclass(frozen=True)
class Term:
    """A product: `weight` times the sums of kept counts in `factors`; nothing once group `needs` is empty."""

    weight: float
    factors: tuple[Linear, ...] = ()
    needs: int | None = None


class Polynomial:
    """A sum of terms: the form of every cost that follows from the sizes of tensors.

    Couplings are exact: cutting the residual width makes every attention cheaper. One evaluation takes tens of
    microseconds, and it can be differentiated: counts may be fractional, or a tensor that asks for its gradient.

    Args:
        terms: what is added up.
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
        self.slopes = self.slopes.flatten(0, 1)  # one product of a matrix and a vector
        needs = [(i, t.needs) for i, t in enumerate(terms) if t.needs is not None]
        self._needy, self._needed = torch.tensor(needs, dtype=torch.long).reshape(-1, 2).unbind(1)

    def __call__(self, kept: Sequence[float] | Tensor) -> float | Tensor:
        """The value when `kept[i]` units of group i stay; a tensor (G,) gives a tensor."""
        counts = torch.as_tensor(kept, dtype=torch.float64)
        device = counts.device
        factors = (self.slopes.to(device) @ counts).view_as(self.fixed) + self.fixed.to(device)
        values = self.weights.to(device) * factors.prod(1)
        if len(self._needy):
            there = (counts.detach()[self._needed.to(device)] > 0).double()
            values = values * torch.ones_like(values).index_put((self._needy.to(device),), there)
        total = self.constant + values.sum()
        return total if isinstance(kept, Tensor) else float(total)


class ParamCost(Polynomial):
    """Live parameters of `network`: a product over dims, summed over tensors. Only shapes are read.

    Args:
        network: the network the groups belong to.
        groups: its groups; `cost(kept)` takes their kept counts in this order.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group]):
        cuts: dict[str, dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
        for i, group in enumerate(groups):
            for s in group.slices:
                of_dim = cuts[s.path][s.dim]
                of_dim[i] = of_dim.get(i, 0) + s.per_unit
        vanishing = {f"{module}.": i for i, group in enumerate(groups) for module in group.vanish or ()}
        terms = []
        for path, parameter in network.named_parameters():
            needs = next((i for module, i in vanishing.items() if path.startswith(module)), None)
            uncut, factors = 1, []
            for dim, size in enumerate(parameter.shape):
                if dim in cuts[path]:
                    slopes = tuple(cuts[path][dim].items())
                    factors.append(Linear(size - sum(n * groups[i].size for i, n in slopes), slopes))
                else:
                    uncut *= size
            terms.append(Term(uncut, tuple(factors), needs))
        super().__init__(terms, len(groups))


class UnitCost(Polynomial):
    """The paper's budget: the number of kept units, whatever they weigh."""

    def __init__(self, network: nn.Module, groups: Sequence[Group]):
        everything = tuple((i, 1) for i in range(len(groups)))
        super().__init__([Term(1, (Linear(0, everything),))], len(groups))


class MacCost(Polynomial):
    """Multiply-accumulates of one forward, attention included; the network is looked at while it runs on shapes alone.

    Args:
        network: the network the groups belong to.
        groups: its groups.
        inputs: gives the arguments of the forward of a cut copy of it.

    Raises:
        ValueError: the closed form and the count of a cut network differ: it computes something in another way once
            units are gone, or with an operation that is not known here.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group], inputs: Inputs):
        traced = trace(on_meta(network), groups, inputs, _products)
        super().__init__([_term(call.tensors[0]) for call in traced.calls], len(groups))
        counted = count_macs(traced.other, inputs(traced.other)).total
        if round(self(traced.kept)) != counted:
            raise ValueError(
                f"the cost of {type(network).__name__} in MACs is not a product of kept counts: with about a third of "
                f"all units it has {counted}, but the operations of the whole let expect {self(traced.kept):.0f}"
            )


def _products(function: Any, args: tuple, kwargs: dict, result: Any) -> list[Seen]:
    """Multiply-accumulates of an operation as products of sizes; none of one that only moves, adds or normalises.

    Matrix products are alike, whichever of torch's operators a layer chooses for its sizes.
    """
    tensors, name = [a.shape for a in args if isinstance(a, Tensor)], function.overloadpacket.__name__
    factors: list[tuple[int, ...]] = []
    if name in ("mm", "bmm", "addmm", "baddbmm"):
        (*rows, inner), (*_, columns) = tensors[-2:]
        factors = [(prod(rows), inner, columns)]
    elif name == "convolution":
        (outputs, *kernel), (batch, _, *places) = tensors[1], result.shape
        factors = [(batch, outputs, *kernel, *places)]
    return [Seen("product", [Sized(tuple(sizes))]) for sizes in factors]


def _term(sizes: Shape) -> Term:
    return Term(prod(s.fixed for s in sizes if not s.slopes), tuple(s for s in sizes if s.slopes))


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one forward pass, attention included; `parts` by direct child of the network."""

    total: int
    parts: dict[str, int]


def count_params(network: nn.Module) -> int:
    """Number of parameters. Networks here hold live parameters only, so this is the live count."""
    return sum(p.numel() for p in network.parameters())


def count_macs(network: nn.Module, inputs: Mapping[str, Any]) -> Macs:
    """Counts one evaluation forward `network(**inputs)` exactly, without running it.

    Shapes are pushed through the meta device, where torch's counter sees attention as well (with the fused CPU kernel
    it does not). Convolutions, linear layers, attention and batched products count; norms and activations do not.
    """
    with torch.no_grad(), FlopCounterMode(display=False, depth=2) as counter:
        on_meta(network)(**on_meta(dict(inputs)))
    flops = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    root = type(network).__name__
    parts = {name: _flops(child, f"{root}.{name}", flops) // 2 for name, child in network.named_children()}
    return Macs(flops.get("Global", 0) // 2, parts)


def on_meta(thing: Any) -> Any:
    """A copy that has shapes, but no numbers."""
    if isinstance(thing, nn.Module):
        return copy.deepcopy(thing).to("meta").eval().requires_grad_(False)
    return tree_map_only(Tensor, lambda t: t.to("meta"), dict(thing))


def _flops(module: nn.Module, name: str, counted: Mapping[str, int]) -> int:
    """Those of a module, also where its children ran outside of its own forward (a template that is embedded apart)."""
    inside = sum(_flops(child, f"{name}.{key}", counted) for key, child in module.named_children())
    return max(counted.get(name, 0), inside)
