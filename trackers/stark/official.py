"""Conversion of official STARK checkpoints, and of the ICASSP 2023 paper's Mini-STARK, sparse and child networks."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trackers.contents import CheckpointContents
from trackers.published import published_recipe

RESNETS = {6: "resnet50", 23: "resnet101"}  # by number of blocks in the third stage
# Rules that convert official parameter names to names of this project. Other names are equal in both.
RENAMED = (
    (r"^backbone\.0\.body\.", "backbone."),
    (r"^query_embed\.weight$", "query"),
    (r"\.in_proj_(weight|bias)$", r".qkv.\1"),
    (r"\.out_proj\.", ".proj."),
    (r"\.(linear[12])\.", r".mlp.\1."),
    (r"\.mlp\.fc([12])\.", r".mlp.linear\1."),
)


def recognises(weights: Mapping[str, Tensor]) -> bool:
    """Returns whether a state dict belongs to STARK."""
    return {"query_embed.weight", "box_head.conv1_tl.0.weight", "backbone.0.body.conv1.weight"} <= weights.keys()


def convert(weights: Mapping[str, Tensor], config_name: str | None) -> CheckpointContents:
    """Returns the contents of a state dict with the parameter names of this project.

    Args:
        weights: state dict of a dense, sparse or child network.
        config_name: name of the training's configuration, if the file contains it.
    """
    gates = {
        _our_name(name.removesuffix(".zeta")): w.flatten() for name, w in weights.items() if name.endswith(".zeta")
    }
    live = {_our_name(name): w for name, w in weights.items() if not name.endswith("zeta")}
    _join_projections(live)
    dead = _drop_decoder_queries(live)
    recipe = _recipe(weights)
    note = (
        f"STARK ({config_name or 'the file does not name its configuration'}): {len(live)} weights, {len(gates)} "
        f"gates. Left out: queries and keys of {dead} self-attentions of one token. Assumed: "
        f"{recipe['transformer']['heads']} heads, search.factor={recipe['search']['factor']}; "
        "+tracker.KEY=VALUE changes them"
    )
    return CheckpointContents(live, recipe, gates=gates, note=note)


def _our_name(name: str) -> str:
    """Returns the name in this project of a parameter with an official name."""
    for official, ours in RENAMED:
        name = re.sub(official, ours, name)
    return name


def _join_projections(weights: dict[str, Tensor]) -> None:
    """Joins q, k and v, which are separate layers in the paper's fork, to one qkv layer, in place."""
    for path in [name.removesuffix(".q.weight") for name in weights if name.endswith(".q.weight")]:
        for kind in ("weight", "bias"):
            weights[f"{path}.qkv.{kind}"] = torch.cat([weights.pop(f"{path}.{part}.{kind}") for part in "qkv"])


def _drop_decoder_queries(weights: dict[str, Tensor]) -> int:
    """Removes queries and keys of the decoder's self-attention, in place, and returns the number of layers.

    The decoder has one token. A softmax over one key is 1, so only values count.
    """
    paths = [n.removesuffix(".qkv.weight") for n in weights if re.search(r"decoder\..*\.self_attn\.qkv\.weight$", n)]
    for path in paths:
        for kind in ("weight", "bias"):
            weights[f"{path}.value.{kind}"] = weights.pop(f"{path}.qkv.{kind}").chunk(3)[2]
    return len(paths)


def _recipe(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the published recipe with the sizes of these weights."""
    has_class_head = "cls_head.layers.0.weight" in weights
    recipe = published_recipe("stark", "stark_full", *(["stark_st50_full"] if has_class_head else []))
    gates = weights.get("transformer.encoder.layers.0.self_attn.zeta")
    width = weights["query_embed.weight"].shape[1]

    def layers(stack: str) -> int:
        return len({n.split(".")[3] for n in weights if n.startswith(f"transformer.{stack}.layers.")})

    hidden = next(len(w) for n, w in weights.items() if _our_name(n).endswith("encoder.layers.0.mlp.linear1.weight"))
    heads = (8 if width == 256 else 4) if gates is None else gates.shape[2]
    sizes = {"width": width, "heads": heads, "hidden": hidden}
    recipe["transformer"] |= sizes | {f"{stack}_layers": layers(stack) for stack in ("encoder", "decoder")}
    blocks = len({n.split(".")[4] for n in weights if n.startswith("backbone.0.body.layer3.")})
    frozen = "backbone.0.body.bn1.num_batches_tracked" not in weights
    recipe["backbone"] |= {"name": RESNETS.get(blocks, f"a ResNet with {blocks} blocks"), "frozen_norm": frozen}
    count = sum(n.startswith("box_head.") and n.endswith("_tl.0.weight") for n in weights)
    recipe["head_channels"] = [weights[f"box_head.conv{i}_tl.0.weight"].shape[0] for i in range(1, count + 1)]
    recipe["class_head"] = has_class_head
    recipe["compat"] = recipe["template"]["compat"] = recipe["search"]["compat"] = "reference"
    return recipe
