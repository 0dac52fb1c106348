"""Conversion of official OSTrack checkpoints, and of the ICASSP 2023 paper's sparse and child networks."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trackers.contents import CheckpointContents
from trackers.published import published_recipe

NEVER_READ = ("backbone.cls_token", "backbone.pos_embed")  # official networks do not use these entries
BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0}


def recognises(weights: Mapping[str, Tensor]) -> bool:
    """Returns whether a state dict belongs to OSTrack."""
    return {"box_head.conv1_ctr.0.weight", "backbone.pos_embed_z", "backbone.pos_embed_x"} <= weights.keys()


def convert(weights: Mapping[str, Tensor], config_name: str | None) -> CheckpointContents:
    """Returns the contents of a state dict with the parameter names of this project.

    Args:
        weights: state dict of a dense, sparse or child network.
        config_name: name of the training's configuration, if the file contains it. Only this name shows whether the
            tracker eliminates candidates.
    """
    gates = {name.removesuffix(".zeta"): w.flatten() for name, w in weights.items() if name.endswith(".zeta")}
    dead = [name for name in weights if name in NEVER_READ or name.endswith(".patch_zeta")]
    live = {name: w for name, w in weights.items() if name not in dead and not name.endswith(".zeta")}
    recipe = _recipe(weights, config_name)
    note = (
        f"OSTrack ({config_name or 'the file does not name its configuration'}): {len(live)} weights, {len(gates)} "
        f"gates, {len(dead)} entries that it never reads. Assumed: "
        f"search.factor={recipe['search']['factor']}, elimination {'on' if recipe['elimination'] else 'off'}; "
        "+tracker.KEY=VALUE changes them"
    )
    return CheckpointContents(live, recipe, gates=gates, note=note)


def _recipe(weights: Mapping[str, Tensor], config_name: str | None) -> dict[str, Any]:
    """Returns the published recipe with the sizes of these weights."""
    width, _, patch, _ = weights["backbone.patch_embed.proj.weight"].shape
    depth = sum(name.endswith(".attn.qkv.weight") for name in weights)
    gates = weights.get("backbone.blocks.0.attn.zeta")
    heads = width // 64 if gates is None else gates.shape[2]
    sizes: dict[str, Any] = {"embed_dim": width, "depth": depth, "num_heads": heads}
    sizes["mlp_ratio"] = weights["backbone.blocks.0.mlp.fc1.weight"].shape[0] / width
    template, search = (math.isqrt(weights[f"backbone.pos_embed_{crop}"].shape[1]) * patch for crop in "zx")
    recipe = published_recipe("ostrack", "ostrack_full", *(["ostrack_384_full"] if search == 384 else []))
    recipe["backbone"] = f"vit_base_patch{patch}_224"
    recipe["vit"] |= {key: size for key, size in sizes.items() if size != BASE[key]}
    recipe["template"]["size"], recipe["search"]["size"] = template, search
    layers = range(1, sum(name.endswith("_ctr.0.weight") for name in weights) + 1)
    recipe["head_channels"] = [weights[f"box_head.conv{i}_ctr.0.weight"].shape[0] for i in layers]
    if depth != BASE["depth"] or (config_name is not None and "_ce_" not in config_name):
        recipe["elimination"] = None
    return recipe
