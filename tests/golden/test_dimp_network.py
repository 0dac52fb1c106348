"""SuperDiMP against the original implementation: features, a training step, and pruned channels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pruning.cost import count_params
from pruning.gates import Gates
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.dimp import DiMP
from trackers.dimp.names import our_name
from trackers.dimp.network import DiMPNetwork
from trackers.dimp.official import convert

from .cases import Case, check_kind, each
from .compare import agrees
from .dimp import build, inputs, like_stored, official_weights, pictures, proposals

pytestmark = pytest.mark.usefixtures("two_threads")

CLASSIFIER, BOXES = ("classifier",), ("bb_regressor",)
ONLINE, PARTS = ("augmentation", "crop", "localize_memory", "track"), ("prroipool", "proposals_labels")
# Names of losses: the originals' (SuperDiMP and DiMP, PrDiMP), and ours.
LOSSES = {
    **{"bb_ce": "boxes", "test_init_clf": "first", "test_clf": "last", "test_iter_clf": "steps"},
    **{"iou": "boxes", "clf_ce_init": "first", "clf_ce": "last", "clf_ce_iter": "steps"},
}
KINDS = ("features", "train_step", "channel_prune", *CLASSIFIER, *BOXES, *ONLINE, *PARTS)


@each("dimp")
def test_every_kind_of_case_is_known(case: Case) -> None:
    check_kind(case, KINDS)


@each("dimp", "features")
def test_features_are_the_same(case: Case) -> None:
    agrees(case, features_of(case))


@torch.inference_mode()
def features_of(case: Case) -> dict[str, Any]:
    """Returns all arrays that the reference stores of a forward pass."""
    tracker = build(case)
    crop = tracker.normalise(pictures(inputs(case), "picture"))
    *_, layer2, layer3 = tracker.network.backbone.stage_maps(crop)
    features = tracker.network.classifier.features
    raw, seen = features.conv(features.blocks(layer3))[0], features(layer3)[0]
    layer2, layer3 = layer2[0], layer3[0]
    mine = {"input_slice": crop[0, :, ::32, ::32], "clf_sum_squares": seen.square().sum()}
    for name, x in (("layer2", layer2), ("layer3", layer3), ("clf", seen)):
        mine[f"{name}_stats"] = torch.stack([x.mean(), x.std(unbiased=False), x.abs().max(), x.min()])
    mine |= {f"{n}_channel_mean": x.mean((1, 2))[::8] for n, x in (("layer2", layer2), ("layer3", layer3))}
    mine |= {"layer2_slice": layer2[::31, ::6, ::6], "layer3_slice": layer3[::47, ::4, ::4]}
    return mine | {"conv_slice": raw[::23, ::4, ::4], "clf_slice": seen[::23, ::4, ::4]}


@pytest.mark.slow
@each("dimp", "train_step")
def test_a_training_step_is_the_same(case: Case) -> None:
    mine, network = training_step(case)
    agrees(case, mine)
    trained = {n for n, p in network.named_parameters() if p.grad is not None}
    names = {our_name(name) for name in case.config["grad_order"]}
    silent = {n for n in trained - names if float(network.get_parameter(n).grad.norm()) > 1e-9}
    assert silent == set(), "parameters with a gradient that the reference does not have"


def training_step(case: Case) -> tuple[dict[str, Any], nn.Module]:
    """Returns all arrays that the reference stores of a training step, and the network with its gradients."""
    tracker, given = build(case, torch.float64), inputs(case)
    assert [f"{part}." for part in case.config["frozen"]] == [h.split(".", 1)[1] for h in tracker._frozen()]
    tracker.setup("fit")
    tracker.train()
    crops = {role: _crops(tracker, given, role) for role in ("train", "test")}
    boxes = {role: torch.from_numpy(given[f"{role}_boxes"]).transpose(0, 1) for role in ("train", "test")}
    asked = proposals(given, "test_boxes")
    asked, *about = (v.transpose(0, 1) for v in asked)
    with single_backbone(tracker.network):
        found = tracker.network(crops["test"], asked, crops["train"], boxes["train"])
    assert tracker.weights == {LOSSES[name]: weight for name, weight in case.config["loss_weights"].items()}
    parts = tracker.output_losses(found, boxes["test"], about)
    parts["total"].backward()
    network = tracker.network
    of_maps = [tracker.score_loss(m, boxes["test"].transpose(0, 1)) for m in found["scores"]]
    names = [our_name(name) for name in case.config["grad_order"]]
    norms = {n: network.get_submodule(our_name(f"{n}.").rstrip(".")) for n in case.config["bn_order"]}
    arrays = {
        "total_loss": parts["total"].detach(),
        stored_as(case, "bb_ce", "iou"): parts["boxes"].detach(),
        stored_as(case, "clf_losses", "clf_ce"): torch.stack(of_maps).detach(),
        "box_scores": found["boxes"].detach(),
        "scores_first_last": like_stored(found["scores"][[0, -1]].detach(), case.stored["scores_first_last"]),
        "grad_norms": [network.get_parameter(name).grad.norm() for name in names],
        "bn_mean_norms": [norm.running_mean.norm() for norm in norms.values()],
        "bn_var_norms": [norm.running_var.norm() for norm in norms.values()],
    }
    return arrays, network


@contextmanager
def single_backbone(network: DiMPNetwork) -> Iterator[None]:
    """Runs the backbone in single precision, as the reference did, and all that reads its maps in double precision.

    Double precision keeps the zero gradients of biases in front of a batch norm zero. The backbone has no such biases
    and most of the work, which takes four times as long in double precision.
    """
    maps = network.backbone.float().stage_maps
    with mock.patch.object(network.backbone, "stage_maps", lambda crops: [m.double() for m in maps(crops.float())]):
        yield


def stored_as(case: Case, *names: str) -> str:
    """Returns the one of several names under which the case stores an array."""
    (name,) = (name for name in names if name in case.stored)
    return name


def _crops(tracker: DiMP, given: dict[str, np.ndarray], role: str) -> Tensor:
    """Normalised crops (sequence, frame, 3, H, W)."""
    frames, sequences = given[f"{role}_boxes"].shape[:2]
    stack = pictures(given, rf"{role}_\d+(_\d+)?").unflatten(0, (frames, sequences))
    return tracker.normalise(stack).to(next(tracker.parameters()).dtype).transpose(0, 1)


# Pruning


def variants(case: Case) -> Iterator[tuple[str, Any]]:
    yield from case.config["variants"].items()


@each("dimp", "channel_prune")
def test_groups_cut_what_the_reference_cuts(case: Case) -> None:
    tracker, theirs = build(case), case.config["groups"]
    known = {_slices(g): g.size for g in tracker.groups()}
    wanted = {_their_slices(g["parameters"]): g["width"] for g in theirs.values()}
    assert known == wanted
    assert count_params(tracker.network) == case.config["parameter_counts"]["dense"]


def _slices(group: Group) -> frozenset:
    return frozenset((s.path, s.dim, offset, s.inner) for s in group.slices for offset in s.offsets)


def _their_slices(entries: list[list[Any]]) -> frozenset:
    live = [e for e in entries if not e[0].startswith(("feature_extractor.layer4", "feature_extractor.fc"))]
    return frozenset((our_name(name), *rest) for name, *rest in live)


@pytest.mark.slow
@each("dimp", "channel_prune", by=variants)
@torch.no_grad()
def test_pruned_networks_are_the_same_masked_and_cut(case: Case, part: dict[str, Any]) -> None:
    name = next(n for n, v in case.config["variants"].items() if v is part)
    tracker, given = build(case), inputs(case)
    theirs = {_their_slices(g["parameters"]): n for n, g in case.config["groups"].items()}
    groups = {theirs[_slices(g)]: g for g in tracker.groups()}
    chosen = {n: g for n, g in groups.items() if case.config["groups"][n]["class"] in part.get("classes", ())}
    kept = {n: np.sort(np.argsort(-given[f"score/{n}"])[: round(g.size * part["ratio"])]) for n, g in chosen.items()}
    plan = Plan({chosen[n].name: tuple(units.tolist()) for n, units in kept.items()})
    masked = Gates(tracker.network, list(groups.values()))
    masked.close(plan)
    with masked.folded():
        seen = _outputs(tracker, case, given, name)
    agrees(case, {f"{k}/{name}": v for k, v in seen.items()}, *(f"{k}/{name}" for k in seen))
    compact(tracker.network, list(groups.values()), plan)
    assert count_params(tracker.network) == case.config["parameter_counts"][name]
    cut = _outputs(tracker, case, given, name)
    sizes = {layer: groups[layer].size for layer in ("layer2", "layer3")}
    maps = tracker.network.backbone.stage_maps(_crops(tracker, given, "train")[0, :1])
    for layer, m in zip(sizes, maps[-2:], strict=True):
        cut[f"{layer}_mean"] = m.sum() / (sizes[layer] * m[0, 0].numel())
    cut |= {f"kept/{name}/{n}": units for n, units in kept.items()}
    agrees(case, {k if "/" in k else f"{k}/{name}": v for k, v in cut.items()}, f"*/{name}", f"kept/{name}/*")


def _outputs(tracker: DiMP, case: Case, given: dict[str, np.ndarray], variant: str) -> dict[str, Any]:
    """Returns what is stored of a variant, computed by the network in its present state."""
    crops = {role: _crops(tracker, given, role) for role in ("train", "test")}
    boxes = torch.from_numpy(given["train_boxes"]).float()
    asked, *_ = proposals(given, "test_boxes")
    classifier = tracker.network.classifier
    with mock.patch.object(classifier, "learn", wraps=classifier.learn) as learn:
        found = tracker.network(crops["test"], asked.float().transpose(0, 1), crops["train"], boxes.transpose(0, 1))
    features, _ = learn.call_args.args
    filters = classifier.learn(features, boxes)
    assert len(filters) == case.config["iterations"] + 1
    objective = [classifier.optimiser.objective(f, features, boxes) for f in filters]
    return {
        "scores": like_stored(found["scores"][[0, -1], :, 0], case.stored[f"scores/{variant}"]),
        "box_scores": found["boxes"][:, 0],
        "optimizer_losses": objective,
        "filter_norm": [filters[0].norm(), filters[-1].norm()],
    }


@each("dimp", "features", "track")
def test_dead_layers_are_dropped_and_counted(case: Case) -> None:
    weights = official_weights(case)
    stored = convert(weights, case.about["network"])
    dead = {n for n in weights if n.startswith(("feature_extractor.layer4.", "feature_extractor.fc."))}
    assert set(stored.weights) == {our_name(n) for n in weights.keys() - dead}
    assert f"Left out: {sum(weights[n].numel() for n in dead if weights[n].is_floating_point()):,} " in stored.note
