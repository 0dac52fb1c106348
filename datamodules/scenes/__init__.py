"""Training samples that are rendered where the network trains: endless, and fast on a GPU."""

from datamodules.scenes.bank import BankSpec
from datamodules.scenes.module import SceneDataModule
from datamodules.scenes.photo_realism import PhotoRealism

__all__ = ["BankSpec", "PhotoRealism", "SceneDataModule"]
