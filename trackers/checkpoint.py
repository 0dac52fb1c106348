"""Checkpoints: a recipe and weights in one safetensors file, from which any parent or child comes back.

The file's header holds JSON: `recipe` (how to build the tracker), `plan` (what was cut from it), `metrics`, and
`config` (the whole run, for the record). Loading builds the architecture without memory, replays the cuts, and takes
the weights strictly. Nothing is unpickled, and only classes of `trackers` are built.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pruning.plan import Plan
from pruning.surgery import compact
from trackers.base import Tracker
from trackers.online import OnlineTracker

FORMAT = "light-weight-trackers/1"


class CheckpointError(ValueError):
    """A file that is not a checkpoint of ours, or does not fit what its recipe builds."""


@dataclass
class Checkpoint:
    """A tracker with all that is known about it.

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

    def save(self, path: str | Path) -> Path:
        """Writes the file; whoever reads at the same time sees the old one or the new one."""
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
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        save_file(weights, unfinished, metadata=header)
        unfinished.replace(path)
        return path


def build_tracker(recipe: Mapping[str, Any]) -> Tracker:
    """The tracker that a recipe describes, with fresh weights.

    Raises:
        CheckpointError: the recipe names something outside of `trackers`, which a file must never make us run.
    """
    _only_ours(recipe)
    return instantiate(dict(recipe), _convert_="all")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads any parent or child.

    Raises:
        CheckpointError: not a checkpoint, or its weights are not those of its recipe and plan; names every difference.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path.absolute()}; pass checkpoint=/path/to/a.safetensors")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}); pass one that train.py or prune.py wrote"
        ) from None
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds weights but no recipe of {FORMAT} (found {header.get('format')!r}); "
            "pass a file that train.py or prune.py wrote"
        )
    recipe, plan, metrics, config = (json.loads(header[k]) for k in ("recipe", "plan", "metrics", "config"))
    plan = Plan.from_dict(plan)
    with torch.device("meta"):
        tracker = build_tracker(recipe)
    compact(tracker.network, tracker.groups(), plan)
    _check_weights(tracker, weights, path)
    tracker.network.load_state_dict(weights, strict=True, assign=True)
    for p in tracker.network.parameters():
        p.requires_grad_(True)
    return Checkpoint(tracker.eval(), recipe, plan, metrics, config)


def load_tracker(path: str | Path, device: str | torch.device = "cpu") -> OnlineTracker:
    """A tracker ready for `init(image, box)` and `update(image)`, from the file alone."""
    return OnlineTracker(load_checkpoint(path).tracker, device)


def _check_weights(tracker: Tracker, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    wanted = {name: tuple(w.shape) for name, w in tracker.network.state_dict().items()}
    have = {name: tuple(w.shape) for name, w in weights.items()}
    lines = [f"missing: {name} {wanted[name]}" for name in sorted(wanted.keys() - have.keys())]
    lines += [f"unexpected: {name} {have[name]}" for name in sorted(have.keys() - wanted.keys())]
    lines += [
        f"shape of {name}: {have[name]} in the file, {wanted[name]} by its recipe"
        for name in sorted(wanted.keys() & have.keys())
        if wanted[name] != have[name]
    ]
    if lines:
        shown = "\n  ".join(lines[:12] + ([f"... and {len(lines) - 12} more"] if len(lines) > 12 else []))
        raise CheckpointError(f"{path} holds the weights of another architecture than its recipe describes:\n  {shown}")


def _only_ours(recipe: Any) -> None:
    if isinstance(recipe, Mapping):
        if "_target_" in recipe:
            _check_target(recipe["_target_"])
        for value in recipe.values():
            _only_ours(value)
    elif isinstance(recipe, list | tuple):
        for value in recipe:
            _only_ours(value)


def _check_target(target: Any) -> None:
    """The object itself is asked where it comes from: `trackers.checkpoint.os.system` begins like one of ours."""
    found = get_object(target) if str(target).startswith("trackers.") else None
    if not isinstance(found, type) or not found.__module__.startswith("trackers."):
        raise CheckpointError(f"a recipe may only build classes of 'trackers', not '{target}'")
