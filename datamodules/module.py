"""The Lightning datamodule of annotated videos and pictures, for any reader."""

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation
from datamodules.dataset import TrackingDataset
from datamodules.loading import EpochSampler, build_loader, count_trained_batches, rank_and_world_size
from datamodules.sampling import FrameSampler
from datamodules.sequences.outside import without_outside_boxes
from datamodules.sequences.table import SequenceTable
from datamodules.sources import Mixture, Source, check_disjoint, check_weights, read_sources
from datamodules.workers import choose_workers
from trackers.crops import CropSpec

log = logging.getLogger(__name__)


class TrackingDataModule(L.LightningDataModule):
    """Loads training and validation samples: crops of annotated videos.

    Args:
        train, val: sources of samples, by name.
        template, search: crops of the tracker.
        sampler: chooses the frames of a sample.
        augmentation: changes the crops.
        batch_size: samples in an optimizer step, over all devices and accumulated batches.
        samples_per_epoch: samples of a training epoch, which ends with the last optimizer step that they fill.
        val_samples: samples of a validation; 0 skips validation.
        workers: loader processes; None chooses their number from the machine. Samples do not depend on it.
        seed: seed of all random numbers.
        reduced_decoding: whether a frame is decoded at 1/2, 1/4 or 1/8 if its crops shrink it at least as much.
        device_batch_size: samples that one device takes at once, a part of `batch_size`; None for all of them.
        jobs_at_once: jobs that run on this machine at once and share its cores.

    Raises:
        DataError: a weight of a source is negative, or none is positive.
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
        workers: int | None,
        seed: int,
        reduced_decoding: bool = False,
        device_batch_size: int | None = None,
        jobs_at_once: int = 1,
    ):
        super().__init__()
        self.template, self.search, self.sampler = template, search, sampler
        self.augmentation, self.workers, self.seed = augmentation, workers, seed
        self.reduced_decoding, self.jobs_at_once = reduced_decoding, jobs_at_once
        self.device_batch_size = device_batch_size or batch_size
        self.samples = {"train": samples_per_epoch // batch_size * batch_size, "val": val_samples}
        self.sources, self._tables_read = {"train": train, "val": val}, {}
        self._notes: list[str] = []
        for split, samples in self.samples.items():
            if samples:
                check_weights(self.sources[split])

    def check(self) -> None:
        """Reads all data sets and checks them before training starts. Warns of boxes that lie outside of their picture.

        Raises:
            DataError: a data set in use is missing, broken or too short, or a sequence is used for both training and
                validation.
        """
        for split, samples in self.samples.items():
            if samples:
                self.mixture(split)
        if self.samples["val"]:
            check_disjoint(self._tables("train"), self._tables("val"))
        for note in self._notes:
            log.warning(note)

    def content(self) -> dict[str, Any]:
        """Returns the content of all data in use as plain data for a cache key: weights and tables, in order.

        Raises:
            DataError: a data set is missing or broken.
        """
        return {
            split: [[self.sources[split][name].weight, table.content()] for name, table in self._tables(split).items()]
            for split, samples in self.samples.items()
            if samples
        }

    def mixture(self, split: str) -> Mixture:
        """Returns the usable sequences of a split, "train" or "val".

        Raises:
            DataError: sequences are missing or broken, or all sequences of a source are too short.
        """
        weights = {name: source.weight for name, source in self.sources[split].items()}
        return Mixture(self._tables(split), weights, self.sampler, self.template.count, self.search.count)

    def _tables(self, split: str) -> dict[str, SequenceTable]:
        # Even a cached table takes a second, since all its files are checked for changes.
        if split not in self._tables_read:
            found = {n: without_outside_boxes(t) for n, t in read_sources(split, self.sources[split]).items()}
            self._tables_read[split] = {name: table for name, (table, _) in found.items()}
            for name, (table, note) in found.items():
                parts = f"uses {table.coverage}, which are there" if table.coverage else ""
                self._notes += [f"datamodule.{split}.{name}: {words}" for words in (parts, note) if words]
        return self._tables_read[split]

    def train_dataloader(self) -> DataLoader:
        """Returns a loader with new samples in every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader | list:
        """Returns a loader with the same samples every time, or no loader without validation."""
        return self._loader("val") if self.samples["val"] else []

    def _next_sample(self) -> int:
        """Returns the number of the next training sample."""
        return count_trained_batches(self.trainer) * self.device_batch_size

    def suitable_workers(self) -> int:
        """Returns the number of loader processes that suits the machine."""
        pixels = sum(spec.count * spec.size**2 for spec in (self.template, self.search))
        return choose_workers(self.trainer, self.jobs_at_once, batch_bytes=3 * pixels * self.device_batch_size)

    def _loader(self, split: str) -> DataLoader:
        train, workers = split == "train", self.suitable_workers() if self.workers is None else self.workers
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
        first = self._next_sample if train else lambda: 0
        return build_loader(
            samples,
            EpochSampler(self.samples[split], first, *rank_and_world_size(self.trainer)),
            workers,
            persistent=train,
            batch_size=self.device_batch_size,
            drop_last=train,
            pin_memory=torch.cuda.is_available(),
        )
