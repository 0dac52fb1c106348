"""Graphs: the parts of a network that a runtime computes, as PyTorch modules."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Graph:
    """Part of a network with fixed shapes, but for the number of targets.

    Attributes:
        module: its `forward` takes tensors by name and returns a dict of tensors. It shares the network's weights.
        inputs: an example of each input, by the names of the arguments of `forward` and in their order.
        outputs: names of the results, in the order of the dict. They differ from those of the inputs.
        batched: names of the inputs whose first dim is the number of targets. The first dim of every output then has
            this number, too. Without such inputs all shapes are fixed.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    batched: frozenset[str] = field(default_factory=frozenset)


def dtype_of(network: nn.Module) -> torch.dtype:
    """Returns the type in which a network computes."""
    return next(network.parameters()).dtype
