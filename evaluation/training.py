"""Trains one stage of one tracker."""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from trackers.base import Tracker

RESUME = "resume"


def fit(cfg: DictConfig, tracker: Tracker, name: str, folder: Path, logger: Any, *extra: Callback) -> None:
    """Trains for the stage's steps, if any; an interrupted stage goes on from its last finished epoch.

    Args:
        cfg: the composed configuration; `cfg.stages[name]` is the stage's.
        tracker: trained in place.
        name: "parent", "sparsity" or "child".
        folder: of the stage; what resuming needs lies there until the stage is done.
        logger: Lightning's, or False.
        extra: callbacks besides those of `cfg.callbacks`.

    Raises:
        KeyboardInterrupt: the user stopped it. What was trained is not the stage's result.
    """
    stage = cfg.stages[name]
    if not stage.steps:
        return
    _hush()
    tracker.train()
    tracker.stage, tracker.lr_scale = name, stage.lr_scale
    last = ModelCheckpoint(folder / RESUME, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    callbacks = [*(instantiate(c) for c in cfg.callbacks.values()), *extra, last]
    trainer = instantiate(
        cfg.trainer, max_steps=stage.steps, callbacks=callbacks, logger=logger, default_root_dir=folder
    )
    begun = folder / RESUME / "last.ckpt"
    trainer.fit(tracker, instantiate(cfg.datamodule), ckpt_path=begun if begun.is_file() else None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    shutil.rmtree(folder / RESUME, ignore_errors=True)


def _hush() -> None:
    """Lightning's advertisements and remarks that do not concern us, such as that nothing is validated."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for remark in (
        "Total length of `list`",
        ".*treespec",
        ".*does not have many workers",
        ".*smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", remark)
