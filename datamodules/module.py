"""The Lightning datamodule of annotated videos and pictures, for any reader, and of rendered scenes beside them."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, default_convert

from datamodules.augmentation import Augmentation
from datamodules.crop_camera import apply_cameras, plan_cameras
from datamodules.dataset import TrackingDataset
from datamodules.errors import DataError
from datamodules.loading import EpochSampler, build_loader, count_trained_batches, rank_and_world_size
from datamodules.mixed_batches import MixedBatches, join_batch
from datamodules.sampling import FrameSampler
from datamodules.scenes.rendered_batch import check_crops, render_batch
from datamodules.scenes.source import SceneSource
from datamodules.sequences.outside import without_outside_boxes
from datamodules.sequences.table import SequenceTable
from datamodules.sources import Mixture, Source, check_disjoint, check_weights, read_sources
from datamodules.workers import choose_workers
from trackers.crops import CropSpec

log = logging.getLogger(__name__)


class TrackingDataModule(L.LightningDataModule):
    """Loads training and validation samples: crops of annotated videos. Some of the samples may be rendered scenes.

    Args:
        train, val: sources of samples, by name. At most one of a split is a source of scenes.
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
        DataError: a weight of a source is negative, or none is positive; a split has several sources of scenes; scenes
            cannot be rendered for these crops, or not for all batches.
    """

    def __init__(
        self,
        train: Mapping[str, Source | SceneSource],
        val: Mapping[str, Source | SceneSource],
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
        self.batch_size, self.device_batch_size = batch_size, device_batch_size or batch_size
        self.samples = {"train": samples_per_epoch // batch_size * batch_size, "val": val_samples}
        self.roles = (("template", template), ("search", search))
        self.sources, self.scenes, self._tables_read = {}, {}, {}
        self._notes: list[str] = []
        for split, given in {"train": train, "val": val}.items():
            self.sources[split] = {name: source for name, source in given.items() if isinstance(source, Source)}
            self.scenes[split] = self._find_scenes(split, given) if self.samples[split] else None

    def _find_scenes(self, split: str, given: Mapping[str, Source | SceneSource]) -> SceneSource | None:
        """Checks the weights of a split, and that its scenes can be rendered. Returns its scenes, if it has any."""
        check_weights(given)
        found = {name: s for name, s in given.items() if isinstance(s, SceneSource) and s.weight}
        if not found:
            return None
        if len(found) > 1:
            raise DataError(
                f"datamodule.{split} has several sources of scenes, {' and '.join(found)}; leave all but one out, e.g. "
                f"datamodule.{split}.{[*found][-1]}.weight=0"
            )
        check_crops(self.roles, self.sampler.negatives)
        if self.samples[split] < self.batch_size:
            raise DataError(
                f"{self.samples[split]} {split} samples are fewer than a batch of {self.batch_size}; lower "
                "datamodule.batch_size"
            )
        ((name, scenes),) = found.items()
        return replace(scenes, place=f"{split}.{name}.pictures")

    def setup(self, stage: str) -> None:
        """Makes the bank of pictures that scenes are composed of, unless its file exists; nothing without scenes."""
        self._bank_files = {split: scenes.ensure_bank() for split, scenes in self.scenes.items() if scenes}

    def check(self) -> None:
        """Reads all data sets and checks them before training starts. Warns of boxes that lie outside of their picture.

        Raises:
            DataError: a data set in use is missing, broken or too short, or a sequence is used for both training and
                validation.
        """
        for split, samples in self.samples.items():
            if samples:
                self._check_split(split)
        if self.samples["val"]:
            check_disjoint(self._tables("train"), self._tables("val"))
        for note in self._notes:
            log.warning(note)

    def _check_split(self, split: str) -> None:
        scenes = self.scenes[split]
        if scenes:
            scenes.check()
        if self._tables(split):
            self.mixture(split)

    def content(self) -> dict[str, Any]:
        """Returns the content of all data in use as plain data for a cache key: weights and tables, in order.

        Scenes and changes of crops are contained only if they are in use.

        Raises:
            DataError: a data set is missing or broken.
        """
        return {split: self._content(split) for split, samples in self.samples.items() if samples}

    def _content(self, split: str) -> list:
        content = []
        for name, table in self._tables(split).items():
            source = self.sources[split][name]
            changes = [source.changes._asdict()] if any(source.changes) else []
            content.append([source.weight, table.content(), *changes])
        scenes = self.scenes[split]
        return content + ([[scenes.weight, scenes.content()]] if scenes else [])

    def mixture(self, split: str) -> Mixture:
        """Returns the usable sequences of a split, "train" or "val".

        Raises:
            DataError: sequences are missing or broken, or all sequences of a source are too short.
        """
        weights = {name: source.weight for name, source in self.sources[split].items()}
        changes = {name: source.changes for name, source in self.sources[split].items()}
        return Mixture(self._tables(split), weights, self.sampler, self.template.count, self.search.count, changes)

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

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Prepares a batch for its device: finds the crops that the simulated camera changes."""
        if "search" in batch:
            return plan_cameras(batch)
        prepare = {"scenes": default_convert, "samples": plan_cameras}
        return {name: prepare[name](part) for name, part in batch.items()}

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Renders the scenes of a batch, and applies the simulated camera to its other crops."""
        if "search" in batch:
            return apply_cameras(batch)
        scenes, samples = batch.get("scenes"), batch.get("samples")
        if scenes:
            scenes = render_batch(scenes, self.roles, scenes["bank_file"])
        return join_batch(scenes, samples and apply_cameras(samples))

    def suitable_workers(self) -> int:
        """Returns the number of loader processes that suits the machine."""
        pixels = sum(spec.count * spec.size**2 for spec in (self.template, self.search))
        return choose_workers(self.trainer, self.jobs_at_once, batch_bytes=3 * pixels * self.device_batch_size)

    def _loader(self, split: str) -> DataLoader:
        train, workers = split == "train", self.suitable_workers() if self.workers is None else self.workers
        scenes, size = self.scenes[split], self.device_batch_size
        options = {"persistent": train, "pin_memory": torch.cuda.is_available()}
        if scenes:
            parts = self.batch_size // size
            numbers = self._numbers(train, self.samples[split] // self.batch_size * parts, 1)
            return build_loader(self._mixed(split, scenes, parts), numbers, workers, batch_size=None, **options)
        numbers = self._numbers(train, self.samples[split], size)
        return build_loader(self._dataset(split), numbers, workers, batch_size=size, drop_last=train, **options)

    def _numbers(self, train: bool, count: int, per_batch: int) -> EpochSampler:
        """Returns the numbers of an epoch, of which a device takes `per_batch` in a batch."""
        first = (lambda: count_trained_batches(self.trainer) * per_batch) if train else (lambda: 0)
        return EpochSampler(count, first, *rank_and_world_size(self.trainer))

    def _dataset(self, split: str) -> TrackingDataset:
        return TrackingDataset(
            self.mixture(split),
            self.sampler,
            self.template,
            self.search,
            self.augmentation,
            self.seed,
            split == "train",
            self.reduced_decoding,
        )

    def _mixed(self, split: str, scenes: SceneSource, parts: int) -> MixedBatches:
        tables = self._tables(split)
        weights = [self.sources[split][name].weight for name in tables]
        return MixedBatches(
            scenes,
            self._bank_files[split],
            self.roles,
            scenes.weight / (scenes.weight + sum(weights)),
            self._dataset(split) if tables else None,
            self.batch_size,
            parts,
            self.seed,
            split == "train",
        )
