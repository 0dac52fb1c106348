"""Validation: where something reads its losses, after each epoch, and without any effect on what is trained."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from evaluation import loggers
from evaluation.study.training import fit
from tests.conftest import CONF, SHORT_STAGES, SMALL_WORLD
from trackers.checkpoints.checkpoint import build_tracker

VALIDATED = ["datamodule.val_samples=2", "datamodule.sampler.min_frames=6"]


class Validations(L.Callback):
    """Notes the epochs that end with a validation."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs.append(trainer.current_epoch)


@pytest.fixture
def trained(cache: Path, tmp_path: Path) -> Callable[..., tuple[dict[str, Tensor], list[int]]]:
    def train(name: str, logger: Any, *overrides: str) -> tuple[dict[str, Tensor], list[int]]:
        """Trains a tiny DiMP, whose losses draw random numbers, for two epochs; returns weights and validations."""
        given = [*SMALL_WORLD, *SHORT_STAGES, f"paths.cache={cache}", "paths.job=.", "tracker=dimp", *VALIDATED]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [*given, *overrides])
        L.seed_everything(cfg.seed, verbose=False)
        tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
        validations = Validations()
        fit(cfg, tracker, "parent", tmp_path / name, logger, validations)
        return tracker.network.state_dict(), validations.epochs

    return train


def test_a_logger_gets_losses_after_each_epoch_and_the_weights_are_those_without(trained, tmp_path):
    alone, validations = trained("alone", loggers.none(settings={}))
    assert validations == []
    logged, validations = trained("logged", loggers.csv(folder=str(tmp_path), settings={}))
    assert validations == [0, 1]
    (metrics,) = tmp_path.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(metrics.open()) if row["parent/val_total"]]
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    assert all(torch.equal(alone[name], logged[name]) for name in alone)


def test_a_callback_of_the_user_can_read_the_losses(trained):
    _, validations = trained("read", False, "+callbacks.mine._target_=pytorch_lightning.callbacks.LambdaCallback")
    assert validations == [0, 1]
