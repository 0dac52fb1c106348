"""STARK against the original implementation: crops, network, losses, tracking, gates, slimmed backbone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trackers.online
from pruning.budget import RemovalRules, fit_plan
from pruning.budget.ranking import quantile_ranks
from pruning.cost import ParamCost, Polynomial, Term, UnitCost, count_macs, count_params
from pruning.cost.tracing import AffineSize
from pruning.criteria import NetworkSlimming, Slim
from pruning.criteria.chipnet import ChipNet, Hardening, Sharpness, heaviside, logistic, remaining_cost, smooth_round
from pruning.gates import Gates
from pruning.groups import Group, Slice
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.checkpoints.gate_reading import GateReading
from trackers.crops import CropSpec, Window
from trackers.layers.backbones import ResNet
from trackers.online import OnlineTracker, clip_box
from trackers.rules import Box, Crop, OnlineRules
from trackers.stark import STARK
from trackers.stark.official import convert
from trackers.stark.transformer import Transformer

from .cases import Case, check_kind, each, load
from .compare import agrees, fits
from .online import says
from .stark import (
    BACKBONE,
    batch,
    build,
    build_backbone,
    build_transformer,
    described,
    fork_weights,
    gated_groups,
    merged,
    official_weights,
    our_names,
    packed,
    picture,
    run_transformer,
    units_kept,
    unpacked,
    video,
    without_weights,
)

CHIPNET = ("chipnet_gates", "chipnet_schedule", "chipnet_budget")
KINDS = ("crop", "forward", "loss", "network_slimming", "slim", "track", *CHIPNET)
# What each test of a large case compares; together, all that is stored.
OF_PARENT, OF_SOFT = ("*_parent",), ("*_soft",)
OF_PENALTY, OF_MASKS, OF_PARAMS = ("l1", "l1_fork_split"), ("kept_*", "count_*"), ("params_*",)
OF_DENSE, OF_SUBGRADIENT, OF_CHOICE = ("feature*_full",), ("grad_*", "penalty"), ("threshold", "count", "kept_*")
OF_NARROW = ("params", "macs", *(f"feature{norm}_0.*" for norm in ("", "_norm")))
OF_CUT = tuple(f"{what}_{pool}_*" for what in ("memory", "decoder") for pool in ("global", "stack", "layer"))
OF_CHIPNET_SOFT = ("soft_volume", "budget_loss", "crispness", "grad_*")
OF_CHIPNET_KEPT = ("hard_threshold", "hard_kept", "hard_remaining", "final_threshold", "final_kept", "final_ratios")
CHECKED = {
    "chipnet_budget": (*OF_CHIPNET_SOFT, *OF_CHIPNET_KEPT),
    "slim": (*OF_PARENT, *OF_SOFT, *OF_PENALTY, *OF_MASKS, *OF_PARAMS, *OF_CUT),
    "network_slimming": (*OF_DENSE, *OF_SUBGRADIENT, *OF_CHOICE, *OF_NARROW),
}


@each("stark")
def test_every_kind_of_case_is_known(case: Case) -> None:
    check_kind(case, KINDS)


@each("stark", *CHECKED)
def test_every_array_is_compared(case: Case) -> None:
    assert [name for name in case.stored if not fits(name, CHECKED[case.kind])] == []


@each("stark", "forward", "loss", "track")
def test_official_weights_say_their_sizes(case: Case) -> None:
    recipe = convert(without_weights(case), None).recipe
    assert merged(recipe, described(case)) == recipe


# Geometry


@each("stark", "crop")
def test_crops_and_the_way_back_are_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    about, mine, mapped, clipped = case.about["inputs"], {}, [], []
    monkeypatch.setattr(trackers.online, "clip_box", lambda box, *rest: mapped.append(box) or clip_box(box, *rest))
    frame = load("rule").image(about["image"], tuple(about["image_shape"]))
    resizes, inside = [], []
    for i, asked in enumerate(about["crops"]):
        spec = CropSpec(asked["size"], asked["factor"], compat="reference")
        pixels, (rows, columns), window = spec.tracking_crop(frame, asked["box"])
        mask = rows[:, None] | columns
        mine |= {
            f"crop{i}": pixels[:: asked["stride"], :: asked["stride"]],
            f"mean{i}": pixels.mean((0, 1)),
            f"mask{i}": np.packbits(mask, axis=1),
            f"tokens{i}": np.packbits(mask[::16, ::16], axis=1),
        }
        resizes.append(asked["size"] / window.side)
        inside.append(spec.training_window(frame.shape, asked["box"]).boxes.relative(asked["gt"]))
        online = OnlineTracker(says(asked["pred"], spec, case.config["clip_margin"]))
        online.init(frame, tuple(asked["box"]))
        clipped.append(online.update(frame)[0])
    agrees(case, mine | {"resize_factor": resizes, "gt_in_crop": inside, "mapped": mapped, "clipped": clipped})


# Network


@each("stark", "forward")
@torch.inference_mode()
def test_forward_is_the_same(case: Case) -> None:
    tracker, seen = build(case), {}
    tracker.network.transformer.register_forward_hook(lambda module, given, out: seen.update(given=given, out=out))
    crops = batch(case, tracker)
    found = tracker.network(
        tracker.normalise(crops["search"][:, 0]),
        tracker.normalise(crops["template"]),
        search_padding=crops["search_padding"][:, 0],
        template_padding=crops["template_padding"],
    )
    (features, position, mask, *_), (memory, decoder) = seen["given"], seen["out"]
    tokens = case.about["stored_tokens"]
    mine = {
        "pred_boxes": found["boxes"],
        "prob_tl": found["corners"][:, 0].exp(),
        "prob_br": found["corners"][:, 1].exp(),
        "decoder": decoder[:, 0],
        "feat": features[:, tokens],
        "pos": position[:, tokens],
        "memory": memory[:, tokens],
        "mask": np.packbits(mask, axis=1),
    }
    agrees(case, mine | ({"cls_logit": found["class_logit"]} if case.config["model"]["cls_head"] else {}))


# Losses


@pytest.mark.slow
@each("stark", "loss")
def test_losses_and_gradients_are_the_same(case: Case) -> None:
    about = case.about["loss"]
    tracker, names = in_training(case), our_names(case)
    boxes, present, found = torch.tensor(about["gt_xywh"]), torch.tensor(about.get("label", [1.0])), {}
    given = batch(case, tracker) | {"search_box": boxes[:, None].double(), "present": present[:, None].double()}
    tracker.network.register_forward_hook(lambda module, inputs, out: found.update(out))
    losses = tracker.losses(given)
    losses["total"].backward()
    if tracker.objective == "class":
        mine = {"cls_logit": found["class_logit"].detach(), "loss_cls": losses["class"].detach()}
    else:
        ours = {"loss_total": "total", "loss_giou": "giou", "loss_l1": "l1", "iou_mean": "iou"}
        mine = {theirs: losses[name].detach() for theirs, name in ours.items()}
        mine["pred_boxes"] = found["boxes"].detach()
    parameters = dict(tracker.network.named_parameters())
    trained = [p for p in parameters.values() if p.requires_grad]
    mine |= {
        # Where the original has gradients of q, k and v, those of a single token's q and k are zero; we have v alone.
        "grad_norm": [gradient_norm(parameters[names[name]]) for name in about["gradients"]],
        "grad_norm_total": np.linalg.norm([gradient_norm(p) for p in trained]),
        "trainable_count": len(trained),
        "trainable_parameters": sum(p.numel() for p in trained) + dead_parameters(case, tracker),
    }
    if "running" in about:
        buffers = dict(tracker.network.named_buffers())
        mine["running"] = [float(buffers[names[name]].norm()) for name in about["running"]]
    agrees(case, mine)


def gradient_norm(p: nn.Parameter) -> float:
    """0 without a gradient: the class head is trained with the rest, but has no part in the loss of boxes."""
    return 0.0 if p.grad is None else float(p.grad.norm())


def in_training(case: Case) -> STARK:
    """The case's tracker in its stage and mode."""
    about = case.about["loss"]
    weights = {"class" if name == "cls" else name: weight for name, weight in about["weights"].items()}
    tracker = build(
        case,
        {
            "objective": {1: "box", 2: "class"}[about["stage"]],
            "loss": weights,
            "transformer": {"dropout": 0.0} if about["mode"] == "train" else {},
        },
    )
    tracker.setup("fit")
    # In single precision, ReLUs whose input lies within rounding of 0 make gradients jump by up to 1e-3, see the README
    # of the vectors: which of them do depends on the machine and its threads.
    tracker.double().normalise = lambda pixels: STARK.normalise(pixels).double()
    return tracker.train({"train": True, "eval": False}[about["mode"]])


def dead_parameters(case: Case, tracker: STARK) -> int:
    """What the original trains in vain: q and k of the decoder's self-attentions, which have one token only."""
    width, layers = (case.config["model"][name] for name in ("hidden_dim", "decoder_layers"))
    return 0 if tracker.objective == "class" else layers * 2 * (width * width + width)


# Tracking


@pytest.mark.slow
@each("stark", "track")
def test_tracker_follows_the_same_path(case: Case) -> None:
    tracker, about = tracking(case), case.about["inputs"]
    online, frames, mine = OnlineTracker(tracker), video(about["video"]), []
    online.init(next(frames), tuple(about["init_box"]))
    for frame in frames:
        templates = online.target.memory.templates
        with watched(tracker) as seen:
            box, score = online.update(frame)
        mine.append({"boxes": box, "pred_boxes": seen["boxes"][0], "search_crop_side": seen["side"]})
        if "class_logit" in seen:
            updated = online.target.memory.templates[-1] is not templates[-1]
            mine[-1] |= {"conf": score, "cls_logit": seen["class_logit"][0], "updated": updated}
    agrees(case, {name: np.array([frame[name] for frame in mine]) for name in mine[0]})


def tracking(case: Case) -> STARK:
    """The case's tracker with its settings of the online loop."""
    settings = ("update_interval", "update_threshold")
    given = {name: case.config[name] for name in settings if name in case.config}
    return build(case, {"online": {"min_size": case.config["clip_margin"], **given}})


@contextmanager
def watched(tracker: STARK) -> Iterator[dict[str, Any]]:
    """Collects the network's outputs, and the side of the search window in picture pixels."""
    seen: dict[str, Any] = {}
    locate, crop = tracker.network.locate, OnlineRules.crop

    def locates(*given: Any) -> dict[str, Tensor]:
        seen.update(locate(*given))
        return seen

    def crops(image: np.ndarray, box: Box, spec: CropSpec) -> tuple[Crop, Window]:
        cropped, window = crop(image, box, spec)
        if spec is tracker.search:
            seen["side"] = round(window.side)
        return cropped, window

    with (
        mock.patch.object(tracker.network, "locate", locates),
        mock.patch.object(OnlineRules, "crop", staticmethod(crops)),
    ):
        yield seen


# Gates of the transformer


@each("stark", "slim")
def test_transformer_is_the_same(case: Case) -> None:
    transformer, _ = build_transformer(case, official_weights(case))
    agrees(case, run_transformer(case, transformer, "parent"), *OF_PARENT)


@each("stark", "slim")
def test_gated_transformer_is_the_same(case: Case) -> None:
    gates = with_gates(case)
    with gates.folded():
        agrees(case, run_transformer(case, gates.network, "soft"), *OF_SOFT)


def with_gates(case: Case) -> Gates:
    """The transformer of the fork's file, and its gates."""
    transformer, values = build_transformer(case, fork_weights(case))
    gates = Gates(transformer, gated_groups(transformer, values))
    gates.values.data = torch.cat(list(values.values()))
    return gates


@each("stark", "slim")
def test_penalties_on_gates_are_the_same(case: Case) -> None:
    gates = with_gates(case)
    size = {name: float(v.double().sum()) for name, v in Slim()(gates).items()}
    kinds = ("attention", "mlp", "attention_decoder", "mlp_decoder")
    mine = [sum(size[g.name] for g in gates.groups if g.kind == kind) for kind in kinds]
    # The fork takes the first six modules of attention, and of MLPs, for those of the encoder, whatever its depth.
    both = [[size[g.name] for g in gates.groups if g.kind.startswith(kind)] for kind in kinds[:2]]
    fork = [sum(part) for split in (slice(6), slice(6, None)) for part in (sizes[split] for sizes in both)]
    agrees(case, {"l1": mine, "l1_fork_split": fork}, *OF_PENALTY)


SCOPES = {"global": "global", "stack": "kind", "layer": "layer"}  # the reference's pools, and ours


def pools(case: Case) -> list[str]:
    """Returns the reference's pools whose masks the case stores."""
    stored = {name.split("_")[1] for name in case.stored if name.startswith("kept_")}
    assert stored, "the case stores no masks"
    assert stored <= SCOPES.keys(), f"no test knows the pools {sorted(stored - SCOPES.keys())}"
    return [pool for pool in SCOPES if pool in stored]


@each("stark", "slim")
def test_masks_are_the_same(case: Case) -> None:
    gates, mine = with_gates(case), {}
    for pool in pools(case):
        plans = [chosen(gates, pool, budget) for budget in case.config["budgets"]]
        mine |= {
            f"kept_{pool}_{budget}": packed(plan, gates.groups)
            for budget, plan in zip(case.config["budgets"], plans, strict=True)
        }
        mine[f"count_{pool}"] = [[len(plan.units(g)) for g in gates.groups] for plan in plans]
    agrees(case, mine, *OF_MASKS)


def chosen(gates: Gates, pool: str, budget: float) -> Plan:
    """What is left of a budget: of attention and of MLPs, in encoder and decoder together or apart."""
    scores, kept = Slim()(gates), {}
    by_kind: dict[str, list[Group]] = {}
    for group in gates.groups:
        kind = group.kind.removesuffix("_decoder") if pool == "global" else group.kind
        by_kind.setdefault(kind, []).append(group)
    for groups in by_kind.values():
        places = quantile_ranks(scores, groups, {"default": SCOPES[pool]})
        units, shares = sum(g.size for g in groups), len(groups) if pool == "layer" else 1
        # The reference rounds the number of kept units up where we round down: ask for its number.
        asked = shares * units_kept(budget, units // shares) + 0.5
        cost = UnitCost(gates.network, groups)
        kept |= fit_plan(groups, places, cost, min(1, asked / units), RemovalRules(floor=0)).kept
    return Plan(kept)


@each("stark", "slim")
def test_files_with_gates_are_cut_to_a_budget_the_same(case: Case) -> None:
    for pool in pools(case):
        scope = SCOPES[pool]
        for budget in case.config["budgets"] if pool != "global" else ():  # the shipped networks have no global pool
            transformer, gates = build_transformer(case, fork_weights(case))
            groups = gated_groups(transformer, gates)
            plan = GateReading(budget, scope).apply(transformer, transformer.groups(), gates)
            assert (packed(plan, groups) == case.stored[f"kept_{pool}_{budget}"]).all()


@each("stark", "slim")
def test_cut_transformers_have_as_many_parameters(case: Case) -> None:
    mine = {f"params_{pool}": [cut_size(case, pool, b) for b in case.config["budgets"]] for pool in pools(case)}
    agrees(case, mine, *OF_PARAMS)


def cut_size(case: Case, pool: str, budget: float) -> int:
    """Parameters of the transformer that is left, and those of q and k that the original has left, too."""
    transformer, groups, plan = cut(case, pool, budget)
    width = case.config["model"]["hidden_dim"]
    single = [g for g in groups if g.kind == "attention_decoder" and g.name.endswith("self_attn")]
    return count_params(transformer) + sum(2 * (width + 1) * len(plan.units(g)) for g in single)


def cut(case: Case, pool: str, budget: float) -> tuple[Transformer, list[Group], Plan]:
    """The transformer cut to the stored masks; its groups before the cut; the plan."""
    transformer, gates = build_transformer(case, fork_weights(case))
    groups = gated_groups(transformer, gates)
    plan = unpacked(case.stored[f"kept_{pool}_{budget}"], groups)
    price = ParamCost(transformer, groups)([len(plan.units(g)) for g in groups])
    compact(transformer, groups, plan)
    assert price == count_params(transformer)
    return transformer, groups, plan


@each("stark", "slim")
def test_cut_transformers_compute_the_same_as_masked_ones(case: Case) -> None:
    mine = {}
    for pool in pools(case):
        for budget in case.config["masked_outputs_at"]:
            mine |= run_transformer(case, cut(case, pool, budget)[0], f"{pool}_{budget}")
    agrees(case, mine, *OF_CUT)


# The slimmed backbone


@each("stark", "network_slimming")
def test_backbone_is_the_same(case: Case) -> None:
    agrees(case, features(case, build_backbone(case), "full"), *OF_DENSE)


@torch.inference_mode()
def features(case: Case, backbone: ResNet, name: str) -> dict[str, Tensor]:
    found, step = backbone(picture(case))[0], case.config["stored_channel_step"]
    return {f"feature_{name}": found[::step], f"feature_norm_{name}": found.flatten(1).norm(dim=1)}


@each("stark", "network_slimming")
def test_gradients_and_penalty_of_scales_are_the_same(case: Case) -> None:
    backbone, s = build_backbone(case), case.config["s"]
    method, gates = NetworkSlimming({"default": s}), Gates(backbone, backbone.groups())
    method.start(gates, ParamCost(backbone, gates.groups), 0.5, 1)
    for frozen in (backbone.conv1, backbone.bn1, backbone.layer1):
        frozen.requires_grad_(False)
    backbone(picture(case)).square().mean().backward()
    scales = {n: p for n, p in backbone.named_parameters() if n.endswith("weight") and p.dim() == 1}
    before = {n: p.grad.clone() for n, p in scales.items() if p.grad is not None}
    method.after_step(gates)
    listed = [name.removeprefix(BACKBONE) for name in case.about["gradients"]]
    mine = {
        "grad_before": torch.cat([before[name] for name in listed]),
        "grad_after": torch.cat([scales[name].grad for name in listed]),
    }
    chosen = sum(score.double().sum() for name, score in method(gates).items() if name in inner_groups(backbone))
    penalised = sum(p.detach().double()[p.grad != before[n]].abs().sum() for n, p in scales.items() if n in before)
    agrees(case, mine | {"penalty": [float(s * pool) for pool in (chosen, penalised)]}, *OF_SUBGRADIENT)
    wanted = case.stored["grad_after"].astype(np.float64) - case.stored["grad_before"]
    assert np.abs(wanted - (mine["grad_after"] - mine["grad_before"]).numpy()).max() <= 1e-7


def inner_groups(backbone: ResNet) -> dict[str, Group]:
    """The channels inside of blocks, by name."""
    return {g.name: g for g in backbone.groups() if g.kind == "conv"}


@each("stark", "network_slimming")
def test_channels_are_chosen_the_same(case: Case) -> None:
    backbone, mine = build_backbone(case), {}
    groups = list(inner_groups(backbone).values())
    assert [f"{BACKBONE}{g.name.replace('conv', 'bn')}.weight" for g in groups] == case.about["order"]
    scores = NetworkSlimming()(Gates(backbone, groups))
    units, plans, places = sum(g.size for g in groups), [], quantile_ranks(scores, groups, {"default": "global"})
    for budget in case.config["budgets"]:
        asked = units_kept(budget, units) + 0.5  # the reference rounds up where we round down
        plans.append(fit_plan(groups, places, UnitCost(backbone, groups), asked / units, RemovalRules(floor=0)))
        mine[f"kept_{budget}"] = packed(plans[-1], groups)
    mine["count"] = [[len(plan.units(g)) for g in groups] for plan in plans]
    mine["threshold"] = [min(float(scores[g.name][list(p.units(g))].min()) for g in groups) for p in plans]
    agrees(case, mine, *OF_CHOICE)


@each("stark", "network_slimming")
def test_narrow_backbones_cost_and_compute_the_same(case: Case) -> None:
    mine: dict[str, Any] = {"params": [], "macs": []}
    for budget in case.config["budgets"]:
        backbone = build_backbone(case)
        groups = list(inner_groups(backbone).values())
        compact(backbone, groups, unpacked(case.stored[f"kept_{budget}"], groups))
        of_norms = sum(p.numel() for p in backbone.parameters() if p.dim() == 1)
        mine["params"].append([count_params(backbone) - of_norms, of_norms])
        mine["macs"].append(count_macs(backbone, {"pictures": torch.zeros(1, 3, 320, 320)}).total)
        mine |= features(case, backbone, str(budget))
    agrees(case, mine, *OF_NARROW)


# ChipNet. What it keeps for budgets in parameters and FLOPs is not compared ([:, 2:4] of what is kept): the reference
# searches crudely there, and its README leaves it out. Nor are thresholds ours: the reference's rule stands here.


@each("stark", "chipnet_gates")
def test_chipnet_gates_are_the_same(case: Case) -> None:
    about = case.about["inputs"]
    psi = torch.from_numpy(about["psi_gain"] * load("rule").array(about["psi"], (64,))).requires_grad_()
    mine: dict[str, list[Tensor]] = {name: [] for name in ("z_i", "z_t", "dz_t_dpsi", "rounded")}
    for beta, gamma in case.config["beta_gamma"]:
        z_i = logistic(psi, beta)
        z_t = heaviside(z_i, gamma)
        mine["z_i"].append(z_i)
        mine["z_t"].append(z_t)
        mine["dz_t_dpsi"].append(torch.autograd.grad(z_t.sum(), psi)[0])
        mine["rounded"].append(torch.stack([smooth_round(z_t, s) for s in case.config["steepness"]]))
    of_norm = chipnet_norm(case, psi.detach())
    agrees(case, {name: torch.stack(rows).detach() for name, rows in mine.items()} | of_norm)


def chipnet_norm(case: Case, psi: Tensor) -> dict[str, Any]:
    """What a batch norm gives with soft gates, and with those that pass the threshold."""
    norm, prefix = nn.BatchNorm2d(64).eval(), case.about["fill"]["prefix"]
    names = ("weight", "bias", "running_mean", "running_var")
    entries = {name: torch.from_numpy(load("rule").parameter(prefix + name, (64,))) for name in names}
    norm.load_state_dict(entries, strict=False)  # all but the count of batches
    slices = tuple(Slice(name, 0, gated=name in names[:2]) for name in names)
    gates = Gates(norm, [Group("bn", "conv", 64, slices)])
    x = torch.from_numpy(load("rule").array(case.about["inputs"]["x"], (2, 64, 5, 5)))
    beta, gamma = case.config["bn_beta_gamma"]
    gates.values.data = heaviside(logistic(psi, beta), gamma)
    passing = gates.values.detach() > case.config["bn_threshold"]
    with gates.folded():
        mine = {"bn_soft": norm(x)[0, :, 2].detach(), "bn_kept": passing}
    gates.values.data.fill_(1)
    gates.close(Plan({"bn": tuple(passing.nonzero().flatten().tolist())}))
    with gates.folded():
        return mine | {"bn_hard": norm(x)[0, :, 2].detach()}


@each("stark", "chipnet_schedule")
def test_chipnet_schedule_is_the_same(case: Case) -> None:
    c = case.config
    hardening = Hardening(c["epochs"], c["beta"], c["gamma"], c["steepness"], c["b_inc"], c["g_inc"])
    steps, rows = c["steps_per_epoch"], []
    for epoch in range(c["epochs"]):
        of_steps = [hardening(step / (steps * c["epochs"])) for step in range(epoch * steps, (epoch + 1) * steps + 1)]
        first, after = of_steps[0], of_steps[-1]
        assert {(s.beta, s.gamma) for s in of_steps[:-1]} == {(first.beta, first.gamma)}
        rows.append([first.beta, first.gamma, first.steepness, after.steepness, after.beta, after.gamma])
    agrees(case, {"schedule": rows})


@each("stark", "chipnet_budget")
def test_chipnet_losses_and_gradients_are_the_same(case: Case) -> None:
    mine: dict[str, list[Any]] = {n: [] for n in ("soft_volume", "budget_loss", "grad_budget")}
    of_crispness: dict[str, list[Any]] = {"crispness": [], "grad_crispness": []}
    for setting in case.config["soft_settings"]:
        by_type: dict[str, list[Any]] = {name: [] for name in mine}
        for cost in chipnet_costs(case):
            gates, method = chipnet(case, cost, Sharpness(*setting), budget=1, crispness=0)
            z_i, z_t = method.soft_gates()
            by_type["soft_volume"].append(float(remaining_cost(cost, z_t.detach(), gates.sizes, setting[2])))
            by_type["budget_loss"].append(float(method.penalty(gates, z_i, z_t).detach()))
            by_type["grad_budget"].append(chipnet_gradient(case, gates, method))
        for name, values in by_type.items():
            mine[name].append(np.stack(values))
        gates, method = chipnet(case, chipnet_costs(case)[0], Sharpness(*setting), budget=0, crispness=1)
        of_crispness["crispness"].append(float(method.penalty(gates, *method.soft_gates()).detach()))
        of_crispness["grad_crispness"].append(chipnet_gradient(case, gates, method))
    mine |= of_crispness
    agrees(case, {name: np.stack(values) for name, values in mine.items()}, *OF_CHIPNET_SOFT)


def chipnet(case: Case, cost: Polynomial, sharpness: Sharpness, **weights: float) -> tuple[Gates, ChipNet]:
    """The case's gates, on a network that has nothing else, and the method with its psi."""
    network, rule, fill = nn.ParameterList(), load("rule"), case.about["fill"]
    psi = [fill["gain"] * rule.array(fill["prefix"] + name, (size,)) for name, size in case.about["gates"].items()]
    network.extend([torch.ones(len(part)) for part in psi])
    slices = [(Slice(str(i), 0, gated=True),) for i in range(len(psi))]
    groups = [Group(f"{i}", "conv", len(psi[i]), slices[i], vanish=()) for i in range(len(psi))]
    gates, method = Gates(network, groups), ChipNet(**weights)
    method.start(gates, cost, case.config["budget"], steps=1)
    method.psi.data, method.sharpness = torch.from_numpy(np.concatenate(psi)), sharpness
    return gates, method


def chipnet_gradient(case: Case, gates: Gates, method: ChipNet) -> np.ndarray:
    """What a step takes for psi when the task has no say; of the large case, the norm by layer."""
    gates.values.grad = torch.zeros_like(gates.values)
    method.after_step(gates)
    parts = method.psi.grad.split(gates.sizes)
    return torch.cat(parts if case.config["full_gradients"] else [part.norm()[None] for part in parts]).numpy()


def chipnet_costs(case: Case) -> list[Polynomial]:
    """In channels, volume, parameters and FLOPs, of the kept gates by layer."""
    layers = case.about["layers"]
    names, terms = list(layers), [[], [], [], []]
    for i, layer in enumerate(layers.values()):
        own, area, places = AffineSize(0, ((i, 1),)), layer["area"], layer["kernel"] ** 2
        inputs = AffineSize(3) if layer["previous"] is None else AffineSize(0, ((names.index(layer["previous"]), 1),))
        terms[0].append(Term(1, (own,)))
        terms[1].append(Term(area, (own,)))
        terms[2].append(Term(places, (own, inputs)))
        terms[3] += [Term(places * area, (own, inputs)), Term(area, (own,))]
    return [Polynomial(of_type, len(names)) for of_type in terms]


@each("stark", "chipnet_budget")
def test_chipnet_keeps_the_same(case: Case) -> None:
    mine = {name: case.stored[name].copy() for name in OF_CHIPNET_KEPT}
    areas = torch.tensor([layer["area"] for layer in case.about["layers"].values()])
    plans: dict[tuple[int, ...], Plan] = {}
    for s, (beta, gamma) in enumerate(case.config["hard_settings"]):
        for t, cost in enumerate(chipnet_costs(case)[:2]):
            gates, method = chipnet(case, cost, Sharpness(beta, gamma, steepness=10))
            groups, sizes, z = gates.groups, gates.sizes, method.soft_gates()[1].detach()
            places = quantile_ranks(method(gates), groups, {"default": "global"})
            of_units = areas.repeat_interleave(torch.tensor(sizes)) if t else None
            for b, budget in enumerate(case.config["hard_budgets"]):
                hard = first_threshold(z, of_units, budget)
                for when, threshold in (("hard", hard), ("final", lowered(hard, z, sizes, cost, budget))):
                    kept = passing(z, threshold, sizes)
                    share = cost(kept) / cost(sizes)
                    if tuple(kept) not in plans:  # ranks decide, not a threshold
                        plans[tuple(kept)] = fit_plan(groups, places, cost, share + 1e-9, RemovalRules(floor=0))
                    mine[f"{when}_threshold"][s, t, b] = threshold
                    mine[f"{when}_kept"][s, t, b] = packed(plans[tuple(kept)], groups)
                    if when == "hard":
                        mine["hard_remaining"][s, t, b] = share
                    else:
                        counted = odd_counts(case, kept) / odd_counts(case, sizes)
                        mine["final_ratios"][s, t, b] = [share, *counted, sum(kept)]
    agrees(case, mine, *OF_CHIPNET_KEPT)


def first_threshold(z: Tensor, areas: Tensor | None, budget: float) -> float:
    """The reference's, above which gates stay: by the number of units, or by their areas (units,)."""
    z, order = z.sort()
    at = int((1 - budget) * len(z))
    if areas is not None:  # the smallest gate is left out
        shares = (areas[order[1:]].double() / areas.sum()).cumsum(0)
        at = 1 + int((shares < 1 - budget).sum())
    return min(float(z[at]), 0.9)


def lowered(threshold: float, z: Tensor, sizes: Sequence[int], cost: Polynomial, budget: float) -> float:
    """Until no less than the budget passes."""
    while cost(passing(z, threshold, sizes)) / cost(sizes) < budget:
        threshold -= 1e-4
    return threshold


def passing(z: Tensor, threshold: float, sizes: Sequence[int]) -> list[int]:
    """How many gates of every layer pass a threshold."""
    return [int((part > threshold).sum()) for part in z.split(list(sizes))]


def odd_counts(case: Case, kept: Sequence[int]) -> np.ndarray:
    """Parameters and FLOPs as the reference counts them when it reports what is left; the notes say how."""
    config, layers = case.config, case.about["layers"]
    widths = dict(zip(layers, kept, strict=True))
    width, side = widths["bn1"], 2 * config["picture"]
    convs = [(3, width, 3, config["picture"])]  # inputs, outputs, kernel, side
    for block in dict.fromkeys(".".join(name.split(".")[:2]) for name in list(layers)[1:]):
        inputs, skip = width, width
        if f"{block}.downsample.1" in widths:
            skip, side = widths[f"{block}.downsample.1"], side // 2
            convs.append((width, skip, 1, side))
        for name in (f"{block}.bn{i}" for i in (1, 2, 3) if f"{block}.bn{i}" in widths):
            convs.append((inputs, widths[name], layers[name]["kernel"], side))
            inputs = widths[name]
        width = max(inputs, skip)
    params = sum(i * o * k**2 for i, o, k, _ in convs) + inputs * config["classes"] + 2 * (3 + sum(kept))
    flops = 2 * sum((i * k**2 + 1) * o * side**2 for i, o, k, side in convs) + 2 * (width - 1) * 100
    return np.array([params, flops], np.float64)
