"""Endless training samples without data sets: loader processes draw random scenes, the training device renders them."""

from datamodules.scenes.bank import BankSpec
from datamodules.scenes.module import SceneDataModule
from datamodules.scenes.photo_realism import PhotoRealism
from datamodules.scenes.source import SceneSource

__all__ = ["BankSpec", "PhotoRealism", "SceneDataModule", "SceneSource"]
