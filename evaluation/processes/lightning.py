"""Builds the trainer that tells the number of a job's processes, and keeps Lightning from messages and signals."""

import logging
import signal
import warnings
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from evaluation.errors import UserError


def build_trainer(settings: DictConfig | dict[str, Any]) -> Trainer:
    """Returns a trainer that tells the number of a job's processes and starts them. It trains nothing.

    Args:
        settings: the `trainer` section of a configuration.

    Raises:
        UserError: Lightning refuses the settings, or the machine has no such trainer, for example no GPU.
    """
    silence_lightning()
    try:
        trainer = instantiate(settings, logger=False)
    except InstantiationException as error:
        reason = error.__cause__ or error
        raise UserError(f"these settings of `trainer` make no trainer: {type(reason).__name__}: {reason}") from error
    if trainer.precision != settings["precision"]:
        raise UserError(
            f"trainer.precision={settings['precision']} is not for this device: Lightning would train with "
            f"{trainer.precision}; set trainer.precision={trainer.precision}, or trainer=gpu"
        )
    return trainer


class OwnSigterm(Callback):
    """Keeps the handler of SIGTERM that a training was started with.

    Lightning's handler asks all processes of a training to end together, and waits for them. They wait for the process
    that got the signal, so none would end.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the handler back in place of Lightning's, which has been set just before."""
        if signal.getsignal(signal.SIGTERM) is not self._handler:
            signal.signal(signal.SIGTERM, self._handler)


def silence_lightning() -> None:
    """Hides Lightning's advertisements and its warnings that do not concern us, such as the missing validation."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        "Total length of `list`",
        ".*treespec",
        ".*does not have many workers",
        ".*smaller than the logging interval",
        "You're resuming from a checkpoint that ended before the epoch ended",  # samples are numbered, so none repeats
    ):
        warnings.filterwarnings("ignore", message)
