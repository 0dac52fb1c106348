"""The Lightning datamodule that all data sets share: readers differ, sampling and cropping do not."""

import sys
from collections.abc import Mapping

import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation
from datamodules.dataset import EpochSampler, TrackingDataset, batches_so_far, one_thread, share_of
from datamodules.sampling import FrameSampler
from datamodules.sequences.table import SequenceTable
from datamodules.sources import Mixture, Source, check_apart, check_weights
from trackers.crops import CropSpec


class TrackingDataModule(L.LightningDataModule):
    """Samples of crops from annotated videos.

    Args:
        train, val: where samples come from, by name.
        template, search: the tracker's crops.
        sampler: which frames make a sample.
        augmentation: what happens to the crops.
        batch_size: samples a batch and device.
        samples_per_epoch, val_samples: an epoch's; val_samples=0 trains without validation.
        workers: loader processes. Samples do not depend on their number.
        seed: of all that is drawn.
        reduced_decoding: whether frames are decoded smaller where their crops shrink them by 2 or more anyway.

    Raises:
        ValueError: weights of sources make no sense.
    """

    def __init__(
        self,
        train: Mapping[str, Source],
        val: Mapping[str, Source],
        template: CropSpec,
        search: CropSpec,
        sampler: FrameSampler,
        augmentation: Augmentation,
        batch_size: int,
        samples_per_epoch: int,
        val_samples: int,
        workers: int,
        seed: int,
        reduced_decoding: bool = False,
    ):
        super().__init__()
        self.template, self.search, self.sampler = template, search, sampler
        self.augmentation, self.batch_size, self.workers, self.seed = augmentation, batch_size, workers, seed
        self.reduced_decoding = reduced_decoding
        self.samples = {"train": samples_per_epoch, "val": val_samples}
        self.sources, self._read = {"train": train, "val": val}, {}
        for split, samples in self.samples.items():
            if samples:
                check_weights(self.sources[split])

    def check(self) -> None:
        """Finds out before any training starts what would fail in it.

        Raises:
            ValueError: a split that is used is missing, broken or too short, or one is validated on that is trained on.
        """
        for split, samples in self.samples.items():
            if samples:
                self.mixture(split)
        if self.samples["val"]:
            check_apart(self._tables("train"), self._tables("val"))

    def mixture(self, split: str) -> Mixture:
        """The usable sequences of "train" or "val".

        Raises:
            ValueError: some are missing or broken, or all of a source are too short.
        """
        weights = {name: source.weight for name, source in self.sources[split].items()}
        return Mixture(self._tables(split), weights, self.sampler, self.template.count, self.search.count)

    def _tables(self, split: str) -> dict[str, SequenceTable]:
        """Read once: even a remembered first look is a second or so, as it checks that nothing has changed."""
        if split not in self._read:
            self._read[split] = {name: s.read() for name, s in self.sources[split].items() if s.weight}
        return self._read[split]

    def train_dataloader(self) -> DataLoader:
        """New samples every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader | list:
        """The same samples every time."""
        return self._loader("val") if self.samples["val"] else []

    def _position(self) -> int:
        """The number of the next training sample."""
        return batches_so_far(self.trainer) * self.batch_size

    def _loader(self, split: str) -> DataLoader:
        train = split == "train"
        samples = TrackingDataset(
            self.mixture(split),
            self.sampler,
            self.template,
            self.search,
            self.augmentation,
            self.seed,
            train,
            self.reduced_decoding,
        )
        return DataLoader(
            samples,
            self.batch_size,
            sampler=EpochSampler(self.samples[split], self._position if train else lambda: 0, *share_of(self.trainer)),
            num_workers=self.workers if train else min(self.workers, 1),
            worker_init_fn=one_thread,
            # Inside of a joblib worker the default is to start afresh, which costs seconds a stage.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            drop_last=train,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=train and self.workers > 0,
            # Of its own: from the global one each epoch would draw a number that nobody uses, but not a resumed epoch.
            generator=torch.Generator(),
        )
