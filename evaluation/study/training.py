"""Trains one stage of one tracker."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ProgressBar

from evaluation.errors import UserError
from evaluation.processes.command_state import command_state
from evaluation.processes.held_signals import HeldSignals
from evaluation.processes.launching import started_strategy
from evaluation.processes.lightning import silence_lightning
from evaluation.processes.ranks import broadcast, is_rank_zero
from evaluation.study.finite_training import FiniteTraining
from evaluation.study.global_batch import share_batch
from evaluation.study.input_wait import InputWait
from evaluation.study.resuming import ResumeCheckpoint, checkpoint_to_resume, saved_step
from evaluation.study.stage_record import SCRATCH
from trackers.base import Tracker

log = logging.getLogger(__name__)

NO_READERS = (ProgressBar, InputWait)  # callbacks that read no losses of validations


def fit(cfg: DictConfig, tracker: Tracker, stage: str, folder: Path, logger: Any, *extra: Callback) -> None:
    """Trains a tracker in place for the steps of a stage, if there are any.

    An interrupted stage continues from its last checkpoint. There is no validation if neither a logger nor a configured
    callback could read its losses.

    Args:
        cfg: the resolved configuration; `cfg.stages[stage]` describes the stage.
        tracker: the tracker.
        stage: "parent", "sparsity" or "child".
        folder: folder of the stage, where the checkpoint lies until the stage is done.
        logger: a Lightning logger, or False.
        extra: callbacks besides those of `cfg.callbacks`.

    Raises:
        KeyboardInterrupt: the user stopped the training, so the tracker is not the result of the stage.
        UserError: a loss, a gradient or a weight is not finite, the training ended before its last step, or the devices
            cannot share the batch.
    """
    settings = cfg.stages[stage]
    if not settings.steps:
        return
    silence_lightning()
    tracker.train()
    tracker.stage, tracker.lr_scale = stage, settings.lr_scale
    checkpoint, signals = _checkpoint(folder), HeldSignals()
    configured = build_callbacks(cfg.callbacks)
    trainer = instantiate(
        cfg.trainer,
        max_steps=settings.steps,
        strategy=started_strategy(cfg.trainer.strategy),
        # The check comes first, so that no other callback learns from values that are not finite.
        callbacks=[FiniteTraining(), *configured, *extra, ResumeCheckpoint(checkpoint, cfg.resume_minutes, signals)],
        logger=logger,
        default_root_dir=folder,
        # Data modules share samples out between processes. Lightning's sampler would shuffle them as well.
        use_distributed_sampler=False,
    )
    batch = share_batch(cfg.datamodule, trainer)
    trainer.accumulate_grad_batches = batch.accumulated
    unread = {} if _reads_validation(logger, configured) else {"val_samples": 0}
    data = instantiate(cfg.datamodule, device_batch_size=batch.per_device, **unread)
    start = checkpoint_to_resume(checkpoint)
    if is_rank_zero():
        log.info("stage %s: %s", stage, batch)
        if start:
            log.info("stage %s goes on from step %s", stage, _position(saved_step(start), settings.steps))
    resume = {"ckpt_path": start, "weights_only": True} if start else {}
    try:
        with signals, instantiate(cfg.speed).applied(tracker.network, gated=stage == "sparsity"):
            trainer.fit(tracker, data, **resume)
            signals.release_last()
    except BaseException as end:
        # A signal saves at once, and a failure does not.
        saves = "" if isinstance(end, SystemExit) else f" (resume_minutes={cfg.resume_minutes})"
        command_state.step = f"at step {_position(trainer.global_step, settings.steps)}{saves}"
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.global_step < settings.steps:
        raise UserError(
            f"stage {stage} ended after {trainer.global_step} of stages.{stage}.steps={settings.steps} steps, so it is "
            "not finished. Leave out what ends a training early, such as an early-stopping callback, and check that "
            "datamodule.samples_per_epoch holds a batch of datamodule.batch_size"
        )


def build_callbacks(settings: DictConfig) -> list[Callback]:
    """Builds the configured Lightning callbacks; null leaves one out.

    Raises:
        UserError: a section builds no callback.
    """
    built = {}
    for name, section in settings.items():
        if section is None:
            continue
        built[name] = callback = instantiate(section) if isinstance(section, DictConfig) else section
        if not isinstance(callback, Callback):
            raise UserError(
                f"callbacks.{name}={callback} is no Lightning callback; name its class, e.g. "
                f"+callbacks.{name}._target_=pytorch_lightning.callbacks.LearningRateMonitor, or set null"
            )
    return list(built.values())


def training_progress(folder: Path, steps: int) -> str:
    """Returns the progress of an interrupted stage of `steps` steps in words, "" if it has not started."""
    step = saved_step(_checkpoint(folder))
    return "" if step is None else f"at step {_position(step, steps)}"


def _reads_validation(logger: Any, configured: Iterable[Callback]) -> bool:
    """Returns whether the logger or a callback of the user's own can read the losses of a validation."""
    reads = bool(logger) or any(not isinstance(callback, NO_READERS) for callback in configured)
    return broadcast(reads)  # some loggers are in rank 0 alone


def _position(step: int | None, steps: int) -> str:
    return f"{step:,} of {steps:,}"


def _checkpoint(folder: Path) -> Path:
    return folder / SCRATCH / "training.ckpt"
