"""The Lightning datamodule of rendered scenes: loader processes draw them, the training device renders them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as L
from torch.utils.data import DataLoader, Dataset, default_convert

from datamodules.augmentation import Augmentation
from datamodules.errors import DataError
from datamodules.loading import EpochSampler, build_loader, count_trained_batches, rank_and_world_size
from datamodules.scenes.bank import Bank, BankSpec
from datamodules.scenes.draw import draw_scenes
from datamodules.scenes.photo_realism import PhotoRealism
from datamodules.scenes.rendered_batch import check_crops, load_bank_once, render_batch
from datamodules.scenes.source import SceneSource
from datamodules.sources import Source
from datamodules.workers import choose_workers
from trackers.crops import CropSpec


class SceneDataModule(L.LightningDataModule):
    """Generates training and validation samples from random scenes. It reads a data set only for real pictures.

    Args:
        bank: size and seed of the pictures that scenes are composed of.
        cache: folder in which the bank is stored.
        template, search: crops of the tracker.
        augmentation: probabilities and ranges of gray, mirrored and brighter crops.
        look: properties of photographs that scenes get; None leaves them as they are painted.
        batch_size: samples in an optimizer step, over all devices and accumulated batches.
        samples_per_epoch: samples of a training epoch, which ends with the last optimizer step that they fill.
        val_samples: samples of a validation; 0 skips validation.
        workers: loader processes; None chooses their number from the machine. Samples do not depend on it.
        seed: seed of all random numbers.
        negatives: fraction of negative samples that the tracker's recipe asks for. It must be 0.
        device_batch_size: samples that one device takes at once, a part of `batch_size`; None for all of them.
        jobs_at_once: jobs that run on this machine at once and share its cores.
        pictures: annotated data sets, by name, from which the bank takes its real objects and backdrops.

    Raises:
        DataError: crops with compat="reference", negatives, fewer samples than a batch, or no weight for a source of
            real pictures that the bank takes.
    """

    def __init__(
        self,
        bank: BankSpec,
        cache: str,
        template: CropSpec,
        search: CropSpec,
        augmentation: Augmentation,
        look: PhotoRealism | None,
        batch_size: int,
        samples_per_epoch: int,
        val_samples: int,
        workers: int | None,
        seed: int,
        negatives: float = 0.0,
        device_batch_size: int | None = None,
        jobs_at_once: int = 1,
        pictures: Mapping[str, Source] | None = None,
    ):
        super().__init__()
        self.roles = (("template", template), ("search", search))
        check_crops(self.roles, negatives)
        self.samples = {"train": samples_per_epoch, "val": val_samples}
        for split, samples in self.samples.items():
            if 0 < samples < batch_size:
                raise DataError(
                    f"{samples} {split} samples are fewer than a batch of {batch_size}; lower datamodule.batch_size"
                )
        self.scenes = SceneSource(bank, cache, augmentation, look, weight=1.0, pictures=pictures)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.device_batch_size = device_batch_size or batch_size
        self.jobs_at_once = jobs_at_once

    def check(self) -> None:
        """Reads the data sets of real pictures, if the bank takes any. A missing bank is made in `setup`.

        Raises:
            DataError: a data set is missing or broken.
        """
        self.scenes.check()

    def content(self) -> dict[str, Any]:
        """Returns the content of the bank as plain data for a cache key: the file of one name has always the same.

        Raises:
            DataError: a data set of real pictures is missing or broken.
        """
        return {"bank": self.scenes.bank_name}

    def setup(self, stage: str) -> None:
        """Makes the bank unless its file exists."""
        self._bank_file = self.scenes.ensure_bank()

    def train_dataloader(self) -> DataLoader:
        """Returns a loader with new samples in every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader | list:
        """Returns a loader with the same samples every time, or no loader without validation."""
        return self._loader("val") if self.samples["val"] else []

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Converts arrays to tensors.

        Loaders pass about a hundred small arrays a batch; as tensors, each would hold a file open.
        """
        return default_convert(batch)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Renders a drawn batch. The result has the entries that `trackers.base.Tracker` trains on."""
        return render_batch(batch, self.roles, self._bank_file)

    def _next_batch(self) -> int:
        """Returns the number of the next part of a training batch."""
        return count_trained_batches(self.trainer)

    def suitable_workers(self) -> int:
        """Returns the number of loader processes that suits the machine."""
        return choose_workers(self.trainer, self.jobs_at_once)

    def _loader(self, split: str) -> DataLoader:
        train, parts = split == "train", self.batch_size // self.device_batch_size
        workers = self.suitable_workers() if self.workers is None else self.workers
        drawn = SceneBatches(
            load_bank_once(self._bank_file),
            self.roles,
            self.scenes.augmentation,
            self.scenes.realism,
            self.batch_size,
            parts,
            self.seed,
            train,
        )
        first, count = self._next_batch if train else lambda: 0, self.samples[split] // self.batch_size * parts
        return build_loader(
            drawn,
            EpochSampler(count, first, *rank_and_world_size(self.trainer)),
            workers,
            persistent=train,
            batch_size=None,
            collate_fn=_identity,
        )


class SceneBatches(Dataset):
    """Drawn parts of batches of scenes. The batches depend on the seed and their numbers only, not on their parts.

    Each part draws its whole batch, since drawing is cheap: devices and accumulated batches render different parts.

    Args:
        bank, roles, augmentation, realism: see `draw_scenes`.
        samples: number of samples in a batch.
        parts: number of equal parts of a batch.
        seed: seed of all random numbers.
        train: whether to draw training samples; they differ from validation samples.
    """

    def __init__(
        self,
        bank: Bank,
        roles: tuple[tuple[str, CropSpec], ...],
        augmentation: Augmentation,
        realism: PhotoRealism,
        samples: int,
        parts: int,
        seed: int,
        train: bool,
    ):
        self.bank, self.roles, self.augmentation, self.realism = bank, roles, augmentation, realism
        self.samples, self.parts, self.seed, self.train = samples, parts, seed, train

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns part `index`, counted over all batches. It is not rendered yet; "seed" is the seed of its noise."""
        batch, part = divmod(index, self.parts)
        rng = np.random.default_rng([self.seed, int(self.train), batch])
        rows = slice(part, None, self.parts)
        scenes = draw_scenes(rng, self.samples, self.roles, self.bank, self.augmentation, self.realism, rows)
        return scenes | {"seed": int(rng.integers(2**31)) + part}


def _identity(batch: Any) -> Any:
    return batch
