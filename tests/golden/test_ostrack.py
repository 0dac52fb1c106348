"""OSTrack against the original implementation: crops, network, losses, gates, counts, tracking."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trackers.online
from pruning.budget import RemovalRules, fit_plan
from pruning.budget.ranking import quantile_ranks
from pruning.callback import PruningCallback
from pruning.cost import ParamCost, UnitCost, count_macs
from pruning.criteria import Slim
from pruning.gates import Gates
from pruning.plan import Plan
from pruning.schedules import Cubic
from pruning.surgery import compact
from trackers.base import Online
from trackers.crops import CropSpec
from trackers.losses import gaussian_heatmap
from trackers.online import OnlineTracker, clip_box
from trackers.ostrack import OSTrack
from trackers.ostrack.elimination import Elimination, scoring_token
from trackers.ostrack.head import best_box
from trackers.ostrack.initialisation import resize_position_embedding

from .cases import Case, check_kind, each, load
from .online import says
from .ostrack import (
    RECIPE,
    batch,
    block_norms,
    build,
    crops,
    elimination,
    empty_tracker,
    gate_values,
    gated_groups,
    kept,
    plan_of,
    watched,
)

KINDS = ("crop", "forward", "loss", "pos_embed", "slim", "sparsity", "track")
MAPS = ("score_map", "size_map", "offset_map")
OF_NETWORKS = ("block_norm", "pred_boxes", *MAPS, "kept_1", "kept_2", "kept_3")
OF_MASKS = tuple(f"{short}_{what}" for short in ("attn", "mlp") for what in ("threshold", "count", "mask"))


@each("ostrack")
def test_every_kind_of_case_is_known(case: Case) -> None:
    check_kind(case, KINDS)


# Geometry


def groups_of_crops(case: Case) -> Iterator[tuple[str, str]]:
    for name, value in case.about["inputs"].items():
        if "output" in value:
            yield name, name


@each("ostrack", "crop", by=groups_of_crops)
def test_crops_and_their_padding_are_byte_equal(case: Case, part: str) -> None:
    about = case.about["inputs"]
    frame, asked = load("rule").image(about["frame"]["name"], tuple(about["frame"]["shape"])), about[part]
    specs = [CropSpec(asked["output"], factor, compat="reference") for factor in asked["factors"]]
    crops = [spec.tracking_crop(frame, box) for box, spec in zip(asked["boxes"], specs, strict=True)]
    masks = [rows[:, None] | columns for _, (rows, columns), _ in crops]
    factors = [asked["output"] / crop.window.side for crop in crops]
    mine = {"crop": np.stack([c.picture for c in crops]), "resize_factor": factors, "padding": np.stack(masks)}
    case.agrees(mine, f"{part}/")


@each("ostrack", "crop")
def test_boxes_move_into_the_crop(case: Case) -> None:
    about, mine = case.about["inputs"]["to_crop"], []
    for box, around, resize in zip(about["box"], about["extract"], about["resize_factor"], strict=True):
        # A window of the side that the resize factor means, whatever the factor was that made it.
        factor = (round(about["crop"] / resize) - 0.5) / (around[2] * around[3]) ** 0.5
        spec = CropSpec(about["crop"], factor, compat="reference")
        mine.append(spec.training_window((64, 64, 3), around).boxes.relative(box))
    case.agrees_on("to_crop", mine)


@each("ostrack", "crop")
def test_results_move_back_into_the_frame(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    about, before_clipping, final = case.about["inputs"]["back"], [], []
    monkeypatch.setattr(
        trackers.online, "clip_box", lambda box, *rest: before_clipping.append(box) or clip_box(box, *rest)
    )
    frame = np.zeros((*about["frame"], 3), np.uint8)
    for state, predicted, resize in zip(about["state"], about["pred"], about["resize_factor"], strict=True):
        size = about["search_size"]
        # A window of the side that the resize factor means, whatever the factor was that made it.
        factor = (round(size / resize) - 0.5) / (state[2] * state[3]) ** 0.5
        online = OnlineTracker(says([v * resize / size for v in predicted], CropSpec(size, factor)))
        online.init(frame, tuple(state))
        final.append(online.update(frame)[0])
    case.agrees_on("mapped_back", before_clipping)
    case.agrees_on("clipped", final)


def windows(case: Case) -> Iterator[tuple[str, int]]:
    for name in case.stored:
        if found := re.fullmatch(r"hann_(\d+)", name):
            yield name, int(found[1])


@each("ostrack", "crop", by=windows)
def test_window_is_the_same(case: Case, part: int) -> None:
    sizes = {"embed_dim": 3, "num_heads": 1, "depth": 1}
    loss = {"focal": 1, "giou": 1, "l1": 1, "cells": "best"}
    crop_specs = CropSpec(16, 2.0), CropSpec(16 * part, 4.0)
    tracker = OSTrack(*crop_specs, "vit_tiny_patch16_224", sizes, None, [4], loss, RECIPE, Online(10.0, 0.0))
    case.agrees_on(f"hann_{part}", tracker.graphs()["search"].module.window)


@each("ostrack", "crop")
def test_scoring_template_token_is_the_same(case: Case) -> None:
    case.agrees_on("template_index", [scoring_token(side // 16) for side in (128, 192)])


@each("ostrack", "pos_embed")
def test_position_embeddings_are_resized(case: Case) -> None:
    about = case.about["inputs"]["pos_embed"]
    embedding = torch.from_numpy(load("rule").array(about["name"], tuple(about["shape"])))
    for crop_name, name in (("TEMPLATE", "pos_embed_z"), ("SEARCH", "pos_embed_x")):
        grid = case.config[f"DATA.{crop_name}.SIZE"] // case.config["MODEL.BACKBONE.STRIDE"]
        resized = resize_position_embedding(embedding, grid)
        case.agrees_on(name, resized[0, :, : case.about["channels"]])


# Network


@each("ostrack", "forward")
def test_forward_is_the_same(case: Case) -> None:
    tracker = build(case)
    case.agrees(run(tracker, case))


@torch.inference_mode()
def run(tracker: OSTrack, case: Case) -> dict[str, Any]:
    """All arrays that the reference stores of a forward pass."""
    with watched(tracker) as seen:
        maps = tracker.network(*crops(case))
    first, mean = seen["normed"][:, 0], seen["features"].mean(1)
    return {
        **{name: maps[name] for name in MAPS},
        "pred_boxes": best_box(maps, maps["score_map"])[0],
        "block_norm": block_norms(seen["tokens"]),
        "feature_sample": torch.stack([first, mean], 1)[..., :8],
        **kept(seen),
    }


# Losses


def variants(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    for variant in case.about["variants"]:
        yield variant["name"], variant


@pytest.mark.slow
@each("ostrack", "loss", by=variants)
def test_losses_and_gradients_are_the_same(case: Case, part: dict[str, Any]) -> None:
    tracker = in_training(build(case), part)
    losses, mine = backward(tracker, case)
    gradients = {name: p.grad for name, p in tracker.network.named_parameters()}
    mine["total"] = losses["total"].detach()
    mine |= norms(gradients, case.about["gradient_of"])
    case.agrees(mine, f"{part['name']}/")


@each("ostrack", "loss", "sparsity")
def test_heatmaps_are_the_same(case: Case) -> None:
    boxes = torch.tensor(case.about["inputs"]["search_anno"]["values"])
    case.agrees_on("heatmap", gaussian_heatmap(boxes, case.config["DATA.SEARCH.SIZE"] // 16))


def schedules(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    if "keep_rate" in case.about:
        yield "keep_rate", case.about["keep_rate"]


@each("ostrack", "loss", by=schedules)
def test_keep_rate_is_scheduled(case: Case, part: dict[str, Any]) -> None:
    rates = [
        [
            replace(elimination(case.config), start_epoch=start, warmup_epochs=warmup).training_share(epoch)
            for epoch in part["epochs"]
        ]
        for start, warmup in part["start_warm"]
    ]
    case.agrees_on("keep_rate", rates)


def in_training(tracker: OSTrack, variant: dict[str, Any]) -> OSTrack:
    """The tracker at the variant's epoch."""
    with mock.patch.object(OSTrack, "current_epoch", variant["epoch"] - 1):
        tracker.on_train_batch_start()
    return tracker.train(variant["mode"] == "train")


def backward(tracker: OSTrack, case: Case) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The losses, whose total was differentiated, and what is stored of the forward pass."""
    with watched(tracker) as seen:
        losses = tracker.losses(batch(case))
    losses["total"].backward()
    mine = {name: losses[name].detach() for name in ("giou", "l1", "focal", "iou")}
    mine["pred_boxes"] = best_box(seen["maps"], seen["maps"]["score_map"])[0].detach()
    return losses, mine | kept(seen)


def norms(gradients: dict[str, Tensor], names: list[str]) -> dict[str, Any]:
    return {
        "grad_norm": [float(gradients[name].norm()) for name in names],
        "grad_norm_all": float(torch.stack([g.double().norm() for g in gradients.values()]).norm()),
    }


# Gates: the l1 penalty and the sparsity stage


# What the callback asks of a trainer: one step, on one device.
ALONE = SimpleNamespace(
    estimated_stepping_batches=1,
    strategy=SimpleNamespace(reduce=lambda gradient, reduce_op: gradient),
    precision_plugin=SimpleNamespace(),
)


def sparsity_stage(case: Case, tracker: OSTrack, fill: str) -> tuple[PruningCallback, list[Tensor]]:
    """The pruning callback at its first step, holding the case's gates, and where it leaves the gates' gradient."""
    weights = {"attention": case.config["TRAIN.w1"], "mlp": case.config["TRAIN.w2"]}
    stage = PruningCallback(ratio=0.5, criterion=Slim(weights), schedule=Cubic(), kinds=list(weights))
    module = SimpleNamespace(network=tracker.network, groups=lambda: gated_groups(tracker))
    stage.on_fit_start(ALONE, module)
    stage.gates.values.data = gate_values(case, stage.gates.groups, fill, {})
    stage.gates.fold()
    gradients: list[Tensor] = []
    stage.criterion.optimizer.step = lambda: gradients.append(stage.gates.values.grad.clone())
    return stage, gradients


def penalties(case: Case) -> Iterator[tuple[str, str]]:
    for fill in ("abs", "signed"):
        if case.under(f"{fill}/"):
            yield fill, fill


@each("ostrack", "sparsity", by=penalties)
def test_penalty_on_gates_is_the_same(case: Case, part: str) -> None:
    stage, gradients = sparsity_stage(case, build(case), part)
    size = stage.gates.values.abs().detach()
    kind = torch.tensor([g.kind == "attention" for g in stage.gates.groups for _ in range(g.size)])
    stage.on_before_optimizer_step(ALONE, None)
    of_attention, of_mlp = gradients[0][kind], gradients[0][~kind]
    layers = len(stage.gates.groups) // 2
    mine = {
        "attn_l1": size[kind].sum(),
        "mlp_l1": size[~kind].sum(),
        "penalty": (stage.criterion.weights * size).sum(),
        "attn_grad": of_attention.view(layers, -1),
        "mlp_grad": of_mlp.view(layers, -1),
    }
    case.agrees(mine, f"{part}/")


@pytest.mark.slow
@each("ostrack", "sparsity", by=variants)
def test_sparsity_step_has_the_same_gradients(case: Case, part: dict[str, Any]) -> None:
    tracker = in_training(build(case), part)
    stage, gate_gradients = sparsity_stage(case, tracker, case.about["checkpoint"]["gates"])
    losses, mine = backward(tracker, case)
    mine["total"] = losses["total"].detach() + (stage.criterion.weights * stage.gates.values.detach().abs()).sum()
    stage.on_before_optimizer_step(ALONE, None)
    gradients = {name: p.grad for name, p in tracker.network.named_parameters()}
    gradients |= {f"{name}.zeta": g for name, g in stage.gates.split(gate_gradients[0]).items()}
    mine |= norms(gradients, case.about["gradient_of"])
    case.agrees(mine, f"{part['name']}/")


# Masks, and what is left


@dataclass(frozen=True)
class Cut:
    """One gate set, and how it is thresholded: "naive" or "layerwise" to a budget, or not at all ("search")."""

    gates: dict[str, Any]
    method: str
    budget: float

    @property
    def name(self) -> str:
        """Where the reference stores it."""
        return f"{self.gates['name']}/{self.method}" + (f"_{self.budget}" if self.method != "search" else "")

    @staticmethod
    def all(case: Case, what: str) -> Iterator[tuple[str, "Cut"]]:
        """Those with stored "masks" or a stored "forward" pass."""
        for gates in case.about["gate_sets"]:
            for method, budget in gates[what]:
                cut = Cut(gates, method, budget)
                yield cut.name, cut


def with_gates(case: Case, tracker: OSTrack, cut: Cut) -> Gates:
    gates = Gates(tracker.network, gated_groups(tracker))
    fill = case.about["checkpoint"]["gates"]
    gates.values.data = gate_values(case, gates.groups, fill, cut.gates["scale"])
    return gates


@each("ostrack", "slim", by=lambda case: Cut.all(case, "masks"))
def test_masks_are_the_same(case: Case, part: Cut) -> None:
    gates, mine = with_gates(case, build(case), part), {}
    scores = Slim()(gates)
    for kind, short in (("attention", "attn"), ("mlp", "mlp")):
        pool = [g for g in gates.groups if g.kind == kind]
        places = quantile_ranks(scores, pool, {"default": {"naive": "kind", "layerwise": "layer"}[part.method]})
        # The reference rounds the number of kept units up where we round down: ask for the number it stores.
        asked = int(case.stored[f"{part.name}/{short}_count"].sum()) + 0.5
        share = min(1, asked / sum(g.size for g in pool))
        plan = fit_plan(pool, places, UnitCost(gates.network, pool), share, RemovalRules(floor=0))
        keep = np.array([np.isin(range(g.size), plan.units(g)) for g in pool])
        values = torch.stack([scores[g.name] for g in pool]).where(torch.from_numpy(keep), torch.inf)
        mine[f"{short}_threshold"] = values.amin() if part.method == "naive" else values.amin(1)
        mine[f"{short}_count"] = keep.sum(1)
        mine[f"{short}_mask"] = np.packbits(keep, axis=-1)
    case.agrees(mine, f"{part.name}/", unchecked=OF_NETWORKS)


@pytest.mark.slow
@each("ostrack", "slim", by=lambda case: Cut.all(case, "forward"))
def test_gated_and_cut_networks_compute_the_same(case: Case, part: Cut) -> None:
    mine = run(gated_or_cut(case, part), case)
    del mine["feature_sample"]
    case.agrees(mine, f"{part.name}/", unchecked=OF_MASKS)


def gated_or_cut(case: Case, cut: Cut) -> OSTrack:
    """The tracker with its gates in the weights, or cut to the stored masks."""
    tracker = build(case)
    if cut.method == "search":
        with_gates(case, tracker, cut).fold()
    else:
        groups = gated_groups(tracker)
        compact(tracker.network, groups, plan_of(case, cut.name, groups))
    return tracker


def count_rows(case: Case) -> Iterator[tuple[str, tuple[int, str]]]:
    for i, name in enumerate(case.about["count_rows"]):
        yield name, (i, name)


@pytest.mark.slow
@each("ostrack", "slim", by=count_rows)
def test_parameters_and_macs_are_the_same(case: Case, part: tuple[int, str]) -> None:
    row, name = part
    tracker = empty_tracker(case.config)
    network, groups = tracker.network, gated_groups(tracker)
    stored = dict(zip(case.about["count_columns"], case.stored["counts"][row].tolist(), strict=True))
    plan = Plan() if name == "dense" else plan_of(case, name, groups)
    kept_units = [len(plan.units(g)) for g in groups]
    # The reference counts the norm in front of an empty branch, which has no effect and vanishes here.
    idle = 2 * network.backbone.width * kept_units.count(0)
    assert ParamCost(network, groups)(kept_units) == stored["parameters"] - idle
    compact(network, groups, plan)
    assert sum(p.numel() for p in network.parameters()) == stored["parameters"] - idle
    check_macs(network, tracker, stored)


def check_macs(network: nn.Module, tracker: OSTrack, stored: dict[str, float]) -> None:
    """With and without elimination, after taking out what we run besides the reference's formula."""
    backbone, attentions = network.backbone, [block.attn for block in network.backbone.blocks]
    for name, eliminating in (("macs_elimination", Elimination([3, 6, 9], [0.7] * 3, 0, 0)), ("macs_dense", None)):
        backbone.elimination = eliminating
        macs = count_macs(network, tracker.example_inputs()).total
        tokens = tokens_entering(backbone)
        # One row of the map ranks the candidates; it is counted, as fused attention keeps the map to itself.
        if eliminating is not None:
            macs -= sum(tokens[i] * sum(attentions[i].widths) for i in eliminating.blocks)
        assert macs == stored[name]
        products = sum(2 * n * n * sum(a.widths) for a, n in zip(attentions, tokens, strict=True))
        assert macs - products == stored[f"{name}_linear"]


def tokens_entering(backbone: nn.Module) -> list[int]:
    """The number of tokens at the input of each block."""
    template, search = backbone.pos_embed_z.shape[1], backbone.pos_embed_x.shape[1]
    counts = []
    for share in backbone.shares():
        counts.append(template + search)
        search = math.ceil(share * search)
    return counts


# Tracking


@pytest.mark.slow
@each("ostrack", "track")
def test_tracker_follows_the_same_path(case: Case) -> None:
    tracker, about = build(case), case.about["inputs"]
    online = OnlineTracker(tracker)
    frames = video(about)
    online.init(next(frames), tuple(about["init_box"]))
    boxes, responses, cells = [], [], []
    for frame in frames:
        with watched(tracker) as seen:
            box, response = online.update(frame)
        boxes.append(box)
        responses.append(response)
        cells.append(int((seen["maps"]["score_map"] * online.loop.runtime.modules["search"].window).argmax()))
    case.agrees({"boxes": boxes, "response": responses, "cell": cells})


def video(about: dict[str, Any]) -> Iterator[np.ndarray]:
    """A patch that jumps over a still background."""
    rule, patch = load("rule"), about["patch"]
    background = rule.image(about["background"]["name"], tuple(about["background"]["shape"]))
    height, width, _ = patch["shape"]
    for x, y in patch["top_left"]:
        frame = background.copy()
        frame[y : y + height, x : x + width] = 255 - rule.image(patch["name"], tuple(patch["shape"]))
        yield frame
