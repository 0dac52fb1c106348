"""Layout of a CNN of timm: which of its features have strides 4, 8 and 16, and which layers make them."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor, nn

from trackers.errors import TrackerError

STRIDES = (4, 8, 16)
TRIAL = (64, 96)  # height and width of the picture with which a network is tried; all strides divide them
ADVICE = "choose a CNN with features at strides 8 and 16, e.g. tracker.backbone=mobilenetv2_100"


@dataclass(frozen=True)
class TimmLayout:
    """Layout of a network of timm.

    Attributes:
        indices: numbers of the features that are used, for timm's `out_indices`.
        strides, widths: pixels per cell, and channels, of these features, finest first.
        sources: for each of these features the names of the modules with the parameters that it depends on.
        unused: names of the modules on which none of these features depends.
    """

    indices: tuple[int, ...]
    strides: tuple[int, ...]
    widths: tuple[int, ...]
    sources: tuple[tuple[str, ...], ...]
    unused: tuple[str, ...]


@cache
def timm_layout(name: str, stride: int) -> TimmLayout:
    """Returns the layout of a network, without making its weights.

    Args:
        name: network of timm, with or without the name of a training, e.g. "mobilenetv2_100.ra_in1k".
        stride: pixels per cell of the last map, 8 or 16.

    Raises:
        TrackerError: timm has no such network, or the network has no map at a stride.
    """
    if stride not in STRIDES[1:]:
        raise TrackerError(f"tracker.stride={stride} is not possible with tracker.backbone={name}; choose 8 or 16")
    _check_name(name)
    try:
        features = _on_meta(name).feature_info
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise TrackerError(
            f"tracker.backbone={name} returns no features in timm ({_first_line(error)}); {ADVICE}"
        ) from error
    index_of = {reduction: features.out_indices[i] for i, reduction in enumerate(features.reduction())}
    if missing := [s for s in STRIDES[1:] if s <= stride and s not in index_of]:
        found = ", ".join(map(str, index_of))
        raise TrackerError(
            f"tracker.backbone={name} has no features at stride {missing[0]}, only at {found}; {ADVICE}. ViTs are for "
            "tracker=ostrack"
        )
    strides = tuple(s for s in STRIDES if s <= stride and s in index_of)
    indices = tuple(index_of[s] for s in strides)
    body = _on_meta(name, out_indices=indices).eval()
    maps = _run(body, name, strides)
    owners = {p: path.rpartition(".")[0] for path, p in body.named_parameters()}
    sources = [{owners[p] for p in _parameters_of(m)} for m in maps]
    unused = _tops(body, {*owners.values()}.difference(*sources))
    for path in unused:
        body.set_submodule(path, nn.Identity())
    if unused:
        try:
            _run(body, name, strides)
        except TrackerError as error:
            raise TrackerError(
                f"tracker.backbone={name} cannot be cut off at stride {stride}, as layers behind that stride take part "
                f"in its features; {ADVICE}"
            ) from error
    widths = tuple(m.shape[1] for m in maps)
    return TimmLayout(indices, strides, widths, tuple(tuple(sorted(s)) for s in sources), unused)


def _run(body: nn.Module, name: str, strides: Sequence[int]) -> list[Tensor]:
    """Returns the maps of a network on the meta device for one picture.

    Raises:
        TrackerError: the network does not run, or its maps have other strides.
    """
    picture = f"a picture of {TRIAL[0]} x {TRIAL[1]} pixels"
    try:
        maps = list(body(torch.empty(1, 3, *TRIAL, device="meta")))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise TrackerError(
            f"tracker.backbone={name} does not run up to stride {strides[-1]} on {picture} ({_first_line(error)}); "
            f"{ADVICE}"
        ) from error
    cells = [(TRIAL[0] // s, TRIAL[1] // s) for s in strides]
    if [tuple(m.shape[2:]) for m in maps] != cells:
        shapes = [tuple(m.shape) for m in maps]
        raise TrackerError(
            f"tracker.backbone={name} returns maps (B, C, H, W) of the shapes {shapes} for {picture}, not of {cells} "
            f"cells; {ADVICE}"
        )
    return maps


def _check_name(name: str) -> None:
    """Refuses names that timm's own registry lacks. Names of other places, e.g. "hf-hub:...", would be downloaded."""
    network, _, training = name.partition(".")
    if not timm.is_model(network):
        near = get_close_matches(network, timm.list_models(), 1)
        advice = f"did you mean {near[0]}?" if near else "timm.list_models() in Python lists all; e.g. mobilenetv2_100"
        raise TrackerError(f"tracker.backbone={name} is no network of torchvision's ResNets or of timm; {advice}")
    trainings = timm.list_pretrained(f"{network}.*")
    if training and name not in trainings:
        known = ", ".join(trainings) or "none; leave it out"
        raise TrackerError(f"tracker.backbone={name} names a training that timm does not know; it knows {known}")


def _on_meta(name: str, **options: Any) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, features_only=True, **options)


def _parameters_of(output: Tensor) -> set[Tensor]:
    """Returns the parameters on which a tensor depends, by its graph of gradients."""
    found, waiting, seen = set(), [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable)
        waiting += [follower for follower, _ in node.next_functions]
    return found


def _tops(body: nn.Module, unused: set[str]) -> tuple[str, ...]:
    """Returns the largest modules of which all parameters belong to unused modules, without the modules in them."""
    tops: list[str] = []
    for path, module in body.named_modules():
        owners = {f"{path}.{name}".rpartition(".")[0].lstrip(".") for name, _ in module.named_parameters()}
        if owners and owners <= unused and not any(path.startswith(f"{top}.") for top in tops):
            tops.append(path)
    return tuple(tops)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
