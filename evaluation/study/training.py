"""Trains one stage of one tracker."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback

from evaluation.processes.lightning import silence_lightning
from evaluation.study.resuming import Resuming, saved_step
from evaluation.study.stage import SCRATCH
from trackers.base import Tracker


def fit(cfg: DictConfig, tracker: Tracker, name: str, folder: Path, logger: Any, *extra: Callback) -> None:
    """Trains for the stage's steps, if any; an interrupted stage goes on from its last checkpoint.

    Args:
        cfg: the composed configuration; `cfg.stages[name]` is the stage's.
        tracker: trained in place.
        name: "parent", "sparsity" or "child".
        folder: of the stage, where the checkpoint lies until the stage is done.
        logger: Lightning's, or False.
        extra: callbacks besides those of `cfg.callbacks`.

    Raises:
        KeyboardInterrupt: the user stopped it. What was trained is not the stage's result.
    """
    stage = cfg.stages[name]
    if not stage.steps:
        return
    silence_lightning()
    tracker.train()
    tracker.stage, tracker.lr_scale = name, stage.lr_scale
    checkpoint = _checkpoint(folder)
    resuming = Resuming(checkpoint, cfg.resume_every)
    callbacks = [*(instantiate(c) for c in cfg.callbacks.values()), *extra, resuming]
    given = {"callbacks": callbacks, "logger": logger, "default_root_dir": folder}
    # Data modules share samples out between processes. Lightning would also shuffle them, each part of an epoch anew.
    trainer = instantiate(cfg.trainer, max_steps=stage.steps, use_distributed_sampler=False, **given)
    begun = {"ckpt_path": checkpoint, "weights_only": True} if checkpoint.is_file() else {}
    trainer.fit(tracker, instantiate(cfg.datamodule), **begun)
    if trainer.interrupted:
        raise KeyboardInterrupt


def progress(folder: Path) -> str:
    """How far a training got that was interrupted in a stage's folder; "" for not at all."""
    step = saved_step(_checkpoint(folder))
    return "" if step is None else f"at step {step}"


def _checkpoint(folder: Path) -> Path:
    return folder / SCRATCH / "training.ckpt"
