"""The dataset of training samples. The seed and its number determine a sample."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.augmentation import Augmentation, LabelledCrop, jitter
from datamodules.crop_camera import draw_crop_cameras
from datamodules.errors import DataError
from datamodules.frames.frame import Frame, largest_reduction
from datamodules.frames.pictures import UnreadableFrameError
from datamodules.sampling import FrameSampler, SampleFrames, central_box
from datamodules.sequences.outside import fits_picture
from datamodules.sequences.sequence import Sequence
from datamodules.sources import Mixture
from trackers.crops import CropSpec, CropWindow

log = logging.getLogger(__name__)

MAX_UNREADABLE = 20  # attempts to draw a sample without unreadable frames
MAX_JITTERS = 100  # attempts to draw a window that shows a part of the picture


class TrackingDataset(Dataset):
    """Samples of annotated videos. Sample `index` depends on the seed and the index only.

    Args:
        sequences: sources of samples; sequences are drawn uniformly within a source.
        sampler: chooses the frames of a sample.
        template, search: crops; their `count` is the number of templates and of search regions in a sample.
        augmentation: changes the crops.
        seed: seed of all random numbers.
        train: whether to draw training samples. They differ from validation samples and get all augmentations.
        reduced_decoding: whether a frame is decoded at 1/2, 1/4 or 1/8 if its crops shrink it at least as much. Boxes,
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
        """Draws a sample of T templates and S search regions.

        Returns:
            "template" (T, 3, h, w) and "search" (S, 3, H, W) uint8; "template_box" (T, 4) and "search_box" (S, 4),
            xywh in units of the crop's side; "template_padding" (T, 2, h) and "search_padding" (S, 2, H) bool, the rows
            and columns that show padding; "present" (S,) float32, 1 if a search region shows the target, or 0 if it
            does not and its box is meaningless; "unreadable" (), number of draws that met an unreadable frame. If a
            source has a camera, also the entries of `draw_crop_cameras`.

        Raises:
            DataError: every draw met an unreadable frame, or one whose box lies outside of the picture.
        """
        rng = np.random.default_rng([self.seed, int(self.train), index])
        last_unreadable = None
        for unreadable in range(MAX_UNREADABLE):
            counts = [self.specs[role].count for role in ("template", "search")]
            source = self.sequences.draw(rng)
            frames = self.sampler.draw(self.sequences.sources[source], rng, *counts)
            try:
                crops = self._crops(frames, rng)
            except UnreadableFrameError as error:
                log.warning("%s; another sample is drawn instead", error)
                last_unreadable = error.path
                continue
            changes = self.sequences.changes[source]
            crops = changes(self.augmentation(crops, rng, self.train), counts[0], rng)
            sample = _stack("template", crops[: counts[0]]) | _stack("search", crops[counts[0] :])
            present = torch.full((counts[1],), float(frames.present))
            sample |= {"present": present, "unreadable": torch.tensor(unreadable)}
            if any(each.camera for each in self.sequences.changes):
                sample |= draw_crop_cameras(rng, changes.camera, frames.templates[0][0].still, crops, counts[0])
            return sample
        raise DataError(
            f"{MAX_UNREADABLE} frames in a row could not be read, the last is {last_unreadable}; check the data"
        )

    def _crops(self, sample: SampleFrames, rng: np.random.Generator) -> list[LabelledCrop]:
        """Returns the crops of a sample, templates first. Crops of one frame share its decoding."""
        frames: dict[tuple[Path, str], Frame] = {}
        requests = []
        for role, drawn in (("template", sample.templates), ("search", sample.search)):
            for sequence, number in drawn:
                key = sequence.folder, sequence.frames[number]
                if key not in frames:
                    frames[key] = sequence.frame(number)
                requests.append(self._request(frames[key], sequence, number, role, rng))
        return [request.crop() for request in requests]

    def _request(
        self, frame: Frame, sequence: Sequence, number: int, role: str, rng: np.random.Generator
    ) -> "CropRequest":
        """Draws a window near the box until it shows a part of the frame, and asks the frame to decode the window."""
        box, spec = sequence.boxes[number], self.specs[role]
        if role == "search" and not sequence.visible[number]:
            box = central_box(frame.shape)
        if not fits_picture(box, np.array(frame.shape[1::-1], float)):
            raise OutsideBoxError(sequence.folder / sequence.frames[number])
        for _ in range(MAX_JITTERS):
            window = spec.training_window(frame.shape, jitter(box, spec, rng))
            if not window.padding.all(1).any():
                pixels = window.pixels
                reduction = largest_reduction(pixels.side, spec.size) if self.reduced_decoding else 1
                frame.request_window(pixels, reduction)
                return CropRequest(frame, spec, window, box)
        raise OutsideBoxError(sequence.folder / sequence.frames[number])


class OutsideBoxError(UnreadableFrameError):
    """A frame of which no crop around the box shows anything, because the box lies outside or is far too large."""

    def __init__(self, path: Path, reason: str = "its box lies outside of the picture or is far too large"):
        super().__init__(path, reason)
        self.args = (f"cannot use the frame {path}: {reason}",)


class CropRequest(NamedTuple):
    """A crop that is cut after all crops of its frame have asked for their windows.

    Attributes:
        frame: the frame.
        spec, window: the crop's geometry.
        box: box of the target in the frame, xywh in pixels.
    """

    frame: Frame
    spec: CropSpec
    window: CropWindow
    box: np.ndarray

    def crop(self) -> LabelledCrop:
        """Returns the crop with the box in it and its padding.

        Raises:
            UnreadableFrameError: the frame cannot be read.
        """
        picture = self.spec.crop(self.frame.decoded_region, self.window)
        return LabelledCrop(picture, self.window.boxes.relative(self.box).astype(np.float32), self.window.padding)


def _stack(role: str, crops: list[LabelledCrop]) -> dict[str, Tensor]:
    return {
        role: torch.from_numpy(np.stack([c.picture for c in crops])).permute(0, 3, 1, 2),
        f"{role}_box": torch.from_numpy(np.stack([c.box for c in crops])),
        f"{role}_padding": torch.from_numpy(np.stack([c.padding for c in crops])),
    }
