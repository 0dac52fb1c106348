"""Measures whether a training waits for its data, and says what helps."""

import logging
import os
from typing import Any

import pytorch_lightning as L

from datamodules.module import TrackingDataModule
from datamodules.wait_meter import MeasuredLoader
from datamodules.workers import usable_cores

log = logging.getLogger(__name__)

WARM_UP = 20.0  # seconds that are not measured: loader processes start, and libraries choose their kernels
FIRST = 60.0  # seconds of the first measurement, after which a message says if the wait is long
LATER = 600.0  # seconds of each later measurement
LONG = 0.1  # share of the time from which a wait is worth a message


class InputWait(L.Callback):
    """Callback that measures which share of the time of a training stage is a wait for data.

    It logs the share as the metric `<stage>/input_wait`, after 80 seconds and then every ten minutes. If the first
    share is large, one message names the settings that help. Validations do not count. Only loaders with a `meter` are
    measured, see `MeasuredLoader`; measuring reads a clock twice a batch.

    This is the wait of the host. On a GPU the host waits for the device before each optimizer step (`FiniteTraining`),
    so hardly any work is left on the device while the host waits for data, and both waits are nearly the same. If
    several processes train together, rank 0 measures itself; it cannot tell a wait for another process from work.
    """

    def __init__(self) -> None:
        self._loader: MeasuredLoader | None = None
        self._start: tuple[float, ...] | None = None
        self._told = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begins the warm-up."""
        loader = trainer.train_dataloader
        self._loader = loader if isinstance(loader, MeasuredLoader) and trainer.is_global_zero else None
        self._start, self._told = None, False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock."""
        if self._loader is not None:
            self._loader.meter.pause()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock again."""
        if self._loader is not None:
            self._loader.meter.resume()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any) -> None:
        """Ends a measurement when its time is over, and begins the next one."""
        if self._loader is None:
            return
        meter = self._loader.meter
        now = meter.waited, meter.worked, meter.batches
        if self._start is None:
            self._start = now if sum(now[:2]) >= WARM_UP else None
            return
        waited, worked, batches = (after - before for after, before in zip(now, self._start, strict=True))
        if waited + worked < (LATER if self._told else FIRST):
            return
        module: Any = pl_module
        share = waited / (waited + worked)
        for logger in trainer.loggers:
            logger.log_metrics({f"{module.stage}/input_wait": share}, step=trainer.global_step)
        if not self._told and share > LONG:
            log.warning(_message(trainer, module.stage, self._loader, waited, worked, int(batches)))
        self._start, self._told = now, True


def _message(trainer: L.Trainer, stage: str, loader: MeasuredLoader, waited: float, worked: float, batches: int) -> str:
    data: Any = trainer.datamodule  # pyrefly: ignore[missing-attribute]  Lightning sets it in `fit`
    samples, suitable = batches * data.device_batch_size * trainer.world_size, data.suitable_workers()
    remedies = []
    if suitable > loader.num_workers:
        remedies.append(f"set datamodule.workers={suitable} instead of {loader.num_workers}")
    if isinstance(data, TrackingDataModule):
        remedies.append("prepare the data set, if it is not yet: python -m datamodules.prepare SOURCE DESTINATION")
    on_slurm = ", e.g. with a larger hydra.launcher.cpus_per_task" if "SLURM_JOB_ID" in os.environ else ""
    remedies.append(f"train where a process may use more than {usable_cores()} cores{on_slurm}")
    return (
        f"stage {stage}: the device waits for data {waited / (waited + worked):.0%} of the time. It trains on "
        f"{samples / (waited + worked):.0f} samples/s and could train on {samples / worked:.0f}. What helps: "
        f"{'; or '.join(remedies)}"
    )
