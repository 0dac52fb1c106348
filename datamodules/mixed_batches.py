"""Batches of which some samples are rendered scenes and the others come from data sets."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from datamodules.dataset import TrackingDataset
from datamodules.scenes.draw import draw_scenes
from datamodules.scenes.rendered_batch import Roles, load_bank_once
from datamodules.scenes.source import SceneSource


class MixedBatches(Dataset):
    """Parts of batches of drawn scenes and loaded samples.

    The batches depend on the seed and their numbers only, not on their parts. The number of scenes in a batch is their
    share of it, rounded at random to one of the two nearest whole numbers. Scenes are the first samples of a batch, and
    parts take the samples in turn, so the parts of a batch differ by one scene at most.

    Args:
        scenes: the source of scenes.
        bank_file: file of its bank.
        roles: "template" and "search" with their crops.
        share: fraction of the samples that are scenes, in (0, 1].
        samples: samples of the data sets by number; None if all samples are scenes.
        batch_size: number of samples in a batch.
        parts: number of equal parts of a batch.
        seed: seed of all random numbers.
        train: whether to draw training samples; they differ from validation samples.
    """

    def __init__(
        self,
        scenes: SceneSource,
        bank_file: Path,
        roles: Roles,
        share: float,
        samples: TrackingDataset | None,
        batch_size: int,
        parts: int,
        seed: int,
        train: bool,
    ):
        self.scenes, self.bank_file, self.roles, self.share, self.samples = scenes, bank_file, roles, share, samples
        self.bank = load_bank_once(bank_file)
        self.batch_size, self.parts, self.seed, self.train = batch_size, parts, seed, train

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns part `index`, counted over all batches.

        Returns:
            "scenes", drawn scenes with "seed", the seed of their noise, and "bank_file"; "samples", the stacked samples
            of the data sets. A part without scenes or without samples lacks the entry.

        Raises:
            DataError: samples of the data sets cannot be read.
        """
        batch, part = divmod(index, self.parts)
        rng = np.random.default_rng([self.seed, int(self.train), batch, 1])  # other numbers than those of a sample
        count = int(self.share * self.batch_size + rng.random())
        drawn: dict[str, Any] = {}
        if part < count:
            augmentation, realism, rows = self.scenes.augmentation, self.scenes.realism, slice(part, None, self.parts)
            scenes = draw_scenes(rng, count, self.roles, self.bank, augmentation, realism, rows)
            drawn["scenes"] = scenes | {"seed": int(rng.integers(2**31)) + part, "bank_file": self.bank_file}
        numbers = [n for n in range(part, self.batch_size, self.parts) if n >= count]
        if self.samples and numbers:
            drawn["samples"] = default_collate([self.samples[batch * self.batch_size + n] for n in numbers])
        return drawn


def join_batch(scenes: dict[str, Tensor] | None, samples: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Returns one batch of rendered scenes and loaded samples, on their device; None stands for none of them."""
    parts = [] if samples is None else [samples]
    if scenes is not None:
        readable = torch.zeros(len(scenes["present"]), dtype=torch.long, device=scenes["present"].device)
        parts.insert(0, scenes | {"unreadable": readable})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
