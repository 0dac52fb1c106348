"""Distillation: while it is made, a child also learns from its parent what this one answers, and where it looks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trackers.base import Batch, Tracker

FAINT = 1e-6  # mean square of an output below which it has next to nothing to teach; uniform maps of 32 x 32 reach it


class Teacher:
    """A parent that a student learns from. It is no part of the student: nothing saves, counts or trains it.

    Hooks look into both networks for the length of a training step; their code knows nothing of it.

    Args:
        parent: stays as it is, in evaluation mode. The student is of the same class.
        outputs: weight of `output_distance`.
        features: weight of `attention_distance` of the modules that `parent.distilled` names.

    Raises:
        ValueError: weights that make no sense, or a tracker that names no features to learn.
    """

    def __init__(self, parent: Tracker, outputs: float, features: float):
        for name, weight in (("outputs", outputs), ("features", features)):
            if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
                raise ValueError(
                    f"distillation.{name}={weight} must be a number, 0 or more; e.g. "
                    f"distillation=parent distillation.{name}=1"
                )
        if not (outputs or features):
            raise ValueError(
                "distillation.outputs=0 and distillation.features=0 leave nothing to learn from the parent; "
                "raise one, e.g. distillation.outputs=1, or choose distillation=none"
            )
        if features and not parent.distilled:
            raise ValueError(
                f"distillation.features={features}, but {type(parent).__name__} names no modules in `distilled`; "
                "choose distillation.features=0"
            )
        # Without gradients autocast keeps no copies of the weights, which would lack them.
        self.parent = parent.eval().requires_grad_(False)
        self.outputs, self.features = outputs, features

    def losses(self, student: Tracker, batch: Batch) -> dict[str, Tensor]:
        """The student's losses, with those of distillation in "total".

        The parent runs on whatever the student's network is called with, under the same autocast.

        Returns:
            `student.losses(batch)`, and by weight "distill_outputs" and "distill_features", without their weights.
        """
        answers: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = []

        def ask(_: nn.Module, args: tuple, kwargs: dict, output: Mapping[str, Tensor]) -> None:
            with torch.no_grad():
                wanted = self.parent.distillation_targets(self.parent.network(*args, **kwargs))
            answers.append((student.distillation_targets(output), wanted))

        paths = self.parent.distilled if self.features else ()
        with _watched(student.network, paths) as own, _watched(self.parent.network, paths) as taught:
            asking = student.network.register_forward_hook(ask, with_kwargs=True)
            try:
                losses = student.losses(batch)
            finally:
                asking.remove()
        if not answers:
            raise RuntimeError(f"{type(student).__name__}.losses never called its network: nothing can be distilled")
        parts = {}
        if self.outputs:
            parts["distill_outputs"] = torch.stack([output_distance(s, t) for s, t in answers]).mean()
        if self.features:
            pairs = zip(own, taught, strict=True)
            parts["distill_features"] = torch.stack([attention_distance(s, t) for s, t in pairs]).mean()
        weights = {"distill_outputs": self.outputs, "distill_features": self.features}
        return losses | parts | {"total": losses["total"] + sum(weights[name] * part for name, part in parts.items())}


def output_distance(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """The mean over outputs of mean((s - t)^2) / mean(t^2), in which the scale of none counts.

    Args:
        student, teacher: outputs of both networks, as `Tracker.distillation_targets` returns them: tensors of equal
            names and shapes.
    """
    distances = []
    for name, wanted in teacher.items():
        error = (student[name].float() - wanted.float()).square().mean()
        distances.append(error / wanted.float().square().mean().clamp_min(FAINT))
    return torch.stack(distances).mean()


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Attention transfer (Zagoruyko and Komodakis, ICLR 2017), of features around their mean position.

    The attention map is the mean over channels of squares, with l2 norm 1 for each sample; the distance is the squared
    one, between 0 and 2. It needs no matching of channels. Unlike the paper's features, ours may come out of a layer
    norm, which gives every position the same square: what they have in common over all positions is taken off first.
    Positions where either network saw nothing (all zero, as eliminated candidates are) are left out.

    Args:
        student, teacher: tokens (B, N, C) or maps (B, C, H, W), of any C each.
    """
    own, taught = _positions(student), _positions(teacher)
    seen = own.any(2, keepdim=True) & taught.any(2, keepdim=True)
    return (_attention(own, seen) - _attention(taught, seen)).square().sum(1).mean()


def _positions(features: Tensor) -> Tensor:
    """Tokens or maps to (B, N, C) in single precision."""
    return (features.flatten(2).transpose(1, 2) if features.dim() == 4 else features).float()


def _attention(features: Tensor, seen: Tensor) -> Tensor:
    """Features (B, N, C), of which those `seen` (B, N, 1) count, to a map (B, N)."""
    common = (features * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp_min(1)
    return F.normalize(((features - common) * seen).square().mean(2), dim=1)


@contextmanager
def _watched(network: nn.Module, paths: Sequence[str]) -> Iterator[list[Tensor]]:
    """The features of the modules at `paths`, in the order of their calls in the block."""
    seen: list[Tensor] = []

    def remember(_: nn.Module, args: tuple, output: Tensor | tuple[Tensor, ...]) -> None:
        seen.append(output if isinstance(output, Tensor) else output[0])

    hooks = [network.get_submodule(path).register_forward_hook(remember) for path in paths]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
