"""Saving and loading of trackers: a checkpoint is one safetensors file with a recipe and weights.

The file's header holds JSON: `recipe` (arguments that build the tracker), `plan` (units that the tracker keeps),
`metrics`, and `config` (configuration of the run that wrote the file). Loading builds the architecture on the meta
device, replays the cuts, and loads the weights strictly. Official checkpoints are read as well (see
`official_files.py`). Loading never runs code from a file, and builds classes of `trackers` only (see `recipes.py`).
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pruning.errors import PruningError
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.base import Tracker
from trackers.checkpoints.gate_reading import DEFAULT_READING, GateReading
from trackers.checkpoints.reading import FORMAT, read_checkpoint, recipe_in
from trackers.checkpoints.recipes import build_tracker, check_recipe
from trackers.contents import load_strictly, not_finite
from trackers.errors import CheckpointError, TrackerError

log = logging.getLogger(__name__)

PRETRAINED = "pretrained"  # value of `checkpoint` for the backbone's pretrained weights from timm or torchvision


@dataclass
class Checkpoint:
    """Tracker with its recipe, plan and metrics, as they are stored in one file.

    Attributes:
        tracker: network and recipe in one, on the CPU, in evaluation mode.
        recipe: the `tracker` section of the configuration from which the tracker is built.
        plan: kept units of the network that the recipe builds; empty for a parent.
        metrics: metrics at the time of saving.
        config: configuration of the run that made the tracker.
    """

    tracker: Tracker
    recipe: dict[str, Any]
    plan: Plan = field(default_factory=Plan)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path, half: bool = False) -> Path:
        """Writes the file atomically and returns its path.

        Args:
            path: the file. Its folder is created if it is missing.
            half: whether weights are written in half precision, which halves the size of the file. A tensor with a
                value beyond 65,504 (e.g. a variance of a batch norm) keeps its precision. Loading converts half
                precision to single precision.

        Raises:
            CheckpointError: a weight is NaN or infinite, or the recipe is none. Nothing is written.
            OSError: the file cannot be written, e.g. because the disk is full; the error names it.
        """
        path = Path(path)
        check_recipe(self.recipe)
        fields = {
            "recipe": self.recipe,
            "plan": self.plan.to_dict(),
            "metrics": self.metrics,
            "config": self.config,
        }
        header = {"format": FORMAT} | {name: json.dumps(value) for name, value in fields.items()}
        weights = {n: w.detach().cpu().contiguous().clone() for n, w in self.tracker.network.state_dict().items()}
        if spoilt := not_finite(weights):
            raise CheckpointError(
                f"{path} is not written: NaN or infinite values in {spoilt}. The training diverged; train again "
                "with a lower rate, e.g. tracker.recipe.lr=1e-4 or stages.child.lr_scale=0.1"
            )
        if half:
            weights = {n: _halved(w) for n, w in weights.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            unfinished.touch()
            rights = unfinished.stat().st_mode  # of any new file; safetensors lets only the owner read its files
            save_file(weights, unfinished, metadata=header)
            unfinished.chmod(rights)
            unfinished.replace(path)
        except SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        finally:
            unfinished.unlink(missing_ok=True)
        return path


def _halved(weight: torch.Tensor) -> torch.Tensor:
    """Returns a floating-point tensor in half precision if its values fit; other tensors unchanged."""
    fits = weight.is_floating_point() and (weight.abs() <= torch.finfo(torch.half).max).all()
    return weight.half() if fits else weight


def load_checkpoint(
    path: str | Path, recipe: Mapping[str, Any] | None = None, gates: GateReading = DEFAULT_READING
) -> Checkpoint:
    """Loads a parent or a child from a checkpoint of this project or from an official checkpoint.

    Args:
        path: the file, or a folder with `model.safetensors` (see `shared_folder.py`).
        recipe: the `tracker` section of a configuration; None for the recipe in the file. A file of a pretrained
            backbone (e.g. MAE's) has no recipe, so the argument is needed.
        gates: interpretation of the gates in files of the ICASSP 2023 paper.

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
    tracker = _cut_tracker(recipe, contents.plan, path)
    load_strictly(tracker.network, contents.weights, path, assign=True)
    tracker.to("cpu")  # the weights are on the CPU already, but Lightning still reports the meta device
    if spoilt := not_finite(contents.gates):
        raise CheckpointError(
            f"{path} holds NaN or infinite gates of {spoilt}; its training diverged, or it is damaged"
        )
    plan = contents.plan.followed_by(gates.apply(tracker.network, tracker.groups(), contents.gates))
    for p in tracker.network.parameters():
        p.requires_grad_(True)
    return Checkpoint(tracker.eval(), recipe, plan, contents.metrics, contents.config)


def _cut_tracker(recipe: Mapping[str, Any], plan: Plan, path: str | Path) -> Tracker:
    """Returns the cut tracker of a file on the meta device, without its weights."""
    try:
        with torch.device("meta"):
            tracker = build_tracker(recipe)
        compact(tracker.network, tracker.groups(), plan)
    except TrackerError:
        raise
    except PruningError as error:
        raise CheckpointError(f"the plan in {path} does not fit its recipe: {error}") from error
    except Exception as error:  # arbitrary arguments in a file cause arbitrary exceptions of constructors
        raise CheckpointError(f"the recipe of {path} builds no tracker ({type(error).__name__}: {error})") from error
    return tracker


def initial_checkpoint(
    recipe: Mapping[str, Any], source: str | Path | None, gates: GateReading = DEFAULT_READING
) -> Checkpoint:
    """Builds or loads the tracker with which a training starts.

    Args:
        recipe: the `tracker` section of the configuration.
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
