"""The samples of an optimizer step, and how the devices of a training share them."""

from dataclasses import dataclass
from typing import Any

from pytorch_lightning import Trainer

from evaluation.errors import UserError


@dataclass(frozen=True)
class GlobalBatch:
    """Samples of an optimizer step, shared by devices and accumulated batches in equal parts.

    Attributes:
        devices: number of devices that train together, on all machines.
        accumulated: number of batches that a device takes one after the other in a step.
        per_device: samples in one of these batches.
    """

    devices: int
    accumulated: int
    per_device: int

    def __str__(self) -> str:
        size = self.devices * self.accumulated * self.per_device
        devices = f"{self.devices} device{'s' if self.devices > 1 else ''}"
        accumulated = f" x {self.accumulated} accumulated batches" if self.accumulated > 1 else ""
        samples = f"{self.per_device} sample{'s' if self.per_device > 1 else ''}"
        return f"batch of {size}: {devices}{accumulated} x {samples}"


def share_batch(datamodule: Any, trainer: Trainer) -> GlobalBatch:
    """Shares the batch of a configuration: as few accumulated batches as `device_batch_size` allows.

    Args:
        datamodule: the section `datamodule` of the configuration.
        trainer: built from the section `trainer`. It tells how many devices there are.

    Raises:
        UserError: the devices cannot take equal parts. The message names the nearest settings with which they can.
    """
    size, most = datamodule["batch_size"], datamodule["device_batch_size"]
    devices = trainer.num_devices * trainer.num_nodes
    if size % devices:
        raise UserError(_refusal(size, trainer.num_devices, trainer.num_nodes))
    share = size // devices
    accumulated = next(n for n in range(1, share + 1) if share % n == 0 and (most is None or share // n <= most))
    return GlobalBatch(devices, accumulated, share // accumulated)


def check_smallest(batch: GlobalBatch, least: int) -> None:
    """Checks that a device takes as many samples at once as the tracker needs, see `Tracker.smallest_batch`.

    Raises:
        UserError: it takes fewer. The message names settings with which it takes enough.
    """
    if batch.per_device >= least:
        return
    share = batch.accumulated * batch.per_device
    enough = next((n for n in range(least, share + 1) if share % n == 0), None)
    remedy = f"datamodule.device_batch_size={enough}"
    if enough is None:
        fewer = ", or fewer devices" if batch.devices > 1 else ""
        remedy = f"datamodule.batch_size={least * batch.devices} or more with its own tracker.recipe.lr{fewer}"
    raise UserError(f"{batch}; the batch norms of this tracker need {least} samples at once. Set {remedy}")


def _refusal(size: int, devices: int, nodes: int) -> str:
    """Returns a message that names the next smaller number of devices and the nearest batch that work."""
    every = devices * nodes
    nearest = max(1, (size + every // 2) // every) * every
    remedies = [f"datamodule.batch_size={nearest} ({nearest // every} each) and a tracker.recipe.lr that suits it"]
    fewer = next((d for d in range(devices - 1, 0, -1) if size % (d * nodes) == 0), None)
    if fewer is not None:
        remedies.insert(0, f"trainer.devices={fewer} ({size // (fewer * nodes)} samples each)")
    return (
        f"datamodule.batch_size={size}, the samples of an optimizer step, cannot be shared by {every} devices; set "
        + ", or ".join(remedies)
    )
