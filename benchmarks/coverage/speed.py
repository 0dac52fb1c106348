"""Compares the speed of children, ours and those of torch-pruning, at equal parameters and at equal MACs.

python -m benchmarks.coverage.speed
python -m benchmarks.coverage.speed --models resnet18@224 --ratio 0.25

Ours is cut to the ratio first, with widths that are multiples of --round-to; the ratio of channels of torch-pruning is
then searched until its child is at most as large as ours. Both rank by magnitude. Weights are random. The time is the
median over rounds in which all networks take turns, float32, batch 1, in eval mode, with timm's fused attention on both
sides.
"""

import argparse
import copy
import warnings
from collections.abc import Mapping
from functools import partial

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from benchmarks.coverage import ours, theirs
from benchmarks.coverage.models import build
from pruning.cost import count_macs, count_params
from pruning.cost.turns import medians

MODELS = (
    "torchvision.resnet18@224",
    "torchvision.resnet50@224",
    "mobilenetv2_100@224",
    "efficientnet_lite0@224",
    "vit_tiny_patch16_224@224",
    "convnext_atto@224",
)
QUANTITIES = ("params", "macs")


def main() -> None:
    """Prints a table in Markdown."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", nargs="+", default=MODELS, metavar="NAME@PIXELS", help="(default: %(default)s)")
    options.add_argument("--ratio", type=float, default=0.5, help="fraction kept (default: %(default)s)")
    options.add_argument("--round-to", type=int, default=8, help="divisor of the widths (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    print("| network | equal | dense | ours: params, MACs, faster | theirs: params, MACs, faster | ours / theirs |")
    print("|---" * 6 + "|")
    for entry in track(given.models, description="cutting", console=Console(stderr=True)):
        torch.manual_seed(0)
        dense, pixels = build(entry)  # theirs has switched fused attention off, which its trace needs
        images = torch.randn(1, 3, pixels, pixels)
        made: dict[tuple[str, str], nn.Module] = {("", "dense"): dense}
        for quantity in QUANTITIES:
            made |= _children(dense, images, quantity, given.ratio, given.round_to)
        for network in made.values():
            _fuse_attention(network)
        clocks = medians({key: partial(network, images) for key, network in made.items()})
        for quantity in QUANTITIES:
            print(_line(entry, quantity, made, clocks, images), flush=True)


def _children(
    dense: nn.Module, images: Tensor, quantity: str, ratio: float, round_to: int
) -> dict[tuple[str, str], nn.Module]:
    mine = ours.cut(copy.deepcopy(dense), images, ratio, quantity, round_to)[0]

    def fraction(network: nn.Module) -> float:
        return _size(network, images, quantity) / _size(dense, images, quantity)

    children = {(quantity, "ours"): mine}
    try:
        children[quantity, "theirs"] = theirs.search(dense, images, fraction, fraction(mine), round_to)
    except Exception as fault:
        Console(stderr=True).print(f"torch-pruning: {type(fault).__name__}: {fault}")
    return children


def _size(network: nn.Module, images: Tensor, quantity: str) -> float:
    if quantity == "params":
        return count_params(network)
    return count_macs(network, {ours.argument_of(network): images}).total


def _fuse_attention(network: nn.Module) -> None:
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = True


def _line(
    entry: str,
    quantity: str,
    made: Mapping[tuple[str, str], nn.Module],
    clocks: Mapping[tuple[str, str], float],
    images: Tensor,
) -> str:
    dense, cells = made["", "dense"], [entry, quantity, f"{clocks['', 'dense']:.1f} ms"]
    for side in ("ours", "theirs"):
        if (quantity, side) not in made:
            cells.append("no child")
            continue
        sizes = [_size(made[quantity, side], images, q) / _size(dense, images, q) for q in QUANTITIES]
        faster = clocks["", "dense"] / clocks[quantity, side]
        cells.append(f"{sizes[0]:.3f}, {sizes[1]:.3f}, {faster:.2f}")
    both = (quantity, "theirs") in made
    cells.append(f"{clocks[quantity, 'theirs'] / clocks[quantity, 'ours']:.2f}" if both else "")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
