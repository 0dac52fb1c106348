"""Training samples: from a sample's number to its crops, the same for any number of workers."""

import logging
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datamodules.augmentation import Augmentation, LabelledCrop, jitter
from datamodules.sampling import FrameSampler, stand_in
from datamodules.sequences import Sequence, UnreadableFrameError
from trackers.crops import CropSpec, box_in_crop, crop, padding

log = logging.getLogger(__name__)

MAX_UNREADABLE = 20  # unreadable frames in a row that one sample may meet before the data is called broken
MAX_JITTERS = 100  # windows drawn until one shows something of the picture


class TrackingDataset(Dataset):
    """Sample `index` is a pure function of (seed, index).

    Args:
        sequences: the usable ones are drawn from uniformly.
        sampler: picks the frames.
        template, search: crops; a sample has `template.count` templates and one search region.
        augmentation: changes of the pictures.
        seed: of everything that is drawn.
        train: whether training-only changes apply.

    Raises:
        ValueError: the sampler finds no usable sequences, or cannot draw so many templates.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        sampler: FrameSampler,
        template: CropSpec,
        search: CropSpec,
        augmentation: Augmentation,
        seed: int,
        train: bool,
    ):
        self.sequences = sampler.usable(sequences, template.count)
        self.sampler, self.augmentation = sampler, augmentation
        self.specs = {"template": template, "search": search}
        self.seed, self.train = seed, train

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample, of T templates and one search region.

        Returns:
            "template" (T, 3, h, w) and "search" (1, 3, H, W) uint8; "template_box" (T, 4) and "search_box" (1, 4),
            xywh in units of the crop's side; "template_padding" (T, 2, h) and "search_padding" (1, 2, H) bool, the rows
            and columns that show padding; "present" (1,) float32, 1 where the search region shows the target, else 0
            and its box is none of the target's; "unreadable" (), how many frames failed.

        Raises:
            RuntimeError: many frames in a row are unreadable, and the last is named; or no window shows the picture.
        """
        rng = np.random.default_rng([self.seed, int(self.train), index])
        for unreadable in range(MAX_UNREADABLE):
            draw = self.sampler.draw(self.sequences, rng, self.specs["template"].count)
            try:
                crops = [self._cut(*place, "template", rng) for place in draw.templates]
                crops.append(self._cut(*draw.search, "search", rng))
            except UnreadableFrameError as error:
                log.warning("%s; another sample takes its place and the frame is counted", error)
                last = error.path
                continue
            *templates, search = self.augmentation(crops, rng, self.train)
            sample = _stacked("template", templates) | _stacked("search", [search])
            return sample | {"present": torch.tensor([float(draw.present)]), "unreadable": torch.tensor(unreadable)}
        raise RuntimeError(f"{MAX_UNREADABLE} frames in a row could not be read, the last is {last}; check the data")

    def _cut(self, sequence: Sequence, frame: int, role: str, rng: np.random.Generator) -> LabelledCrop:
        image, box, spec = sequence.image(frame), sequence.boxes[frame], self.specs[role]
        if role == "search" and not sequence.visible[frame]:
            box = stand_in(image.shape)
        for _ in range(MAX_JITTERS):
            around = jitter(box, spec, rng)
            padded = padding(image.shape, tuple(around), spec)
            if not padded.all(1).any():
                picture, resize = crop(image, tuple(around), spec)
                return LabelledCrop(picture, box_in_crop(box, around, resize, spec), padded)
        raise RuntimeError(
            f"no window around the box {box.tolist()} of {sequence.folder}, frame {frame}, shows the picture"
        )


def _stacked(role: str, crops: list[LabelledCrop]) -> dict[str, Tensor]:
    return {
        role: torch.from_numpy(np.stack([c.picture for c in crops])).permute(0, 3, 1, 2),
        f"{role}_box": torch.from_numpy(np.stack([c.box for c in crops])),
        f"{role}_padding": torch.from_numpy(np.stack([c.padding for c in crops])),
    }


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
