"""OSTrack as a reference case describes it: our classes, official names, weights and pictures from the fill rule."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from pruning.groups import Group
from pruning.plan import Plan
from trackers.base import Online, Recipe
from trackers.crops import CropSpec
from trackers.ostrack import OSTrack
from trackers.ostrack.elimination import Elimination, best_candidates

from .cases import Case, load

# Official checkpoints hold these, but OSTrack never reads them and we do not build them.
NEVER_READ = {"backbone.cls_token", "backbone.pos_embed"}
GATES = "zeta"  # names of gates in the pruning fork's layout end so; ours live outside of the network, in `Gates`
RECIPE = Recipe(lr=0, rates={}, weight_decay=0, decay_vectors=False, clip=0, schedule=lambda progress: 1)


def elimination(config: Mapping[str, Any]) -> Elimination | None:
    """The reference's candidate elimination."""
    if not config["MODEL.BACKBONE.TYPE"].endswith("_ce"):
        return None
    if config["MODEL.BACKBONE.CE_TEMPLATE_RANGE"] != "CTR_POINT":
        raise ValueError(f"CE_TEMPLATE_RANGE={config['MODEL.BACKBONE.CE_TEMPLATE_RANGE']} is not known, only CTR_POINT")
    start, warmup = config.get("TRAIN.CE_START_EPOCH", 0), config.get("TRAIN.CE_WARM_EPOCH", 0)
    blocks, keep = config["MODEL.BACKBONE.CE_LOC"], config["MODEL.BACKBONE.CE_KEEP_RATIO"]
    return Elimination(blocks, keep, start, warmup)


def empty_tracker(config: Mapping[str, Any]) -> OSTrack:
    """The tracker of the reference's options, on the meta device."""
    if config["MODEL.HEAD.TYPE"] != "CENTER":
        raise ValueError(f"MODEL.HEAD.TYPE={config['MODEL.HEAD.TYPE']} is not known, only CENTER is")
    channels = config["MODEL.HEAD.NUM_CHANNELS"]
    with torch.device("meta"):
        tracker = OSTrack(
            template=CropSpec(
                config["DATA.TEMPLATE.SIZE"], config.get("TEST.TEMPLATE_FACTOR", 2.0), compat="reference"
            ),
            search=CropSpec(config["DATA.SEARCH.SIZE"], config.get("TEST.SEARCH_FACTOR", 4.0), compat="reference"),
            backbone=config["MODEL.BACKBONE.TYPE"].removesuffix("_ce"),
            vit={"drop_path_rate": config.get("TRAIN.DROP_PATH_RATE", 0.0)},
            elimination=elimination(config),
            head_channels=[channels // 2**i for i in range(4)],
            loss={
                "focal": 1.0,
                "giou": config.get("TRAIN.GIOU_WEIGHT", 2.0),
                "l1": config.get("TRAIN.L1_WEIGHT", 5.0),
                "cells": "best",
            },
            recipe=RECIPE,
            online=Online(min_size=10.0, size_smoothing=0.0),
        )
    stride = tracker.network.backbone.stride
    if stride != config["MODEL.BACKBONE.STRIDE"]:
        raise ValueError(f"MODEL.BACKBONE.STRIDE={config['MODEL.BACKBONE.STRIDE']}, but the backbone's is {stride}")
    return tracker


def build(case: Case) -> OSTrack:
    """The case's tracker with its weights, in evaluation mode. Any name or shape that does not fit is an error."""
    tracker, about = empty_tracker(case.config), case.about["checkpoint"]
    scaled, constants = about.get("scaled", {}), about.get("constants", {})
    weights = {}
    for name, shape in about["entries"].items():
        if name in NEVER_READ or name.endswith(GATES):
            continue
        value = torch.from_numpy(_parameter(about["prefix"] + name, tuple(shape)))
        value = value * scaled[name] if name in scaled else value
        value = torch.full_like(value, constants[name]) if name in constants else value
        weights[name] = value
    # Parameters are shared between trackers and replaced by whoever changes them; batch norm writes into its buffers.
    buffers = {name for name, _ in tracker.network.named_buffers()}
    weights = {name: value.clone() if name in buffers else value for name, value in weights.items()}
    tracker.network.load_state_dict(weights, strict=True, assign=True)
    return tracker.eval()


@lru_cache(maxsize=400)
def _parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return load("rule").parameter(name, shape)


def gated_groups(tracker: OSTrack) -> list[Group]:
    """The groups that have gates in the reference: attention, then MLP, both block by block."""
    return [g for kind in ("attention", "mlp") for g in tracker.network.groups() if g.kind == kind]


def gate_values(case: Case, groups: list[Group], fill: str, scale: Mapping[str, float]) -> Tensor:
    """The case's gates, flat, in the order of `groups`. `fill` is "abs" or "signed"."""
    about, values = case.about["checkpoint"], []
    for group in groups:
        name = f"{group.name}.zeta"
        gate = load("rule").array(about["prefix"] + name, tuple(about["entries"][name])).flatten()
        values.append((np.abs(gate) if fill == "abs" else gate) * np.float32(scale.get(name, 1)))
    return torch.from_numpy(np.concatenate(values))


def masks(case: Case, name: str) -> dict[str, np.ndarray]:
    """The stored keep masks "attention" and "mlp", (layers, units) bool, of "<gate set>/<method>_<budget>"."""
    short = {"attention": "attn", "mlp": "mlp"}
    return {kind: np.unpackbits(case.stored[f"{name}/{s}_mask"], axis=-1) > 0 for kind, s in short.items()}


def plan_of(case: Case, name: str, groups: list[Group]) -> Plan:
    """The plan that keeps what the stored masks keep."""
    rows = [row for mask in masks(case, name).values() for row in mask]
    return Plan({g.name: tuple(np.flatnonzero(row).tolist()) for g, row in zip(groups, rows, strict=True)})


def pictures(case: Case, crop: str) -> Tensor:
    """The case's "template" or "search" crops: (B, 3, S, S) uint8."""
    about = case.about["inputs"][crop]
    images = [load("rule").image(name, tuple(about["shape"])) for name in about["names"]]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def crops(case: Case) -> tuple[Tensor, Tensor]:
    """The normalised template and search crops."""
    return OSTrack.normalise(pictures(case, "template")), OSTrack.normalise(pictures(case, "search"))


def batch(case: Case) -> dict[str, Tensor]:
    """The training batch of the case."""
    boxes = torch.tensor(case.about["inputs"]["search_anno"]["values"])
    return {
        "template": pictures(case, "template")[:, None],
        "search": pictures(case, "search")[:, None],
        "search_box": boxes[:, None],
    }


@contextmanager
def watched(tracker: OSTrack) -> Iterator[dict[str, Any]]:
    """Collects what a forward pass computes on its way.

    `tokens`: the token matrix at the input of each block and at the output of the last one; `kept`: the candidates
    that are alive after each elimination; `features` after the norm; `maps`.
    """
    seen: dict[str, Any] = {"tokens": [], "kept": []}
    backbone = tracker.network.backbone

    def enters(module: nn.Module, inputs: tuple[Tensor]) -> None:
        seen["tokens"].append(inputs[0].detach())

    def chosen(*given: Any) -> Tensor:
        stay = best_candidates(*given)
        seen["kept"].append(stay if not seen["kept"] else seen["kept"][-1].gather(1, stay))
        return stay

    # A branch that was pruned away has no norm left, but still one place where its input enters.
    hooks = [norm.register_forward_pre_hook(enters) for norm in (*(b.norm1 for b in backbone.blocks), backbone.norm)]
    hooks.append(backbone.register_forward_hook(lambda *io: seen.update(features=io[2].detach())))
    hooks.append(backbone.norm.register_forward_hook(lambda *io: seen.update(normed=io[2].detach())))
    hooks.append(tracker.network.box_head.register_forward_hook(lambda *io: seen.update(maps=io[2])))
    try:
        with mock.patch("trackers.ostrack.backbone.best_candidates", chosen):
            yield seen
    finally:
        for hook in hooks:
            hook.remove()


def kept(seen: Mapping[str, Any]) -> dict[str, Tensor]:
    """The candidates that are alive after each elimination, by the reference's names."""
    return {f"kept_{i}": alive for i, alive in enumerate(seen["kept"], start=1)}


def block_norms(tokens: list[Tensor]) -> Tensor:
    """L2 norm of each sample's token matrix, (B, len(tokens))."""
    return torch.stack([t.double().flatten(1).norm(dim=1) for t in tokens], 1)
