"""Training samples: from a sample's number to its crops, the same for any number of workers."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytorch_lightning as L
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datamodules.augmentation import Augmentation, LabelledCrop, jitter
from datamodules.frames.frame import Frame, reduction
from datamodules.frames.pictures import UnreadableFrameError
from datamodules.sampling import FrameSampler, SampleFrames, central_box
from datamodules.sequences.sequence import Sequence
from datamodules.sources import Mixture
from trackers.crops import CropSpec, CropWindow

log = logging.getLogger(__name__)

MAX_UNREADABLE = 20  # unreadable frames in a row that one sample may meet before the data is called broken
MAX_JITTERS = 100  # windows drawn until one shows something of the picture


class TrackingDataset(Dataset):
    """Sample `index` is a pure function of (seed, index).

    Args:
        sequences: drawn from uniformly within each source.
        sampler: picks the frames.
        template, search: crops; a sample has as many templates and search regions as their `count` says.
        augmentation: changes of the pictures.
        seed: of everything that is drawn.
        train: whether training-only changes apply.
        reduced_decoding: whether frames are decoded smaller where their crops shrink them by 2 or more anyway. Boxes,
            windows and padding stay the same.
    """

    def __init__(
        self,
        sequences: Mixture,
        sampler: FrameSampler,
        template: CropSpec,
        search: CropSpec,
        augmentation: Augmentation,
        seed: int,
        train: bool,
        reduced_decoding: bool = False,
    ):
        self.sequences, self.sampler, self.augmentation = sequences, sampler, augmentation
        self.specs = {"template": template, "search": search}
        self.seed, self.train, self.reduced_decoding = seed, train, reduced_decoding

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample, of T templates and S search regions.

        Returns:
            "template" (T, 3, h, w) and "search" (S, 3, H, W) uint8; "template_box" (T, 4) and "search_box" (S, 4),
            xywh in units of the crop's side; "template_padding" (T, 2, h) and "search_padding" (S, 2, H) bool, the rows
            and columns that show padding; "present" (S,) float32, 1 where a search region shows the target, else 0
            and its box is none of the target's; "unreadable" (), how many frames failed.

        Raises:
            RuntimeError: many frames in a row are unreadable, and the last is named; or no window shows the picture.
        """
        rng = np.random.default_rng([self.seed, int(self.train), index])
        for unreadable in range(MAX_UNREADABLE):
            counts = [self.specs[role].count for role in ("template", "search")]
            draw = self.sampler.draw(self.sequences.draw(rng), rng, *counts)
            try:
                crops = self._crops(draw, rng)
            except UnreadableFrameError as error:
                log.warning("%s; another sample takes its place and the frame is counted", error)
                last = error.path
                continue
            crops = self.augmentation(crops, rng, self.train)
            sample = _stacked("template", crops[: counts[0]]) | _stacked("search", crops[counts[0] :])
            present = torch.full((counts[1],), float(draw.present))
            return sample | {"present": present, "unreadable": torch.tensor(unreadable)}
        raise RuntimeError(f"{MAX_UNREADABLE} frames in a row could not be read, the last is {last}; check the data")

    def _crops(self, draw: SampleFrames, rng: np.random.Generator) -> list[LabelledCrop]:
        """Returns the crops of a sample, templates first. Crops of one frame share its decoding."""
        frames: dict[tuple[Path, str], Frame] = {}
        requests = []
        for role, drawn in (("template", draw.templates), ("search", draw.search)):
            for sequence, number in drawn:
                key = sequence.folder, sequence.frames[number]
                if key not in frames:
                    frames[key] = sequence.frame(number)
                requests.append(self._request(frames[key], sequence, number, role, rng))
        return [request.crop() for request in requests]

    def _request(
        self, frame: Frame, sequence: Sequence, number: int, role: str, rng: np.random.Generator
    ) -> "CropRequest":
        """Draws windows around a frame's box until one shows something of the frame; tells the frame what it shows."""
        box, spec = sequence.boxes[number], self.specs[role]
        if role == "search" and not sequence.visible[number]:
            box = central_box(frame.shape)
        for _ in range(MAX_JITTERS):
            window = spec.training_window(frame.shape, jitter(box, spec, rng))
            if not window.padding.all(1).any():
                shown = window.pixels
                frame.need(shown, reduction(shown.side, spec.size) if self.reduced_decoding else 1)
                return CropRequest(frame, spec, window, box)
        raise RuntimeError(
            f"no window around the box {box.tolist()} of {sequence.folder}, frame {number}, shows the picture"
        )


class CropRequest(NamedTuple):
    """Crop to be cut from a frame as soon as the frame is decoded.

    Attributes:
        frame: the frame.
        spec, window: the crop's geometry.
        box: the target's box in the frame, xywh in pixels.
    """

    frame: Frame
    spec: CropSpec
    window: CropWindow
    box: np.ndarray

    def crop(self) -> LabelledCrop:
        """Cuts the crop and returns it with the target's box in it.

        Raises:
            UnreadableFrameError: the frame cannot be read.
        """
        picture = self.spec.crop(self.frame.part, self.window)
        return LabelledCrop(picture, self.window.boxes.relative(self.box).astype(np.float32), self.window.padding)


def _stacked(role: str, crops: list[LabelledCrop]) -> dict[str, Tensor]:
    return {
        role: torch.from_numpy(np.stack([c.picture for c in crops])).permute(0, 3, 1, 2),
        f"{role}_box": torch.from_numpy(np.stack([c.box for c in crops])),
        f"{role}_padding": torch.from_numpy(np.stack([c.padding for c in crops])),
    }


class EpochSampler(Sampler):
    """Numbers samples on through the epochs, so that every epoch is new and one that is gone on with is the same.

    Args:
        samples: an epoch's.
        first: says which number comes first when an epoch begins, or is gone on with. In the latter case numbers run on
            past the epoch's end, and whoever counts its batches leaves them.
        rank, ranks: of so many processes, which take the numbers in turn: each batch of one and those that the others
            have at the same time are what a single process takes, if its batch is so many times as large.
    """

    def __init__(self, samples: int, first: Callable[[], int], rank: int = 0, ranks: int = 1):
        self.samples, self.first, self.rank, self.ranks = samples, first, rank, ranks

    def __iter__(self) -> Iterator[int]:
        first = self.first() + self.rank
        return iter(range(first, first + len(self) * self.ranks, self.ranks))

    def __len__(self) -> int:
        return self.samples // self.ranks


def count_trained_batches(trainer: L.Trainer | None) -> int:
    """All training batches of all processes, also before a resume."""
    return 0 if trainer is None else (trainer.fit_loop.total_batch_idx + 1) * trainer.world_size


def disable_opencv_threads(worker: int) -> None:
    """Workers are the parallelism; threads inside of them would fight for the same cores."""
    cv2.setNumThreads(0)


def rank_and_world_size(trainer: L.Trainer | None) -> tuple[int, int]:
    """Rank and number of the processes that train together."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
