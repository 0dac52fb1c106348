"""The Lightning datamodule that all data sets share: readers differ, sampling and cropping do not."""

import sys
from abc import ABC, abstractmethod

import cv2
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation
from datamodules.dataset import EpochSampler, TrackingDataset
from datamodules.sampling import FrameSampler
from datamodules.sequences import Sequence
from trackers.crops import CropSpec


class TrackingDataModule(L.LightningDataModule, ABC):
    """Samples of crops from annotated videos.

    Args:
        template, search: the tracker's crops.
        sampler: which frames make a sample.
        augmentation: what happens to the crops.
        batch_size: samples a batch and device.
        samples_per_epoch, val_samples: an epoch's; val_samples=0 trains without validation.
        workers: loader processes. Samples do not depend on their number.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        template: CropSpec,
        search: CropSpec,
        sampler: FrameSampler,
        augmentation: Augmentation,
        batch_size: int,
        samples_per_epoch: int,
        val_samples: int,
        workers: int,
        seed: int,
    ):
        super().__init__()
        self.template, self.search, self.sampler = template, search, sampler
        self.augmentation, self.batch_size, self.workers, self.seed = augmentation, batch_size, workers, seed
        self.samples = {"train": samples_per_epoch, "val": val_samples}

    @abstractmethod
    def read(self, split: str) -> list[Sequence]:
        """The sequences of "train" or "val".

        Raises:
            ValueError: they are missing or broken.
        """

    def check(self) -> None:
        """Raises ValueError if a split that is used is missing, broken or too short: before any training starts."""
        for split, samples in self.samples.items():
            if samples:
                self.sampler.usable(self.read(split), self.template.count, self.search.count)

    def train_dataloader(self) -> DataLoader:
        """New samples every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader | list:
        """The same samples every time."""
        return self._loader("val") if self.samples["val"] else []

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer is not None else 0

    def _loader(self, split: str) -> DataLoader:
        train = split == "train"
        samples = TrackingDataset(
            self.read(split), self.sampler, self.template, self.search, self.augmentation, self.seed, train
        )
        return DataLoader(
            samples,
            self.batch_size,
            sampler=EpochSampler(self.samples[split], self._epoch if train else lambda: 0),
            num_workers=self.workers if train else min(self.workers, 1),
            worker_init_fn=_one_thread,
            # Inside of a joblib worker the default is to start afresh, which costs seconds a stage.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            drop_last=train,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=train and self.workers > 0,
        )


def _one_thread(worker: int) -> None:
    """Workers are the parallelism; threads inside of them would fight for the same cores."""
    cv2.setNumThreads(0)
