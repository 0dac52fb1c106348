"""Lightning's Trainer: how it reads a configuration, and what it says."""

import logging
import warnings
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Trainer


def build_trainer(settings: DictConfig | dict[str, Any]) -> Trainer:
    """Lightning's reading of a `trainer` section, to ask it how many processes there will be; it trains nothing."""
    silence_lightning()
    return instantiate(settings, logger=False)


def silence_lightning() -> None:
    """Lightning's advertisements and remarks that do not concern us, such as that nothing is validated."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for remark in (
        "Total length of `list`",
        ".*treespec",
        ".*does not have many workers",
        ".*smaller than the logging interval",
        "You're resuming from a checkpoint that ended before the epoch ended",  # our samples are numbered
    ):
        warnings.filterwarnings("ignore", remark)
