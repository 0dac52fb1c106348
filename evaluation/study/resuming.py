"""What an interrupted training needs to end exactly as an unbroken one."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from evaluation.files import replacing


class Resuming(Checkpoint):
    """Keeps a checkpoint of the running training: every so many steps, and after each epoch.

    Lightning puts weights, optimiser, schedule, progress and the state of all callbacks into it, among them masks and
    what the criterion has learned; here the states of all random generators are added, process by process. Samples need
    nothing: they are numbered, see `datamodules.dataset.EpochSampler`. The last step has no checkpoint, as Lightning
    would not end a training that it finds at its end.

    Args:
        path: of the checkpoint; it is replaced as a whole.
        every: steps between two.

    Raises:
        ValueError: `every` is not positive.
    """

    def __init__(self, path: Path, every: int):
        if every < 1:
            raise ValueError(f"resume_every={every} must be at least 1: it is the number of steps between checkpoints")
        self.path, self.every = path, every
        self._saved = 0
        self._generators: list[dict[str, Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the trainer write whole files."""
        trainer.strategy.checkpoint_io = WholeFiles()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the generators' states until all else is built, which draws from them."""
        self._generators = checkpoint["generators"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts the generators where they were."""
        self._saved = trainer.global_step
        if trainer.global_rank < len(self._generators):
            _restore(self._generators[trainer.global_rank])

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Saves between steps, never between accumulated batches; after an epoch's last batch there is more to do."""
        step = trainer.global_step
        if step > self._saved and step % self.every == 0 and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves between epochs."""
        # Processes that train together take an epoch's means together, when somebody asks for them: the progress bar
        # has just asked in the first one, and the others have to before they talk of anything else.
        _ = trainer.callback_metrics
        self._save(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the generators' states of all processes."""
        generators: list[Any] = [_states()]
        if trainer.world_size > 1:
            generators *= trainer.world_size
            torch.distributed.all_gather_object(generators, generators[0])
        checkpoint["generators"] = generators

    def _save(self, trainer: L.Trainer) -> None:
        self._saved = trainer.global_step
        if self._saved < trainer.max_steps:
            trainer.save_checkpoint(self.path, weights_only=False)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there as a whole or not at all, also when a process is killed while it writes one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes beside the file and then takes its place."""
        with replacing(Path(path)) as unfinished:
            torch.save(checkpoint, unfinished)


def saved_step(path: Path) -> int | None:
    """The step that a checkpoint was written at; None without one. Its weights are not read."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"]


def _states() -> dict[str, Any]:
    """Of all generators of this process, as plain data and tensors: such a file is read without executing anything."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (name, keys.tolist(), *rest),
        "python": random.getstate(),
    }


def _restore(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])
