"""SuperDiMP as a reference case describes it: official names, weights and inputs from the fill rule."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trackers.checkpoints.checkpoint import build_tracker
from trackers.contents import load_strictly
from trackers.dimp import DiMP
from trackers.dimp.official import convert
from trackers.dimp.proposals import place_proposals

from .cases import Case, load

SIGMAS = ((0.05, 0.05), (0.5, 0.5))  # of the proposals of all networks


def inputs(case: Case) -> dict[str, np.ndarray]:
    """All inputs of a case by name."""
    return {name: _input(about) for name, about in case.about["inputs"].items()}


def _input(about: Mapping[str, Any]) -> np.ndarray:
    rule = load("rule")
    if "value" in about:
        return np.asarray(about["value"], np.float64)
    name, shape = about["name"], tuple(about["shape"])
    if about["rule"] == "uniform":
        normal = torch.from_numpy(rule.array(name, shape)).double()
        return (0.5 * (1 + torch.erf(normal / 2**0.5))).float().numpy()
    return {"array": rule.array, "image": rule.image}[about["rule"]](name, shape)


def official_weights(case: Case) -> dict[str, Tensor]:
    """The case's checkpoint under official names."""
    values = case.about.get("values", {})
    weights = {}
    for name, shape in case.about["checkpoint"].items():
        value = _parameter(case.about["prefix"] + name, tuple(shape))
        weights[name] = torch.from_numpy(_changed(value, values.get(name)))
    return weights


def weights(case: Case, module: str = "") -> dict[str, Tensor]:
    """Those of our network that lie below `module`, e.g. "classifier.", without that prefix."""
    found = convert(official_weights(case), case.about["network"]).weights
    return {n.removeprefix(module): w for n, w in found.items() if n.startswith(module)}


def _changed(value: np.ndarray, change: Any) -> np.ndarray:
    """What `values` says of an entry: nothing, a number, a list, or an operation."""
    if change is None:
        return value.copy()
    if isinstance(change, int | float):
        return np.full(value.shape, change, np.float32)
    if "list" in change:
        return np.asarray(change["list"], np.float32).reshape(value.shape)
    if change["op"] == "scale":
        return value * np.float32(change["factor"])
    if change["op"] == "remove_spatial_mean":
        return value - value.mean((-2, -1), keepdims=True)
    raise ValueError(f"the operation {change} is not known")


@lru_cache(maxsize=600)
def _parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return load("rule").parameter(name, shape)


def build(case: Case, dtype: torch.dtype = torch.float32) -> DiMP:
    """The case's tracker with its weights, in evaluation mode. Any name or shape that does not fit is an error."""
    found = convert(official_weights(case), case.about["network"])
    with torch.device("meta"):
        tracker = build_tracker(found.recipe)
    load_strictly(tracker.network, found.weights, case.path, assign=True)
    for p in tracker.network.parameters():
        p.requires_grad_(True)
    return tracker.to(dtype).eval()


def like_stored(scores: Tensor, stored: np.ndarray) -> Tensor:
    """Returns score maps (..., F, F), or their softmax if the stored maps are densities, as PrDiMP's are."""
    is_density = bool((stored >= 0).all()) and np.allclose(stored.sum((-2, -1)), 1, atol=1e-3)
    return scores.flatten(-2).softmax(-1).view_as(scores) if is_density else scores


def pictures(given: Mapping[str, np.ndarray], pattern: str) -> Tensor:
    """Inputs whose names match a regular expression, in order, as (n, 3, H, W) uint8."""
    names = sorted(name for name in given if re.fullmatch(pattern, name))
    return torch.from_numpy(np.stack([given[name] for name in names])).permute(0, 3, 1, 2)


def proposals(given: Mapping[str, np.ndarray], boxes: str) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes to rate around those of an input, (..., M, 4) xywh, and their densities, with the case's noise: float64."""
    known, pick, noise = (torch.from_numpy(given[name]).double() for name in (boxes, "proposal_pick", "proposal_noise"))
    return place_proposals(known, (pick * len(SIGMAS)).long(), noise, SIGMAS)
