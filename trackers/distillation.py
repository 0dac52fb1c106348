"""Distillation: losses by which a child also learns the outputs and attention maps of its parent."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trackers.base import Batch, Tracker
from trackers.errors import TrackerError

# Lower bound of a target's mean square in `output_distance`: that of a uniform probability map of 32 x 32 cells.
MIN_POWER = 1e-6


class Teacher:
    """Parent from which a student learns. It is no submodule of the student, so it is not saved, counted or trained.

    Hooks read outputs and features of both networks during a training step, so networks contain no distillation code.

    Args:
        parent: tracker of the student's class; it is frozen and put into evaluation mode.
        outputs: weight of `output_distance`.
        features: weight of `attention_distance` over the modules in `parent.distilled`.

    Raises:
        TrackerError: a weight is negative or not finite, both are 0, or the tracker declares no features.
    """

    def __init__(self, parent: Tracker, outputs: float, features: float):
        for name, weight in (("outputs", outputs), ("features", features)):
            if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
                raise TrackerError(
                    f"distillation.{name}={weight} must be a number, 0 or more; e.g. "
                    f"distillation=parent distillation.{name}=1"
                )
        if not (outputs or features):
            raise TrackerError(
                "distillation.outputs=0 and distillation.features=0 leave nothing to learn from the parent; "
                "set one of them, e.g. distillation.outputs=1, or choose distillation=none"
            )
        if features and not parent.distilled:
            raise TrackerError(
                f"distillation.features={features}, but {type(parent).__name__} names no modules in `distilled`; "
                "choose distillation.features=0"
            )
        # Autocast caches copies of weights that need gradients. Copies made under no_grad would have no gradients.
        self.parent = parent.eval().requires_grad_(False)
        self.outputs, self.features = outputs, features

    def losses(self, student: Tracker, batch: Batch) -> dict[str, Tensor]:
        """Returns the student's losses, with the distillation losses in "total".

        The parent's network runs on the inputs of each call of the student's network, under the same autocast.

        Returns:
            `student.losses(batch)`, and "distill_outputs" and "distill_features" if their weight is not 0. Both are
            returned without their weights; "total" contains them with their weights.

        Raises:
            RuntimeError: `student.losses` did not call the student's network.
        """
        pairs: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = []

        def run_parent(_: nn.Module, args: tuple, kwargs: dict, output: Mapping[str, Tensor]) -> None:
            with torch.no_grad():
                target = self.parent.distillation_targets(self.parent.network(*args, **kwargs))
            pairs.append((student.distillation_targets(output), target))

        paths = self.parent.distilled if self.features else ()
        with _recorded(student.network, paths) as features, _recorded(self.parent.network, paths) as targets:
            hook = student.network.register_forward_hook(run_parent, with_kwargs=True)
            try:
                losses = student.losses(batch)
            finally:
                hook.remove()
        if not pairs:
            raise RuntimeError(f"{type(student).__name__}.losses never called its network: nothing can be distilled")
        parts = {}
        if self.outputs:
            parts["distill_outputs"] = torch.stack([output_distance(s, t) for s, t in pairs]).mean()
        if self.features:
            distances = [attention_distance(s, t) for s, t in zip(features, targets, strict=True)]
            parts["distill_features"] = torch.stack(distances).mean()
        weights = {"distill_outputs": self.outputs, "distill_features": self.features}
        return losses | parts | {"total": losses["total"] + sum(weights[name] * part for name, part in parts.items())}


def output_distance(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Returns the mean over outputs of mean((s - t)^2) / mean(t^2), which does not depend on an output's scale.

    Args:
        student, teacher: outputs of both networks from `Tracker.distillation_targets`, of equal names and shapes.
    """
    distances = []
    for name, target in teacher.items():
        error = (student[name].float() - target.float()).square().mean()
        distances.append(error / target.float().square().mean().clamp_min(MIN_POWER))
    return torch.stack(distances).mean()


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the squared distance, 0 to 2, between attention maps (Zagoruyko and Komodakis, ICLR 2017).

    An attention map is the mean over channels of squared features, divided by its l2 norm for each sample. So the
    networks may have different numbers of channels. Unlike in the paper, the mean over positions is subtracted from the
    features first, because a layer norm gives all positions the same mean square. Positions at which all features of
    one network are zero (eliminated candidates) are left out.

    Args:
        student, teacher: tokens (B, N, C) or maps (B, C, H, W); C may differ.
    """
    student, teacher = _as_tokens(student), _as_tokens(teacher)
    used = student.any(2, keepdim=True) & teacher.any(2, keepdim=True)
    return (_attention(student, used) - _attention(teacher, used)).square().sum(1).mean()


def _as_tokens(features: Tensor) -> Tensor:
    """Converts tokens or maps to tokens (B, N, C) in single precision."""
    return (features.flatten(2).transpose(1, 2) if features.dim() == 4 else features).float()


def _attention(features: Tensor, used: Tensor) -> Tensor:
    """Returns the attention map (B, N) of features (B, N, C) at the positions `used` (B, N, 1); 0 elsewhere."""
    mean = (features * used).sum(1, keepdim=True) / used.sum(1, keepdim=True).clamp_min(1)
    return F.normalize(((features - mean) * used).square().mean(2), dim=1)


@contextmanager
def _recorded(network: nn.Module, paths: Sequence[str]) -> Iterator[list[Tensor]]:
    """Yields a list to which the outputs of the modules at `paths` are appended, in the order of their calls."""
    outputs: list[Tensor] = []

    def record(_: nn.Module, args: tuple, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[0])

    hooks = [network.get_submodule(path).register_forward_hook(record) for path in paths]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
