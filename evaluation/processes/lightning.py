"""Builds the trainer that tells the number of a job's processes, and keeps Lightning from messages."""

import logging
import warnings
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Trainer

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
