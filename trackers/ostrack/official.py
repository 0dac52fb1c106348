"""Official OSTrack checkpoints, and those of the ICASSP 2023 paper's sparse and child networks."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from pruning.plan import Plan
from trackers.gate_reading import GateReading
from trackers.stored import CheckpointError, Stored

CONF = Path(__file__).parents[2] / "conf" / "tracker"
NEVER_READ = ("backbone.cls_token", "backbone.pos_embed")  # and the paper's `patch_zeta`
BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0}


def recognises(weights: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is OSTrack's."""
    return {"box_head.conv1_ctr.0.weight", "backbone.pos_embed_z", "backbone.pos_embed_x"} <= weights.keys()


def convert(weights: Mapping[str, Tensor], config_name: str | None, reading: GateReading) -> Stored:
    """The tracker in a state dict.

    Args:
        weights: of a dense, sparse or child network.
        config_name: the configuration that it was trained with, if the file says so; it tells whether candidates are
            eliminated, which weights do not.
        reading: how gates are read, if there are any.

    Raises:
        CheckpointError: a budget for a file without gates.
    """
    gates = {name.removesuffix(".zeta"): w.flatten() for name, w in weights.items() if name.endswith(".zeta")}
    if reading.budget is not None and not gates:
        raise CheckpointError(f"gates.budget={reading.budget}, but the file holds no gates; leave gates.budget=null")
    dead = [name for name in weights if name in NEVER_READ or name.endswith(".patch_zeta")]
    live = {name: w for name, w in weights.items() if name not in dead and not name.endswith(".zeta")}
    recipe, plan = _recipe(weights, config_name), Plan()
    if gates and reading.budget is None:
        live |= _scaled(live, gates)
    elif gates:
        kinds = ({n: g for n, g in gates.items() if n.endswith(kind)} for kind in (".attn", ".mlp"))
        plan = Plan({name: units for kind in kinds for name, units in reading.kept(kind).items()})
    note = (
        f"OSTrack ({config_name or 'the file does not name its configuration'}): {len(live)} weights, {len(gates)} "
        f"gates, {len(dead)} entries that it never reads. Taken for granted: "
        f"search.factor={recipe['search']['factor']}, elimination {'on' if recipe['elimination'] else 'off'}; "
        "+tracker.KEY=VALUE changes it"
    )
    return Stored(live, recipe, plan, cut=False, note=note)


def _scaled(weights: Mapping[str, Tensor], gates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that carry gates, multiplied by them: rows of q, k and v alike, columns of fc2."""
    scaled = {}
    for path, gate in gates.items():
        if path.endswith(".attn"):
            rows = gate.repeat(3)
            scaled[f"{path}.qkv.weight"] = weights[f"{path}.qkv.weight"] * rows[:, None]
            scaled[f"{path}.qkv.bias"] = weights[f"{path}.qkv.bias"] * rows
        else:
            scaled[f"{path}.fc2.weight"] = weights[f"{path}.fc2.weight"] * gate
    return scaled


def _recipe(weights: Mapping[str, Tensor], config_name: str | None) -> dict[str, Any]:
    """The published recipe with the sizes of these weights."""
    width, _, patch, _ = weights["backbone.patch_embed.proj.weight"].shape
    depth = sum(name.endswith(".attn.qkv.weight") for name in weights)
    gates = weights.get("backbone.blocks.0.attn.zeta")
    heads = width // 64 if gates is None else gates.shape[2]
    sizes = {"embed_dim": width, "depth": depth, "num_heads": heads}
    sizes["mlp_ratio"] = weights["backbone.blocks.0.mlp.fc1.weight"].shape[0] / width
    template, search = (math.isqrt(weights[f"backbone.pos_embed_{crop}"].shape[1]) * patch for crop in "zx")
    files = [CONF / "ostrack.yaml", CONF / "scale" / "ostrack_full.yaml"]
    if search == 384:
        files.append(CONF / "scale" / "ostrack_384_full.yaml")
    recipe = OmegaConf.to_container(OmegaConf.merge(*(OmegaConf.load(f) for f in files)))
    recipe.pop("defaults", None)
    recipe["backbone"] = f"vit_base_patch{patch}_224"
    recipe["vit"] |= {key: size for key, size in sizes.items() if size != BASE[key]}
    recipe["template"]["size"], recipe["search"]["size"] = template, search
    layers = range(1, sum(name.endswith("_ctr.0.weight") for name in weights) + 1)
    recipe["head_channels"] = [weights[f"box_head.conv{i}_ctr.0.weight"].shape[0] for i in layers]
    if depth != BASE["depth"] or (config_name is not None and "_ce_" not in config_name):
        recipe["elimination"] = None
    return recipe
