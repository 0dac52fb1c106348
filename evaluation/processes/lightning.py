"""Builds the Lightning trainer that tells the number of a job's processes, and hides messages of Lightning."""

import logging
import warnings
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Trainer

from pruning.errors import UserError


def build_trainer(settings: DictConfig | dict[str, Any]) -> Trainer:
    """Returns a trainer that tells the number of a job's processes and starts them. It trains nothing.

    Args:
        settings: the `trainer` section of a configuration.

    Raises:
        UserError: Lightning refuses the settings, or the machine has no such trainer, for example no GPU.
    """
    silence_lightning()
    try:
        return instantiate(settings, logger=False)
    except InstantiationException as error:
        reason = error.__cause__ or error
        raise UserError(f"these settings of `trainer` make no trainer: {type(reason).__name__}: {reason}") from error


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
