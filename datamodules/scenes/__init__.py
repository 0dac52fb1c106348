"""Training samples that are rendered where the network trains: endless, and fast on a GPU."""

from datamodules.scenes.bank import BankSpec
from datamodules.scenes.look import Look
from datamodules.scenes.module import SceneDataModule

__all__ = ["BankSpec", "Look", "SceneDataModule"]
