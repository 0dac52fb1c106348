"""Stops a training whose numbers are no longer finite, before they reach the weights or a checkpoint."""

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor

from evaluation.errors import UserError

log = logging.getLogger(__name__)

MAX_SKIPPED = 24  # steps in a row; a loss scaler starts at 2^16 and halves at each of them
MAX_NAMES = 3  # number of names in a message


class FiniteTraining(L.Callback):
    """Callback that ends a training at the first loss or gradient that is NaN or infinite.

    Each step is checked before the optimizer changes the weights. All values are reduced to one number, so a step waits
    for the device once. No checkpoint with a non-finite weight, statistic or optimizer state is written; the last good
    one stays.

    With precision 16-mixed, single gradients overflow. The loss scaler then skips the step and lowers its scale. Such
    steps are counted, and only more than `MAX_SKIPPED` of them in a row are an error.

    Attributes:
        skipped: number of steps that the loss scaler has skipped.
    """

    def __init__(self) -> None:
        self.skipped, self._in_a_row = 0, 0
        self._loss, self._batches = torch.zeros(()), 0

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Adds up the losses of the accumulated batches of a step."""
        self._loss, self._batches = self._loss + loss.detach(), self._batches + 1

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any) -> None:
        """Checks the loss and the gradients of a step.

        Raises:
            UserError: one of them is not finite, in any of the processes that train together.
        """
        loss, batches = self._loss, self._batches
        self._loss, self._batches = torch.zeros(()), 0
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None and p.grad.numel()]
        loss_is_finite, finite = torch.stack([torch.isfinite(loss), _all_finite([loss, *gradients])]).tolist()
        if trainer.world_size > 1:
            loss_is_finite, finite = (
                trainer.strategy.reduce_boolean_decision(decision) for decision in (loss_is_finite, finite)
            )
        if finite:
            self._in_a_row = 0
        elif _has_scaler(trainer) and loss_is_finite and self._in_a_row < MAX_SKIPPED:
            self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        else:
            raise UserError(_describe_step(trainer, pl_module, batches))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuses to write a checkpoint with values that are not finite, so that the last good one stays."""
        values = {"weights": checkpoint["state_dict"], "optimizer": checkpoint["optimizer_states"]}
        stage: Any = pl_module.stage
        check_finite(stage, values, trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checks the trained network and its optimizer, and tells how many steps the loss scaler has skipped.

        Raises:
            UserError: a value is not finite, or every step was skipped.
        """
        module: Any = pl_module
        stage, step = module.stage, trainer.global_step
        states = [optimizer.state_dict()["state"] for optimizer in trainer.optimizers]
        check_finite(stage, {"network": module.network.state_dict(), "optimizer": states}, step)
        if not self.skipped:
            return
        skipped = f"the loss scaler of trainer.precision={trainer.precision} skipped {self.skipped} steps"
        if self.skipped >= step:
            raise UserError(f"stage {stage}, step {step}: {skipped}, so nothing was trained. {_remedy(stage)}")
        log.warning("stage %s, step %d: %s, as their gradients overflowed", stage, step, skipped)

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of skipped steps."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the result of `state_dict`."""
        self.skipped = state_dict["skipped"]


def check_finite(stage: str, values: Any, step: int | None = None) -> None:
    """Checks all floating-point tensors in nested mappings and lists.

    Args:
        stage: "parent", "sparsity" or "child"; the stage that computed the values.
        values: the tensors; other values are ignored.
        step: step of the training, if one is running.

    Raises:
        UserError: a tensor holds NaN or infinity.
    """
    tensors = dict(_tensors(values))
    if tensors and not _all_finite(list(tensors.values())):
        where = f"stage {stage}" + ("" if step is None else f", step {step}")
        raise UserError(
            f"{where}: {_join(_not_finite(tensors))} not finite, so this state is not kept. {_remedy(stage)}"
        )


def _remedy(stage: str) -> str:
    return (
        f"Lower stages.{stage}.lr_scale or tracker.recipe.lr, set tracker.recipe.clip=0.1, or train with "
        "trainer.precision=32-true"
    )


def _all_finite(tensors: list[Tensor]) -> Tensor:
    """Returns whether all values of floating-point tensors are finite, () bool."""
    # The largest absolute value is NaN or infinite if any value is. Unlike a sum of squares it cannot overflow.
    by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        by_kind.setdefault((tensor.device, tensor.dtype), []).append(tensor.detach())
    largest = [torch.stack(torch._foreach_norm(same, torch.inf)) for same in by_kind.values()]
    return torch.stack([norms.isfinite().all().to(tensors[0].device) for norms in largest]).all()


def _tensors(values: Any, path: str = "") -> list[tuple[str, Tensor]]:
    """Returns all floating-point tensors with values, with their dotted paths."""
    if isinstance(values, Tensor):
        return [(path, values)] if values.is_floating_point() and values.numel() else []
    if isinstance(values, Mapping):
        items = values.items()
    elif isinstance(values, list | tuple):
        items = enumerate(values)
    else:
        return []
    return [found for key, value in items for found in _tensors(value, f"{path}.{key}" if path else str(key))]


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]


def _describe_step(trainer: L.Trainer, module: Any, batches: int) -> str:
    """Returns a message that names the step, its batches, and the losses or parameters that are not finite."""
    losses = {k.removeprefix(f"{module.stage}/"): v for k, v in trainer.callback_metrics.items()}
    gradients = {name: p.grad for name, p in module.network.named_parameters() if p.grad is not None}
    # The total comes last, because its parts say more.
    wrong = sorted([f"loss {name}" for name in _not_finite(losses)], key="loss total".__eq__)
    wrong = wrong or [f"gradient of {name}" for name in _not_finite(gradients)] or ["loss of another process"]
    last = trainer.fit_loop.total_batch_idx
    first = last - batches + 1
    data = trainer.datamodule  # pyrefly: ignore[missing-attribute]  Lightning sets it in `fit`
    size = getattr(data, "device_batch_size", 1) * trainer.world_size
    place = f"batch {last}" if batches == 1 else f"batches {first} to {last}"
    return (
        f"stage {module.stage}, step {trainer.global_step} ({place}, samples {first * size} to "
        f"{(last + 1) * size - 1}): {_join(wrong)} not finite, so the training stops. Its last checkpoint is kept. "
        f"{_remedy(module.stage)}"
    )


def _join(names: list[str]) -> str:
    """Returns the first names and the number of the others, with their verb."""
    more = len(names) - MAX_NAMES
    listed = ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
    return f"{listed} {'is' if len(names) == 1 else 'are'}"


def _has_scaler(trainer: L.Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None
