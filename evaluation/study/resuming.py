"""Checkpoints from which an interrupted training continues and ends exactly as an uninterrupted one."""

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from evaluation.files import atomic_write
from evaluation.processes.held_signals import SAVE, HeldSignals, most_urgent
from evaluation.processes.ranks import broadcast, is_rank_zero

# Machines of one job may see a file of another machine late: NFS caches attributes for up to a minute.
VISIBLE_AFTER = 120.0  # seconds


class ResumeCheckpoint(Checkpoint):
    """Saves a checkpoint of the running training every few minutes, and before a signal ends the training.

    Lightning saves weights, optimiser, schedule, progress and the states of all callbacks, such as masks and what the
    criterion has learned. This class adds the states of all random generators of all processes. Samples need no state:
    they are numbered, see `datamodules.loading.EpochSampler`. The last step has no checkpoint, because Lightning would
    not end a training that it resumes at its end.

    Args:
        path: path of the checkpoint file, which is replaced as a whole.
        minutes: time between two checkpoints, by the clock of rank 0; 0 saves after every step.
        signals: the signals that end the training.
    """

    def __init__(self, path: Path, minutes: float, signals: HeldSignals):
        self.path, self.seconds, self.signals = path, 60 * minutes, signals
        self._step = 0
        self._saved_at = 0.0
        self._generators: list[dict[str, Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the trainer write files atomically."""
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the states of the generators until everything that draws from them is built."""
        self._generators = checkpoint["generators"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restores the generators, and takes back the handler of SIGTERM, which Lightning has replaced just before.

        Lightning's handler asks all processes of a training to end together, and waits for them. They wait for the
        process that got the signal, so none would end.
        """
        self.signals.hold()
        self._step, self._saved_at = trainer.global_step, time.monotonic()
        if trainer.global_rank < len(self._generators):
            _restore_generators(self._generators[trainer.global_rank])

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Saves between steps, never between accumulated batches; `on_train_epoch_end` saves after the last batch."""
        if trainer.global_step > self._step and not trainer.is_last_batch:
            self._end_step(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves between epochs."""
        # Reading the metrics reduces the means of an epoch over all processes. The progress bar has just read them in
        # rank 0, so the other processes must read them before they take part in any other communication.
        _ = trainer.callback_metrics
        self._end_step(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the states of the generators of all processes."""
        generators: list[Any] = [_generator_states()]
        if trainer.world_size > 1:
            generators *= trainer.world_size
            torch.distributed.all_gather_object(generators, generators[0])
        checkpoint["generators"] = generators

    def _end_step(self, trainer: L.Trainer) -> None:
        """Saves if it is time or if any process got a signal, and then does what the signal asks for."""
        self._step = trainer.global_step
        if self._step >= trainer.max_steps:
            return
        is_due = is_rank_zero() and time.monotonic() - self._saved_at >= self.seconds
        number = most_urgent(self.signals.pending or (SAVE if is_due else 0))
        if number:
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved_at = time.monotonic()
        if number not in (0, SAVE):
            self.signals.release(number)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that are complete or missing, also when a process is killed while it writes one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a temporary file and then replaces the checkpoint with it."""
        # To a path, PyTorch writes by itself and does not say why it fails.
        with atomic_write(Path(path)) as unfinished, unfinished.open("wb") as file:
            torch.save(checkpoint, file)


def saved_step(path: Path) -> int | None:
    """Returns the step at which a checkpoint was written, None if there is no file. Its weights are not read."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"]


def checkpoint_to_resume(path: Path) -> Path | None:
    """Returns the checkpoint from which all processes of the job continue, None to begin. Rank 0 decides for all.

    Raises:
        RuntimeError: a process does not see the checkpoint that rank 0 sees.
    """
    step = broadcast(saved_step(path))
    if step is None:
        return None
    deadline = time.monotonic() + VISIBLE_AFTER
    while (seen := saved_step(path)) != step:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"rank 0 continues from step {step} of {path}, and this process sees step {seen} there; all machines "
                "of a job must share the cache"
            )
        time.sleep(1)
    return path


def _generator_states() -> dict[str, Any]:
    """Returns the states of all generators of this process as plain data, so that reading them executes nothing."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (name, keys.tolist(), *rest),
        "python": random.getstate(),
    }


def _restore_generators(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])
