"""Contents of a checkpoint file before a tracker is built from them, and the strict loading of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pruning.errors import UserError
from pruning.plan import Plan


class CheckpointError(UserError):
    """Error of a file that is not a checkpoint, or whose weights do not fit the tracker that is built."""


@dataclass
class CheckpointContents:
    """Contents of a checkpoint of this project or of an official checkpoint.

    Attributes:
        weights: weights by parameter name.
        recipe: the `tracker` section of the configuration; None if the file holds a pretrained backbone alone.
        plan: the units that the tracker keeps; `weights` are cut to it.
        gates: gate values by group name, each (size,), in files of the ICASSP 2023 paper; else empty.
        metrics: metrics at the time of saving.
        config: configuration of the run that wrote the file. Nothing is built from it.
        note: assumptions about an official file that the log reports; "" if there are none.
    """

    weights: Mapping[str, Tensor]
    recipe: dict[str, Any] | None = None
    plan: Plan = field(default_factory=Plan)
    gates: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], path: str | Path, assign: bool = False) -> None:
    """Loads a state dict and names every difference if it does not fit.

    Raises:
        CheckpointError: a name or a shape does not fit.
    """
    wanted = {name: tuple(w.shape) for name, w in module.state_dict().items()}
    have = {name: tuple(w.shape) for name, w in weights.items()}
    lines = [f"missing: {name} {wanted[name]}" for name in sorted(wanted.keys() - have.keys())]
    lines += [f"unexpected: {name} {have[name]}" for name in sorted(have.keys() - wanted.keys())]
    lines += [
        f"shape of {name}: {have[name]} in the file, {wanted[name]} by the recipe"
        for name in sorted(wanted.keys() & have.keys())
        if wanted[name] != have[name]
    ]
    if lines:
        shown = "\n  ".join(lines[:12] + ([f"... and {len(lines) - 12} more"] if len(lines) > 12 else []))
        raise CheckpointError(f"{path} holds the weights of another architecture than the recipe describes:\n  {shown}")
    module.load_state_dict(weights, strict=True, assign=assign)
