"""A training that is interrupted, wherever and however often, ends exactly as an unbroken one."""

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as L
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from evaluation.processes.termination import ends_in_order
from evaluation.study import resuming
from evaluation.study.resuming import AtomicCheckpointIO, checkpoint_to_resume, saved_step
from evaluation.study.training import fit, training_progress
from tests.conftest import CONF, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker

STEPS = 11
SETTINGS = [
    *(*SMALL_WORLD, *SMALL_NETWORK, *SHORT_STAGES),
    *("+tracker.vit.drop_path_rate=0.2", "datamodule.samples_per_epoch=10", "resume_minutes=0", "pruning.every=4"),
    *(f"stages.{stage}.steps={STEPS}" for stage in ("parent", "sparsity")),
]

VALIDATION = [
    *("datamodule.val_samples=2", "datamodule.sampler.min_frames=6"),
    "+callbacks.mine._target_=pytorch_lightning.callbacks.LambdaCallback",  # which may read the losses
]


class PowerCutError(Exception):
    """The lights went out."""


class Witness(L.Callback):
    """Notes what each step sees, sends signals in the middle of some, and cuts the power in the middle of others."""

    def __init__(self, cuts: list[int], signals: dict[int, int] | None = None):
        self.cuts, self.signals, self.seen = cuts, signals or {}, {}

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Tracker, *_: Any) -> None:
        step = trainer.global_step
        if number := self.signals.pop(step, None):
            signal.raise_signal(number)
        if step in self.cuts:
            self.cuts.remove(step)
            raise PowerCutError
        loss = float(trainer.callback_metrics[f"{module.stage}/total"])
        draws = float(torch.rand(())), float(np.random.rand())  # as dropout would
        self.seen[step] = trainer.current_epoch, loss, draws


@pytest.fixture
def settings(cache: Path) -> Callable[..., DictConfig]:
    def composed(*overrides: str) -> DictConfig:
        given = [f"paths.cache={cache}", "paths.job=.", "trainer.accelerator=cpu"]
        with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
            return compose("train", [*SETTINGS, *given, *overrides])

    return composed


def train(
    cfg: DictConfig,
    name: str,
    folder: Path,
    cuts: list[int],
    signals: dict[int, int] | None = None,
    ends: dict[Any, int | None] | None = None,
) -> tuple[dict[str, Tensor], dict[int, Any], Any]:
    """Trains to the end, with a fresh start of everything after each of the cuts and signals.

    `ends` gets the saved step for the exit code of each signal.
    """
    witness, ends = Witness(list(cuts), dict(signals or {})), {} if ends is None else ends
    while True:
        L.seed_everything(cfg.seed, verbose=False)
        tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
        pruning = [instantiate(cfg.pruning, ratio=0.5)] if name == "sparsity" else []
        try:
            fit(cfg, tracker, name, folder, False, *pruning, witness)
        except PowerCutError:
            continue
        except SystemExit as end:
            ends[end.code] = saved_step(folder / "scratch" / "training.ckpt")
            continue
        assert not witness.cuts
        assert not witness.signals
        return tracker.network.state_dict(), witness.seen, pruning[0].plan if pruning else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides", "cuts"),
    [
        # Epochs of 5 batches.
        ("parent", [], [3, 5, 7, 7, 10]),
        ("parent", ["datamodule.workers=1"], [3, 9]),
        # Epochs of 2 steps of two batches each; two of the 10 samples are left over.
        ("parent", ["datamodule.batch_size=4", "datamodule.device_batch_size=2"], [1, 3, 6]),
        ("sparsity", ["pruning=slim"], [5, 10]),  # masks change at 4 and 8, and fade in between
        ("sparsity", ["pruning=taylor", *VALIDATION], [5, 8]),
    ],
)
def test_it_ends_as_an_unbroken_one(settings, tmp_path, name, overrides, cuts):
    cfg = settings(*overrides)
    weights, seen, plan = train(cfg, name, tmp_path / "whole", [])
    others, also_seen, also_plan = train(cfg, name, tmp_path / "broken", cuts)
    assert list(seen) == list(range(STEPS))
    assert also_seen == seen
    assert also_plan == plan
    assert all(torch.equal(weights[k], others[k]) for k in weights)


@pytest.mark.slow
def test_a_signal_ends_it_after_its_step_and_a_power_cut_loses_what_came_after(settings, tmp_path):
    cfg = settings("resume_minutes=10", "datamodule.batch_size=4", "datamodule.device_batch_size=2")  # 2 steps an epoch
    weights, seen, _ = train(cfg, "parent", tmp_path / "whole", [])
    assert not (tmp_path / "whole" / "scratch").exists(), "ten minutes have not passed"
    with ends_in_order():
        signals, ends = {2: signal.SIGTERM, 5: signal.SIGINT}, {}  # within an epoch, and at its end
        others, also_seen, _ = train(cfg, "parent", tmp_path / "broken", [4, 8], signals, ends)
    assert ends == {143: 3, 130: 6}, "the running step is finished"
    assert also_seen == seen
    assert all(torch.equal(weights[k], others[k]) for k in weights)


def test_after_a_resume_the_log_and_the_bar_say_where_it_goes_on(settings, tmp_path, caplog, capsys):
    cfg = settings("callbacks.progress.refresh_rate=1")
    with caplog.at_level(logging.INFO):
        train(cfg, "parent", tmp_path, [3])
    assert "stage parent goes on from step 3 of 11" in caplog.text
    bar = capsys.readouterr().out.replace("\r", "\n").splitlines()
    resumed = next(i for i, line in enumerate(bar) if line.startswith("Epoch 0:  60%") and "| 3/5 [00:00<?" in line)
    assert any("| 4/5 [" in line for line in bar[resumed:])


def test_how_far_it_came_is_known_without_reading_the_weights(settings, tmp_path):
    assert training_progress(tmp_path, STEPS) == ""
    cfg = settings()
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
    with pytest.raises(PowerCutError):
        fit(cfg, tracker, "parent", tmp_path, False, Witness([3]))
    assert training_progress(tmp_path, 70312) == "at step 3 of 70,312"


def test_a_process_that_dies_while_it_writes_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "training.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": 1}, path)

    def half(value, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"global_step": 2}, path)
    assert saved_step(path) == 1


def test_rank_zero_alone_decides_whether_and_where_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "training.ckpt"
    torch.save({"global_step": 4}, path)
    assert checkpoint_to_resume(path) == path

    def rank_zero_says(step: int | None) -> None:
        monkeypatch.setattr(resuming, "broadcast", lambda mine: step)

    rank_zero_says(None)
    assert checkpoint_to_resume(path) is None, "a checkpoint that rank 0 does not see is not resumed by others"
    rank_zero_says(6)
    monkeypatch.setattr(resuming, "VISIBLE_AFTER", 0.0)
    with pytest.raises(RuntimeError, match=r"rank 0 continues from step 6 of .*, and this process sees step 4 there"):
        checkpoint_to_resume(path)
    monkeypatch.setattr(resuming, "VISIBLE_AFTER", 60.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: torch.save({"global_step": 6}, path))  # NFS shows it at last
    assert checkpoint_to_resume(path) == path
