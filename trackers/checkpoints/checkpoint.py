"""Checkpoints: a recipe and weights in one safetensors file, from which any parent or child comes back.

The file's header holds JSON: `recipe` (how to build the tracker), `plan` (what was cut from it), `metrics`, and
`config` (the whole run, for the record). Loading builds the architecture without memory, replays the cuts, and takes
the weights strictly. Official checkpoints are read as well (see `official_files.py`). Nothing that a file holds is
executed, and only classes of `trackers` are built.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from safetensors.torch import save_file

from pruning.plan import Plan
from pruning.surgery import compact
from trackers.base import Tracker
from trackers.checkpoints.gate_reading import AS_THEY_ARE, GateReading
from trackers.checkpoints.reading import FORMAT, read_checkpoint, recipe_in
from trackers.contents import CheckpointError, load_strictly
from trackers.online import OnlineTracker

log = logging.getLogger(__name__)

PRETRAINED = "pretrained"  # stands for the pretrained weights of the backbone, from the library that it comes from


@dataclass
class Checkpoint:
    """A tracker and everything that its file says about it.

    Attributes:
        tracker: network and recipe in one, on the CPU, in evaluation mode.
        recipe: the `tracker` section of the configuration it is built from.
        plan: the units it keeps of the network that the recipe builds; empty for a parent.
        metrics: what was measured when it was saved.
        config: the run that made it.
    """

    tracker: Tracker
    recipe: dict[str, Any]
    plan: Plan = field(default_factory=Plan)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path, half: bool = False) -> Path:
        """Writes the file; whoever reads at the same time sees the old one or the new one.

        Args:
            path: the file.
            half: write half precision, which is half the size, where it can hold the values: statistics of norms may be
                beyond its 65,504. Trackers compute in single precision all the same.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "recipe": self.recipe,
            "plan": self.plan.to_dict(),
            "metrics": self.metrics,
            "config": self.config,
        }
        header = {"format": FORMAT} | {name: json.dumps(value) for name, value in about.items()}
        weights = {n: w.detach().cpu().contiguous().clone() for n, w in self.tracker.network.state_dict().items()}
        if half:
            weights = {n: _halved(w) for n, w in weights.items()}
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        save_file(weights, unfinished, metadata=header)
        unfinished.replace(path)
        return path


def _halved(weight: torch.Tensor) -> torch.Tensor:
    fits = weight.is_floating_point() and (weight.abs() <= torch.finfo(torch.half).max).all()
    return weight.half() if fits else weight


def build_tracker(recipe: Mapping[str, Any]) -> Tracker:
    """Builds the tracker that a recipe describes, with fresh weights.

    Raises:
        CheckpointError: the recipe names a class outside of `trackers`, which a file must never make us build.
    """
    _check_classes(recipe)
    return instantiate(dict(recipe), _convert_="all")


def load_checkpoint(
    path: str | Path, recipe: Mapping[str, Any] | None = None, gates: GateReading = AS_THEY_ARE
) -> Checkpoint:
    """Loads any parent or child, from our files or official ones.

    Args:
        path: the file.
        recipe: how to build the tracker; None for the recipe in the file. A pretrained backbone (MAE's) needs one.
        gates: how gates in the files of the ICASSP 2023 paper are read.

    Raises:
        CheckpointError: the file is not a checkpoint, or its weights do not fit the recipe and the plan. The message
            names every difference.
    """
    contents = read_checkpoint(path)
    if recipe is None:
        recipe = recipe_in(contents, path)
        if contents.note:
            log.info(contents.note)
    recipe = dict(recipe)
    if contents.recipe is None:
        tracker = build_tracker(recipe)
        tracker.load_backbone(contents.weights, path)
        return Checkpoint(tracker.eval(), recipe)
    with torch.device("meta"):
        tracker = build_tracker(recipe)
    compact(tracker.network, tracker.groups(), contents.plan)
    load_strictly(tracker.network, contents.weights, path, assign=True)
    tracker.to("cpu")  # the weights are there already, but Lightning remembers the meta device
    plan = contents.plan.then(gates.apply(tracker.network, tracker.groups(), contents.gates))
    for p in tracker.network.parameters():
        p.requires_grad_(True)
    return Checkpoint(tracker.eval(), recipe, plan, contents.metrics, contents.config)


def initial_checkpoint(
    recipe: Mapping[str, Any], source: str | Path | None, gates: GateReading = AS_THEY_ARE
) -> Checkpoint:
    """Builds or loads the tracker that a training starts from.

    Args:
        recipe: how to build the tracker.
        source: a file for `load_checkpoint`; "pretrained" for the pretrained backbone of its library; None for fresh
            weights.
        gates: see `load_checkpoint`.
    """
    if source is not None and str(source) != PRETRAINED:
        return load_checkpoint(source, recipe, gates)
    tracker = build_tracker(recipe)
    if source is not None:
        tracker.load_backbone(tracker.pretrained_backbone(), PRETRAINED)
    return Checkpoint(tracker, dict(recipe))


def load_tracker(
    path: str | Path, device: str | torch.device = "cpu", gates: GateReading = AS_THEY_ARE
) -> OnlineTracker:
    """Loads a tracker that is ready for `init(image, box)` and `update(image)`, from the file alone."""
    return OnlineTracker(load_checkpoint(path, gates=gates).tracker, device)


def _check_classes(recipe: Any) -> None:
    if isinstance(recipe, Mapping):
        if "_target_" in recipe:
            _check_target(recipe["_target_"])
        for value in recipe.values():
            _check_classes(value)
    elif isinstance(recipe, list | tuple):
        for value in recipe:
            _check_classes(value)


def _check_target(target: Any) -> None:
    # A path says little: `trackers.base.np.load` begins like one of ours. So the class itself is asked for its module.
    found = get_object(target) if str(target).startswith("trackers.") else None
    if not isinstance(found, type) or not found.__module__.startswith("trackers."):
        raise CheckpointError(f"a recipe may only build classes of 'trackers', not '{target}'")
