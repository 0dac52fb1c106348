"""The same cut by the library torch-pruning, used as its README and its examples for timm and torchvision use it."""

import copy
import math
import warnings
from collections.abc import Callable

import torch
import torch_pruning
from timm.layers import set_fused_attn
from timm.models.metaformer import Scale
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from pruning.cost import count_params

set_fused_attn(False)  # as its examples do: its trace finds no projections behind the fused attention
TRIES, TOLERANCE = 8, 0.005


class DidNotRunError(Exception):
    """The library made a network without any error, but the network does not run."""


def cut(dense: nn.Module, images: Tensor, ratio: float) -> nn.Module:
    """Returns the largest cut network with at most `ratio` of the parameters, or the smallest if none is so small.

    Args:
        dense: the network, which is not changed.
        images: a batch, (B, 3, H, W).
        ratio: fraction of the parameters to keep.
    """
    return search(dense, images, lambda network: count_params(network) / count_params(dense), ratio)


def search(
    dense: nn.Module, images: Tensor, fraction: Callable[[nn.Module], float], ratio: float, round_to: int | None = None
) -> nn.Module:
    """Searches the library's ratio of channels, as it has no budget of anything else.

    Args:
        dense: the network, which is not changed.
        images: a batch, (B, 3, H, W).
        fraction: what a network keeps of the dense one.
        ratio: largest fraction.
        round_to: divisor of the widths.
    """
    below, above = (1.0, 0.0), (0.0, 1.0)  # channels removed, and what is kept
    best, smallest = None, None
    for _ in range(TRIES):
        # what is kept falls about as the square of the channels
        (x, low), (y, high) = [(channels, math.sqrt(kept)) for channels, kept in (below, above)]
        channels = y + (x - y) * (high - math.sqrt(ratio - TOLERANCE / 2)) / (high - low)
        try:
            network = prune(dense, images, channels, round_to)
        except Exception:
            if smallest is None:
                raise
            break  # another ratio has worked
        kept = fraction(network)
        if kept <= ratio and (best is None or kept > best[0]):
            best = kept, network
        if smallest is None or kept < smallest[0]:
            smallest = kept, network
        if 0 <= ratio - kept < TOLERANCE:
            break
        below, above = ((channels, kept), above) if kept < ratio else (below, (channels, kept))
    return (best or smallest)[1]


def prune(dense: nn.Module, images: Tensor, channels: float, round_to: int | None) -> nn.Module:
    """Returns a copy without the given fraction of the channels of every layer.

    Raises:
        DidNotRunError: the cut network does not run.
    """
    network = copy.deepcopy(dense).requires_grad_(True)
    if isinstance(network, VisionTransformer):
        round_to = network.encoder.layers[0].num_heads
    heads = _heads(network)
    with warnings.catch_warnings(action="ignore"):
        pruner = torch_pruning.pruner.BasePruner(
            network,
            images[:1],
            torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=channels,
            ignored_layers=[m for m in network.modules() if _width(m) == 1000],
            round_to=round_to,
            num_heads=dict(heads),
            in_channel_groups={},  # its defaults are shared by all pruners of a process
            out_channel_groups={},
        )
        for group in pruner.step(interactive=True):
            group.prune()
    _correct_attributes(network, heads)
    try:
        with torch.no_grad():
            network(images)
    except Exception as fault:
        raise DidNotRunError(f"{type(fault).__name__}: {str(fault).strip().splitlines()[0]}") from fault
    return network


def _width(module: nn.Module) -> int | None:
    return (
        getattr(module, "out_features", None) if isinstance(module, nn.Linear) else getattr(module, "out_channels", 0)
    )


def _heads(network: nn.Module) -> dict[nn.Module, int]:
    """Returns the numbers of heads of the projections, under the names of its examples and some more."""
    return {
        layer: module.num_heads
        for module in network.modules()
        if isinstance(getattr(module, "num_heads", None), int)
        for name in ("qkv", "q", "k", "v", "q_proj", "k_proj", "v_proj")
        if isinstance(layer := getattr(module, name, None), nn.Linear)
    }


def _correct_attributes(network: nn.Module, heads: dict[nn.Module, int]) -> None:
    """Corrects what its examples correct after a cut, and what newer versions of timm have added to that."""
    for module in network.modules():
        if (qkv := getattr(module, "qkv", None)) in heads:
            width = qkv.out_features // 3
            for name, value in (("head_dim", width // module.num_heads), ("attn_dim", width)):
                if hasattr(module, name):
                    setattr(module, name, value)
        if isinstance(module, Scale):  # the one attribute that its README asks to correct
            module.shape = (*module.scale.shape, *module.shape[1:])
    if isinstance(network, VisionTransformer):
        network.hidden_dim = network.conv_proj.out_channels
