"""Training pairs: from a sample's number to its two crops, the same for any number of workers."""

import logging
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datamodules.augmentation import Augmentation, jitter
from datamodules.sampling import CausalSampler
from datamodules.sequences import Sequence, UnreadableFrameError
from trackers.crops import CropSpec, box_in_crop, crop, padding

log = logging.getLogger(__name__)

MAX_UNREADABLE = 20  # unreadable frames in a row that one sample may meet before the data is called broken
MAX_JITTERS = 100  # windows drawn until one shows something of the picture


class PairDataset(Dataset):
    """Sample `index` is a pure function of (seed, index).

    Args:
        sequences: usable ones, drawn from uniformly.
        sampler: picks the two frames.
        template, search: crops.
        augmentation: changes of the pictures.
        seed: of everything that is drawn.
        train: whether training-only changes apply.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        sampler: CausalSampler,
        template: CropSpec,
        search: CropSpec,
        augmentation: Augmentation,
        seed: int,
        train: bool,
    ):
        self.sequences, self.sampler, self.augmentation = sampler.usable(sequences), sampler, augmentation
        self.specs = {"template": template, "search": search}
        self.seed, self.train = seed, train

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Crops (1, 3, S, S) uint8, boxes (1, 4) xywh in units of the crop's side, and how many frames failed.

        Raises:
            RuntimeError: many frames in a row are unreadable; the last is named.
        """
        rng = np.random.default_rng([self.seed, int(self.train), index])
        for unreadable in range(MAX_UNREADABLE):
            sequence = self.sequences[rng.integers(len(self.sequences))]
            frames = dict(zip(self.specs, self.sampler.pair(sequence, rng), strict=True))
            try:
                cut = [self._cut(sequence, frames[role], role, rng) for role in self.specs]
            except UnreadableFrameError as error:
                log.warning("%s; another pair takes its place and the frame is counted", error)
                continue
            crops, boxes = self.augmentation([c for c, _ in cut], [b for _, b in cut], rng, self.train)
            sample = {"unreadable": torch.tensor(unreadable)}
            for role, picture, box in zip(self.specs, crops, boxes, strict=True):
                sample[role] = torch.from_numpy(picture).permute(2, 0, 1)[None]
                sample[f"{role}_box"] = torch.from_numpy(box)[None]
            return sample
        raise RuntimeError(
            f"{MAX_UNREADABLE} frames in a row could not be read, the last in {sequence.folder}; check the data"
        )

    def _cut(
        self, sequence: Sequence, frame: int, role: str, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        image, box, spec = sequence.image(frame), sequence.boxes[frame], self.specs[role]
        for _ in range(MAX_JITTERS):
            around = jitter(box, spec, rng)
            if not padding(image.shape, tuple(around), spec).all():
                picture, resize = crop(image, tuple(around), spec)
                return picture, box_in_crop(box, around, resize, spec.size)
        raise RuntimeError(
            f"no window around the box {box.tolist()} of {sequence.folder}, frame {frame}, shows the picture"
        )


class EpochSampler(Sampler):
    """Numbers samples on through the epochs, so that every epoch is new and a resumed one is the same.

    Args:
        samples: an epoch's.
        epoch: says which epoch begins. (Lightning's own `set_epoch` is one too high after a resume.)
    """

    def __init__(self, samples: int, epoch: Callable[[], int]):
        self.samples, self.epoch = samples, epoch

    def __iter__(self) -> Iterator[int]:
        start = self.epoch() * self.samples
        return iter(range(start, start + self.samples))

    def __len__(self) -> int:
        return self.samples
