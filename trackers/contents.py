"""Contents of a checkpoint file before a tracker is built from them, and the strict loading of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.plan import Plan
from trackers.errors import CheckpointError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # types that hold weights as they are


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

    Args:
        module: the module.
        weights: weights by name. Floating-point weights are converted to the precision of the module.
        path: the file that holds the weights, for error messages.
        assign: whether the module takes the given tensors, as a module on the meta device must; else it copies them.

    Raises:
        CheckpointError: a name, a shape or a type does not fit, or a weight is NaN or infinite.
    """
    own = module.state_dict()
    wanted = {name: tuple(w.shape) for name, w in own.items()}
    have = {name: tuple(w.shape) for name, w in weights.items()}
    lines = [f"missing: {name} {wanted[name]}" for name in sorted(wanted.keys() - have.keys())]
    lines += [f"unexpected: {_shown(name)} {have[name]}" for name in sorted(have.keys() - wanted.keys())]
    both = sorted(wanted.keys() & have.keys())
    lines += [
        f"shape of {name}: {have[name]} in the file, {wanted[name]} by the recipe"
        for name in both
        if wanted[name] != have[name]
    ]
    lines += [
        f"type of {name}: {weights[name].dtype} in the file, {own[name].dtype} by the recipe"
        for name in both
        if weights[name].dtype not in (FLOATS if own[name].dtype in FLOATS else (own[name].dtype,))
    ]
    if lines:
        shown = "\n  ".join(lines[:12] + ([f"... and {len(lines) - 12} more"] if len(lines) > 12 else []))
        raise CheckpointError(f"{path} holds the weights of another architecture than the recipe describes:\n  {shown}")
    weights = {name: w.to(own[name].dtype) for name, w in weights.items()}
    if spoilt := not_finite(weights):
        raise CheckpointError(
            f"{path} holds NaN or infinite values in {spoilt}; its training diverged, or it is damaged"
        )
    module.load_state_dict(weights, strict=True, assign=assign)


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """Returns the names of the tensors with NaN or infinite values as words; "" if there are none."""
    names = [name for name, w in weights.items() if w.is_floating_point() and not w.isfinite().all()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more tensors" if len(names) > 3 else "")


def _shown(name: str) -> str:
    """Returns a name from a file for a message: printable, and not longer than a line."""
    return (name if name.isprintable() else ascii(name))[:100]
