"""Checkpoints: a recipe and weights in one safetensors file, from which any parent or child comes back.

The file's header holds JSON: `recipe` (how to build the tracker), `plan` (what was cut from it), `metrics`, and
`config` (the whole run, for the record). Loading builds the architecture without memory, replays the cuts, and takes
the weights strictly. Official checkpoints are read as well (see `official.py`). Nothing that a file holds is ever
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pruning.plan import Plan
from pruning.surgery import compact
from trackers.base import Tracker
from trackers.checkpoints.gate_reading import AS_THEY_ARE, GateReading
from trackers.checkpoints.official_files import read_official
from trackers.contents import CheckpointContents, CheckpointError, load_strictly
from trackers.online import OnlineTracker

log = logging.getLogger(__name__)

FORMAT = "light-weight-trackers/1"
LIBRARY = "pretrained"  # in place of a file: the backbone's pretrained weights, from the library that it comes from


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
    """The tracker that a recipe describes, with fresh weights.

    Raises:
        CheckpointError: the recipe names something outside of `trackers`, which a file must never make us run.
    """
    _only_ours(recipe)
    return instantiate(dict(recipe), _convert_="all")


def read_checkpoint(path: str | Path) -> CheckpointContents:
    """What a file holds, ours or an official one; its content says which.

    Raises:
        CheckpointError: not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path.absolute()}; pass checkpoint=/path/to/a/file")
    with path.open("rb") as file:
        head = file.read(9)
    is_safetensors = head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    return _read_ours(path) if is_safetensors else read_official(path)


def load_checkpoint(
    path: str | Path, recipe: Mapping[str, Any] | None = None, gates: GateReading = AS_THEY_ARE
) -> Checkpoint:
    """Reads any parent or child, ours or official.

    Args:
        path: the file.
        recipe: how to build the tracker, if not as the file says. A pretrained backbone alone (MAE's) needs one.
        gates: how gates in the ICASSP 2023 paper's files are read.

    Raises:
        CheckpointError: not a checkpoint, or its weights are not those of the recipe and plan; names every difference.
    """
    stored = read_checkpoint(path)
    recipe = _recipe_of(stored, path) if recipe is None else dict(recipe)
    if stored.recipe is None:
        tracker = build_tracker(recipe)
        tracker.load_backbone(stored.weights, path)
        return Checkpoint(tracker.eval(), recipe)
    with torch.device("meta"):
        tracker = build_tracker(recipe)
    compact(tracker.network, tracker.groups(), stored.plan)
    load_strictly(tracker.network, stored.weights, path, assign=True)
    tracker.to("cpu")  # where the weights are already, but Lightning remembers the meta device
    plan = stored.plan.then(gates.apply(tracker.network, tracker.groups(), stored.gates))
    for p in tracker.network.parameters():
        p.requires_grad_(True)
    return Checkpoint(tracker.eval(), recipe, plan, stored.metrics, stored.config)


def recipe_of(path: str | Path) -> dict[str, Any]:
    """How a file's tracker is built; errors as those of `load_checkpoint`."""
    return _recipe_of(read_checkpoint(path), path)


def start(recipe: Mapping[str, Any], source: str | Path | None, gates: GateReading = AS_THEY_ARE) -> Checkpoint:
    """What a training starts from.

    Args:
        recipe: how to build the tracker.
        source: a file for `load_checkpoint`; "pretrained" for the library's backbone; None for fresh weights.
        gates: see `load_checkpoint`.
    """
    if source is not None and str(source) != LIBRARY:
        return load_checkpoint(source, recipe, gates)
    tracker = build_tracker(recipe)
    if source is not None:
        tracker.load_backbone(tracker.pretrained_backbone(), LIBRARY)
    return Checkpoint(tracker, dict(recipe))


def load_tracker(
    path: str | Path, device: str | torch.device = "cpu", gates: GateReading = AS_THEY_ARE
) -> OnlineTracker:
    """A tracker ready for `init(image, box)` and `update(image)`, from the file alone."""
    return OnlineTracker(load_checkpoint(path, gates=gates).tracker, device)


def _recipe_of(stored: CheckpointContents, path: str | Path) -> dict[str, Any]:
    if stored.recipe is None:
        raise CheckpointError(
            f"{path} holds a pretrained backbone and no tracker; start a training from it: "
            f"python train.py scale=full checkpoint={path}"
        )
    if stored.note:
        log.info(stored.note)
    return stored.recipe


def _read_ours(path: Path) -> CheckpointContents:
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            weights = {name: _single(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is a damaged safetensors file ({error}); copy it again") from None
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds weights but no recipe of {FORMAT} (found {header.get('format')!r}); "
            "pass a file that train.py or prune.py wrote"
        )
    recipe, plan, metrics, config = (json.loads(header[k]) for k in ("recipe", "plan", "metrics", "config"))
    return CheckpointContents(weights, recipe, Plan.from_dict(plan), metrics=metrics, config=config)


def _single(weight: Tensor) -> Tensor:
    """Files may hold half precision, which is half the size; trackers compute in single."""
    return weight.float() if weight.dtype == torch.float16 else weight


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
    """The object itself is asked where it comes from: `trackers.base.np.load` begins like one of ours."""
    found = get_object(target) if str(target).startswith("trackers.") else None
    if not isinstance(found, type) or not found.__module__.startswith("trackers."):
        raise CheckpointError(f"a recipe may only build classes of 'trackers', not '{target}'")
