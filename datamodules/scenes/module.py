"""The datamodule of rendered scenes: loaders draw them, the device of the training renders them."""

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, default_convert

from datamodules.augmentation import Augmentation
from datamodules.dataset import EpochSampler, batches_so_far, one_thread, share_of
from datamodules.scenes.bank import Bank, BankSpec, ensure_bank, load_bank
from datamodules.scenes.draw import draw
from datamodules.scenes.photo_realism import PhotoRealism
from datamodules.scenes.render import Renderer
from trackers.crops import CropSpec


class SceneDataModule(L.LightningDataModule):
    """Samples that no picture file is read for: what they show is drawn by loaders and rendered on the device.

    Args:
        bank: what scenes are made of.
        cache: folder where it is kept.
        template, search: the tracker's crops.
        augmentation: how often crops are gray, mirrored, brighter.
        look: how much of a photograph there is in them; None for scenes as they are painted.
        batch_size: samples a batch and device.
        samples_per_epoch, val_samples: an epoch's; val_samples=0 trains without validation.
        workers: loader processes. Samples do not depend on their number.
        seed: of all that is drawn.
        negatives: what the tracker asks for; scenes have none.

    Raises:
        ValueError: crops of the originals' kind, negatives, or fewer samples than a batch.
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
        workers: int,
        seed: int,
        negatives: float = 0.0,
    ):
        super().__init__()
        if negatives:
            raise ValueError(f"scenes always show the target, so tracker.recipe.negatives={negatives} must be 0")
        for name, spec in (("template", template), ("search", search)):
            if spec.compat != "exact":
                raise ValueError(
                    f"scenes are rendered for exact crops, not {spec.compat}; set tracker.{name}.compat=exact"
                )
        self.samples = {"train": samples_per_epoch, "val": val_samples}
        for split, samples in self.samples.items():
            if 0 < samples < batch_size:
                raise ValueError(
                    f"{samples} samples of {split} make no batch of {batch_size}; lower datamodule.batch_size"
                )
        self.bank, self.cache, self.augmentation = bank, Path(cache), augmentation
        self.look = look or PhotoRealism()
        self.roles = (("template", template), ("search", search))
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def check(self) -> None:
        """Nothing can be missing: what is not there yet is made."""

    def setup(self, stage: str) -> None:
        """Paints the bank, or finds it."""
        self._file = ensure_bank(self.bank, self.cache)

    def train_dataloader(self) -> DataLoader:
        """New samples every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader | list:
        """The same samples every time."""
        return self._loader("val") if self.samples["val"] else []

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Loaders pass arrays: a drawn batch is a hundred small ones, and every tensor would cost an open file."""
        return default_convert(batch)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Renders a drawn batch, which becomes what `Tracker` says."""
        device = batch["search"]["box"].device
        render = _renderer(self._file, device)
        generator = torch.Generator(device).manual_seed(batch["seed"])
        result = {}
        for role, spec in self.roles:
            scene = batch[role]
            result[role] = render(scene, spec.size, spec.repeats_border, generator)
            result |= {f"{role}_box": scene["box"], f"{role}_padding": scene["padding"]}
        return result | {"present": torch.ones_like(result["search_box"][..., 0])}

    def _position(self) -> int:
        """The number of the next training batch."""
        return batches_so_far(self.trainer)

    def _loader(self, split: str) -> DataLoader:
        train, batches = split == "train", self.samples[split] // self.batch_size
        drawn = Batches(_bank(self._file), self.roles, self.augmentation, self.look, self.batch_size, self.seed, train)
        return DataLoader(
            drawn,
            batch_size=None,
            collate_fn=_as_it_is,
            sampler=EpochSampler(batches, self._position if train else lambda: 0, *share_of(self.trainer)),
            num_workers=self.workers if train else min(self.workers, 1),
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            worker_init_fn=one_thread,
            persistent_workers=train and self.workers > 0,
            generator=torch.Generator(),  # see `TrackingDataModule`
        )


class Batches(Dataset):
    """Batch `index` is a pure function of (seed, index).

    Args:
        bank, roles, augmentation, look: see `draw`.
        samples: a batch's.
        seed: of everything that is drawn.
        train: whether it is the training's, which has other samples.
    """

    def __init__(
        self,
        bank: Bank,
        roles: tuple[tuple[str, CropSpec], ...],
        augmentation: Augmentation,
        look: PhotoRealism,
        samples: int,
        seed: int,
        train: bool,
    ):
        self.bank, self.roles, self.augmentation, self.look = bank, roles, augmentation, look
        self.samples, self.seed, self.train = samples, seed, train

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Drawn, not rendered yet; "seed" is that of what is drawn on the device."""
        rng = np.random.default_rng([self.seed, int(self.train), index])
        batch = draw(rng, self.samples, self.roles, self.bank, self.augmentation, self.look)
        return batch | {"seed": int(rng.integers(2**31))}


@lru_cache(maxsize=1)
def _bank(file: Path) -> Bank:
    """Read once by all stages of a process."""
    return load_bank(file)


@lru_cache(maxsize=1)
def _renderer(file: Path, device: torch.device) -> Renderer:
    return Renderer(Bank(*(tensor.to(device) for tensor in _bank(file))))


def _as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    return batch
