"""STARK as a reference case describes it: our classes, official names, weights and pictures from the fill rule."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruning.groups import Group
from pruning.plan import Plan
from trackers.checkpoints.checkpoint import build_tracker
from trackers.contents import load_strictly
from trackers.crops import CropSpec
from trackers.layers.backbones import ResNet
from trackers.pixels import IMAGENET_MEAN, IMAGENET_STD
from trackers.stark import STARK
from trackers.stark.network import Tokens
from trackers.stark.official import convert
from trackers.stark.position import SinePosition
from trackers.stark.transformer import Transformer

from .cases import Case, load

RESNETS = {(3, 4, 6): "resnet50", (3, 4, 23): "resnet101"}
BACKBONE = "backbone.0.body."  # where official checkpoints keep the ResNet
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # what training writes into
# Official names of a layer, and those of the fork that gates it.
FORK = (("out_proj", "proj"), ("linear1", "mlp.fc1"), ("linear2", "mlp.fc2"))


# Networks


def official_weights(case: Case) -> dict[str, Tensor]:
    """The case's checkpoint. Tensors are shared between cases, but for those that training writes into."""
    weights = {}
    for name, shape in case.about["checkpoint"].items():
        value = torch.from_numpy(_parameter(_prefix(case, name) + name, tuple(shape)))
        value = value.clone() if name.endswith(STATISTICS) else value
        gain = case.about["fill"].get("gain", {}).get(name, 1)
        weights[name] = value if gain == 1 else value * gain
    return weights


def _prefix(case: Case, name: str) -> str:
    """One for all names, or that of the longest head of the name."""
    given = case.about["fill"]["prefix"]
    return given if isinstance(given, str) else given[max((h for h in given if name.startswith(h)), key=len)]


@lru_cache(maxsize=600)
def _parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return load("rule").parameter(name, shape)


def without_weights(case: Case) -> dict[str, Tensor]:
    """The checkpoint's names and shapes, every tensor with a storage of its own that holds a single number."""
    return {name: torch.zeros(()).expand(shape) for name, shape in case.about["checkpoint"].items()}


def our_names(case: Case) -> dict[str, str]:
    """Our name of every official tensor, found by what `convert` did with each."""
    theirs = without_weights(case)
    ours = {w.untyped_storage().data_ptr(): name for name, w in convert(theirs, None).weights.items()}
    return {name: ours[w.untyped_storage().data_ptr()] for name, w in theirs.items()}


def described(case: Case) -> dict[str, Any]:
    """The part of our recipe that the case's configuration decides."""
    model, data = case.config["model"], case.config["data"]
    if model["family"].partition(" (")[0] not in ("STARK-S", "STARK-ST"):  # brackets hold remarks
        raise ValueError(f"the family {model['family']} is not known, only STARK-S and STARK-ST are")
    if (tuple(data["mean"]), tuple(data["std"])) != (IMAGENET_MEAN, IMAGENET_STD):
        raise ValueError(f"mean={data['mean']} and std={data['std']} are not those of our networks")
    return {
        "compat": "reference",
        "template": {
            "size": data["template_size"],
            "factor": data["template_factor"],
            "count": model["templates"],
            "compat": "reference",
        },
        "search": {"size": data["search_size"], "factor": data["search_factor"], "compat": "reference"},
        "backbone": {"name": model["backbone"], "frozen_norm": model["frozen_bn"]},
        "transformer": transformer_sizes(model),
        "head_channels": [model["head_dim"] // 2**i for i in range(4)],
        "class_head": model["cls_head"],
        "corner_offset": 0.0,
        "freeze_stem": True,
    }


def transformer_sizes(model: Mapping[str, int]) -> dict[str, int]:
    """Arguments of `Transformer`."""
    return {
        "width": model["hidden_dim"],
        "heads": model["heads"],
        "hidden": model["ffn_dim"],
        "encoder_layers": model["encoder_layers"],
        "decoder_layers": model["decoder_layers"],
    }


def merged(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with some of its values replaced."""
    nested = {k: merged(recipe.get(k) or {}, v) if isinstance(v, Mapping) else v for k, v in changes.items()}
    return dict(recipe) | nested


def build(case: Case, changes: Mapping[str, Any] | None = None) -> STARK:
    """The case's tracker with its weights, in evaluation mode. Any name or shape that does not fit is an error."""
    stored = convert(official_weights(case), None)
    with torch.device("meta"):
        tracker = build_tracker(merged(merged(stored.recipe, described(case)), changes or {}))
    load_strictly(tracker.network, stored.weights, case.path, assign=True)
    return tracker.eval()


# Inputs


def batch(case: Case, tracker: STARK) -> dict[str, Tensor]:
    """Crops and their padding as a training batch holds them."""
    samples, count = case.about["inputs"]["samples"], tracker.template.count
    if any(len(s) != count + 1 for s in samples):
        raise ValueError(f"a sample must hold {count} templates and a search picture, not {[list(s) for s in samples]}")
    templates = [[_crop(case, s[f"template{i}"], tracker.template) for i in range(1, count + 1)] for s in samples]
    searches = [[_crop(case, s["search"], tracker.search)] for s in samples]
    return {
        f"{name}{what}": torch.stack([torch.stack([shot[i] for shot in shots]) for shots in crops])
        for name, crops in (("template", templates), ("search", searches))
        for i, what in enumerate(("", "_padding"))
    }


def _crop(case: Case, about: Mapping[str, Any], spec: CropSpec) -> tuple[Tensor, Tensor]:
    picture, box = load("rule").image(about["image"], tuple(case.about["inputs"]["image_shape"])), about["box"]
    pixels, padding, _ = spec.tracking_crop(picture, box)
    return torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(padding)


def video(about: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """A patch that moves over a still background."""
    rule = load("rule")
    background = rule.image(about["background"], tuple(about["frame_shape"]))
    patch = rule.image(about["patch"], tuple(about["patch_shape"]))
    for x, y in about["patch_xy"]:
        frame = background.copy()
        frame[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        yield frame


# The gated transformer


def gate_values(case: Case) -> dict[str, Tensor]:
    """The case's gates by official name, in the order of their modules."""
    prefix, array = case.about["fill"]["prefix"], load("rule").array
    return {n: torch.from_numpy(np.abs(array(prefix + n, tuple(s)))) for n, s in case.about["gates"].items()}


def fork_weights(case: Case) -> dict[str, Tensor]:
    """The case's weights and gates in the layout of the paper's fork."""
    weights = {}
    for name, w in official_weights(case).items():
        if ".in_proj_" in name:
            path, kind = name.split(".in_proj_")
            weights |= {f"{path}.{part}.{kind}": third for part, third in zip("qkv", w.chunk(3), strict=True)}
            continue
        for theirs, forks in FORK:
            name = name.replace(f".{theirs}.", f".{forks}.")
        weights[name] = w
    return weights | gate_values(case)


def build_transformer(case: Case, weights: Mapping[str, Tensor]) -> tuple[Transformer, dict[str, Tensor]]:
    """The transformer in an official or a fork's state dict, and its gates by the names of its groups."""
    if case.config["activation"] != "relu":
        raise ValueError(f"activation={case.config['activation']} is not known, only relu is")
    stored, path = convert(weights, None), "transformer."
    inner = {n.removeprefix(path): w for n, w in stored.weights.items() if n.startswith(path)}
    with torch.device("meta"):
        transformer = Transformer(**transformer_sizes(case.config["model"]), dropout=0.1)
    load_strictly(transformer, inner, case.path, assign=True)
    return transformer.eval(), {n.removeprefix(path): v for n, v in stored.gates.items()}


def gated_groups(transformer: Transformer, gates: Mapping[str, Tensor]) -> list[Group]:
    """The groups of the gates, in their order."""
    groups = {g.name: g for g in transformer.groups()}
    return [groups[name] for name in gates]


@torch.inference_mode()
def run_transformer(case: Case, transformer: Transformer, name: str) -> dict[str, Tensor]:
    """What is stored of a forward pass."""
    *templates, search = (_map_tokens(about) for about in case.about["inputs"]["maps"])
    count = sum(t.features.shape[1] for t in templates)
    query = official_weights(case)["query_embed.weight"]
    memory, found = transformer(*Tokens.cat([*templates, search]), query[None], count)
    return {f"memory_{name}": memory[:, case.about["stored_tokens"]], f"decoder_{name}": found[:, 0]}


def _map_tokens(about: Mapping[str, Any]) -> Tokens:
    features = torch.from_numpy(load("rule").array(about["name"], tuple(about["shape"])))
    mask = torch.zeros(features.shape[0], *features.shape[2:], dtype=torch.bool)
    for sample, top, bottom, left, right in about["padded"]:
        mask[sample, top:bottom, left:right] = True
    position = SinePosition(features.shape[1])(mask)
    return Tokens(features.flatten(2).transpose(1, 2), position, mask.flatten(1))


def units_kept(share: float, units: int) -> int:
    """How many of a pool the reference keeps for a budget."""
    return units - int((1 - share) * units)


def packed(plan: Plan, groups: Sequence[Group]) -> np.ndarray:
    """The masks of all groups, one after the other, as they are stored."""
    return np.packbits(np.concatenate([np.isin(np.arange(g.size), plan.units(g)) for g in groups]))


def unpacked(bits: np.ndarray, groups: Sequence[Group]) -> Plan:
    """The plan that keeps what stored masks keep."""
    sizes = [g.size for g in groups]
    masks = np.split(np.unpackbits(bits)[: sum(sizes)], np.cumsum(sizes)[:-1])
    return Plan({g.name: tuple(np.flatnonzero(mask).tolist()) for g, mask in zip(groups, masks, strict=True)})


# The slimmed backbone


def build_backbone(case: Case) -> ResNet:
    """The backbone with the case's weights, in evaluation mode."""
    rule, weights = load("rule"), official_weights(case)
    for name in case.about["order"]:  # the fill rule makes an exception for these scales: they have both signs
        weights[name] = torch.from_numpy(rule.array(_prefix(case, name) + name, tuple(weights[name].shape)))
    name = RESNETS[tuple(case.config["blocks"])]
    with torch.device("meta"):
        backbone = ResNet(name, frozen_norm=False)
    load_strictly(backbone, {n.removeprefix(BACKBONE): w for n, w in weights.items()}, case.path, assign=True)
    return backbone.eval()


def picture(case: Case) -> Tensor:
    """The case's only picture, normalised: (1, 3, H, W)."""
    about = case.about["inputs"]
    pixels = torch.from_numpy(load("rule").image(about["image"], tuple(about["image_shape"])))
    return STARK.normalise(pixels.permute(2, 0, 1)[None])
