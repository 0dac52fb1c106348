"""SuperDiMP's box regressor against the original: modulation, scores, training, proposals, refinement."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pruning.groups import Group
from trackers.contents import load_strictly
from trackers.dimp.losses import kl_regression
from trackers.dimp.names import our_name
from trackers.dimp.official import convert
from trackers.dimp.proposals import overlaps, place_proposals
from trackers.dimp.refinement import ScoreGradients, refine
from trackers.dimp.regressor import FIRST, BoxRegressor, Level, Modulation

from .cases import Case, each
from .compare import agrees
from .dimp import inputs, official_weights, weights

NUMBER = r"([\d.]+)"
PROPOSALS = ("proposals", "proposal_density", "gt_density")
# What each test compares; together, all that is stored.
OF_EVALUATION = ("modulation*", "iou_feat*", "scores", "grad_boxes", "kl_loss_eval")
OF_TRAINING = ("train_scores", "kl_loss_train", "grad_norm/*", "bn_running/*")
OF_REFINEMENT = ("refine_*",)


def build(case: Case, dtype: torch.dtype = torch.float32) -> BoxRegressor:
    """The case's regressor, in evaluation mode."""
    about = dict(convert(official_weights(case), case.about["network"]).recipe["box_head"])
    loaded = weights(case, "box_head.")
    channels = [loaded[f"conv{FIRST + i}_1r.0.weight"].shape[1] for i in range(len(about["levels"]))]
    levels = [Level(n, 8 << i, **level) for i, (n, level) in enumerate(zip(channels, about["levels"], strict=True))]
    head = BoxRegressor(**about | {"levels": levels})
    load_strictly(head, loaded, case.path)
    return head.to(dtype).eval()


def tensors(case: Case, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value, dtype=dtype) for name, value in inputs(case).items()}


def maps(given: dict[str, Tensor], role: str) -> list[Tensor]:
    """Of "ref" or "test", finest first, frames and sequences in one dimension."""
    names = sorted(name for name in given if re.fullmatch(rf"{role}_layer\d+_raw", name))
    return [given[name].clamp_min(0).flatten(0, -4) for name in names]


def numbers(pattern: str, text: str) -> list[float]:
    """Those in the reference's description of what it did."""
    return [float(v) for v in re.search(pattern, text).groups()]


def proposals(case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    first, threshold, second = numbers(
        rf"std = {NUMBER} where proposal_pick < {NUMBER} else {NUMBER}", case.config["proposals"]
    )
    picks = (given["proposal_pick"] >= threshold).long()
    made = place_proposals(given["test_boxes"], picks, given["proposal_noise"], [(first,) * 2, (second,) * 2])
    return dict(zip(PROPOSALS, made, strict=True))


@each("dimp", "proposals_labels")
def test_proposals_are_the_same(case: Case) -> None:
    config, given = case.config, tensors(case)
    threshold = numbers(rf"0 where pick < {NUMBER}, else 1", config["component"])[0]
    picks = (given["pick"] >= threshold).long()
    assert config["gt_sigma"] == config["proposal_sigma"][0]
    made = place_proposals(given["boxes"], picks, given["noise"], config["proposal_sigma"])
    mine = dict(zip(PROPOSALS, made, strict=True))
    mine["iou"] = overlaps(mine["proposals"], given["boxes"][:, None])
    agrees(case, mine, *mine)


@each("dimp", "bb_regressor")
def test_every_array_is_compared(case: Case) -> None:
    def known(name: str) -> bool:
        patterns = (*PROPOSALS, *OF_EVALUATION, *OF_TRAINING, *OF_REFINEMENT)
        return any(re.fullmatch(p.replace("*", ".*"), name) for p in patterns)

    assert [name for name in case.stored if not known(name)] == []


@pytest.mark.slow
@each("dimp", "bb_regressor")
def test_scores_are_the_same(case: Case) -> None:
    head, given = build(case), tensors(case)
    about = proposals(case, given)
    asked = about["proposals"].flatten(0, 1).requires_grad_()
    frames = len(given["test_boxes"])
    modulation = head.modulation(maps(given, "ref"), given["ref_boxes"])
    features = head.features(maps(given, "test"))
    rated = head.scores(features, modulation.repeat(frames), asked)
    by_box = torch.autograd.grad(rated.sum(), asked)[0].unflatten(0, (frames, -1))
    scores = rated.detach().unflatten(0, (frames, -1))
    mine: dict[str, Any] = {f"modulation{x}": v.detach() for x, v in zip(head.names, modulation.vectors, strict=True)}
    for x, f in zip(head.names, features, strict=True):
        name = f"iou_feat{x}_slice"
        apart = re.search(r"\[::(\d+), ::(\d+), ::(\d+)\]", case.about["outputs"][name]).groups()
        mine[name] = f[0][tuple(slice(None, None, int(v)) for v in apart)].detach()
    loss = kl_regression(scores, about["proposal_density"], about["gt_density"])
    mine |= {"scores": scores, "grad_boxes": by_box, "kl_loss_eval": loss}
    mine |= {name: value.detach() for name, value in about.items()}
    agrees(case, mine, *PROPOSALS, *OF_EVALUATION)
    # The closed form has the same slope.
    with torch.inference_mode():
        again, low, high = ScoreGradients(head, features, modulation.repeat(frames))(asked)
    by_box = torch.cat([low + high, high], -1).unflatten(0, (frames, -1))
    agrees(case, {"scores": again.unflatten(0, (frames, -1)), "grad_boxes": by_box}, "scores", "grad_boxes")


@pytest.mark.slow
@each("dimp", "bb_regressor")
def test_training_is_the_same(case: Case) -> None:
    head, given = build(case), tensors(case)
    about = proposals(case, given)
    head.train()
    frames = len(given["test_boxes"])
    modulation = head.modulation(maps(given, "ref"), given["ref_boxes"]).repeat(frames)
    rated = head.scores(head.features(maps(given, "test")), modulation, about["proposals"].flatten(0, 1))
    scores = rated.unflatten(0, (frames, -1))
    loss = kl_regression(scores, about["proposal_density"], about["gt_density"])
    loss.backward()
    mine = {"train_scores": scores.detach(), "kl_loss_train": loss.detach()}
    for name in case.stored:
        kind, _, official = name.partition("/")
        ours = our_name(official).removeprefix("box_head.")
        if kind == "grad_norm":
            mine[name] = head.get_parameter(ours).grad.norm()
        elif kind == "bn_running":
            mine[name] = head.get_buffer(ours)[: len(case.stored[name])]
    agrees(case, mine, *OF_TRAINING)
    left_out = {n for n, _ in head.named_parameters()} - {our_name(n.partition("/")[2])[9:] for n in case.stored}
    assert max(float(head.get_parameter(n).grad.norm()) for n in left_out) < 1e-3  # biases in front of a batch norm


@each("dimp", "bb_regressor")
@torch.inference_mode()
def test_refinement_is_the_same(case: Case) -> None:
    head, given, about = build(case), tensors(case), case.config["refinement"]
    shift, growth, smallest = numbers(
        rf"\* {NUMBER} \* \(u - 0.5\), size .* \* {NUMBER} \* \(u - 0.5\) .* min\(w, h\) / {NUMBER}", about["boxes"]
    )
    box, noise = given["test_boxes"][0, 0], given["refine_u"] - 0.5
    side, centre = box[2:].prod().sqrt(), box[:2] + box[2:] / 2
    extent = (box[2:] + side * growth * noise[:, 2:]).clamp_min(box[2:].min() / smallest)
    starts = torch.cat([box[None], torch.cat([centre + side * shift * noise[:, :2] - extent / 2, extent], 1)])
    modulation = head.modulation([m[:1] for m in maps(given, "ref")], given["ref_boxes"][:1])
    features = head.features([m[:1] for m in maps(given, "test")])
    refined, rated = refine(
        head, features, modulation, starts[None], about["iterations"], about["step"], about["space"]
    )
    agrees(case, {"refine_start": starts, "refine_boxes": refined[0], "refine_scores": rated[0]}, *OF_REFINEMENT)


@each("dimp", "channel_prune")
def test_groups_cut_what_the_reference_cuts(case: Case) -> None:
    head = BoxRegressor([Level(512, 8, 128, 3, 5), Level(1024, 16, 256, 1, 3)], 256)
    theirs = {n: g for n, g in case.config["groups"].items() if g["class"] == "box"}
    known = {_slices(g): g.size for g in head.groups()}
    assert known == {_their_slices(g["parameters"]): g["width"] for g in theirs.values()}
    # They zero both factors of a product, of which one is enough and takes the gate.
    zeroed = {our_name(n).removeprefix("box_head.") for g in theirs.values() for n in g["zero"]}
    gated = {s.path for g in head.groups() for s in g.slices if s.gated}
    assert {name for name in zeroed if not re.match(r"fc34_\dr", name)} == gated
    for i, layer in enumerate(("layer2", "layer3")):
        read = [p for p in case.config["groups"][layer]["parameters"] if p[0].startswith("bb_regressor.")]
        assert _their_slices(read) == {(s.path, s.dim, 0, 1) for s in head.input_slices(i)}


def _slices(group: Group) -> frozenset:
    return frozenset((s.path, s.dim, offset, s.inner) for s in group.slices for offset in s.offsets)


def _their_slices(entries: list[list[Any]]) -> frozenset:
    return frozenset((our_name(name).removeprefix("box_head."), *rest) for name, *rest in entries)


def test_modulation_repeats_frame_by_frame() -> None:
    vectors = torch.from_numpy(np.arange(6.0).reshape(3, 2))
    repeated = Modulation([vectors]).repeat(2).vectors[0].unflatten(0, (2, 3))
    assert torch.equal(repeated[0], vectors)
    assert torch.equal(repeated[1], vectors)
