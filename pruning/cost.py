"""What a network costs: parameters in closed form for any plan, multiply-accumulates counted on the built network."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from pruning.groups import Group


class ParamCost:
    """Live parameters of `network` as a function of kept units: a product over dims, summed over tensors.

    Couplings are exact: cutting the residual width makes every attention cheaper, and a module that vanishes with a
    group's last unit costs nothing once that unit is gone. No network is built to evaluate it.

    Args:
        network: the network the groups belong to; only shapes are read.
        groups: its groups; `cost(kept)` takes their kept counts in this order.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group]):
        cuts: dict[str, dict[int, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
        for i, group in enumerate(groups):
            for s in group.slices:
                cuts[s.path][s.dim].append((i, s.per_unit, group.size))
        vanishing = {f"{module}.": i for i, group in enumerate(groups) for module in group.vanish or ()}
        self.constant = 0
        self._terms: list[tuple[int | None, int, list[tuple[int, list[tuple[int, int]]]]]] = []
        for path, parameter in network.named_parameters():
            needs = next((i for module, i in vanishing.items() if path.startswith(module)), None)
            if path not in cuts and needs is None:
                self.constant += parameter.numel()
                continue
            uncut, dims = 1, []
            for dim, size in enumerate(parameter.shape):
                if dim in cuts[path]:
                    parts = [(i, per_unit) for i, per_unit, _ in cuts[path][dim]]
                    dims.append((size - sum(per_unit * n for _, per_unit, n in cuts[path][dim]), parts))
                else:
                    uncut *= size
            self._terms.append((needs, uncut, dims))

    def __call__(self, kept: Sequence[float]) -> float:
        """Parameters left when `kept[i]` units of group i stay; counts may be fractional."""
        total = self.constant
        for needs, product, dims in self._terms:
            if needs is not None and not kept[needs]:
                continue
            for fixed, parts in dims:
                product *= fixed + sum(per_unit * kept[i] for i, per_unit in parts)
            total += product
        return total


class UnitCost:
    """The paper's budget: the number of kept units, whatever they weigh."""

    def __call__(self, kept: Sequence[float]) -> float:
        """Units left when `kept[i]` units of group i stay."""
        return sum(kept)


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
    shapes = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False, depth=2) as counter:
        shapes(**tree_map_only(Tensor, lambda t: t.to("meta"), dict(inputs)))
    flops = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    root = type(network).__name__
    parts = {name: _flops(child, f"{root}.{name}", flops) // 2 for name, child in network.named_children()}
    return Macs(flops.get("Global", 0) // 2, parts)


def _flops(module: nn.Module, name: str, counted: Mapping[str, int]) -> int:
    """Those of a module, also where its children ran outside of its own forward (a template that is embedded apart)."""
    inside = sum(_flops(child, f"{name}.{key}", counted) for key, child in module.named_children())
    return max(counted.get(name, 0), inside)
