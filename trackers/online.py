"""Online loop of all trackers: crop around the last box, run the tracker, convert the box to pixels and clip it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pruning.errors import UserError
from trackers.base import Tracker
from trackers.boxes import clip_box
from trackers.crops import Window

Box = tuple[float, float, float, float]


@dataclass(eq=False)
class Target:
    """One tracked object.

    Attributes:
        box: last box, xywh in pixels.
        state: tracking state from `Tracker.start`.
    """

    box: Box
    state: Any


class Lockstep:
    """Online loop of several videos, with one target in each video and one frame of each video per call.

    A tracker with `lockstep` finds all targets in one batched forward; other trackers find one target after the other.
    The boxes are those of separate tracking, except for float rounding.

        loop = Lockstep(tracker)
        targets = [loop.begin(video[0], box) for video, box in zip(videos, boxes)]
        results = loop.advance(targets, [video[1] for video in videos])

    New targets may begin between two calls of `advance`, and finished targets are left out of the next call. Images are
    RGB, (H, W, 3) uint8 arrays or PIL images, of any sizes; boxes are xywh in pixels.
    """

    def __init__(self, tracker: Tracker, device: str | torch.device = "cpu"):
        self.tracker = tracker.to(device).eval()

    @torch.inference_mode()
    def begin(self, image: Any, box: Box) -> Target:
        """Returns a target to track, from the first image and the box in it.

        Raises:
            UserError: the image is not RGB uint8; the box is not finite, has no area, or lies outside of the image.
        """
        pixels = _as_array(image)
        box = _check_box(box, pixels.shape)
        template, _ = self.tracker.crop(pixels, box, self.tracker.template)
        return Target(box, self.tracker.start(template))

    @torch.inference_mode()
    def advance(self, targets: Sequence[Target], images: Sequence[Any]) -> list[tuple[Box, float]]:
        """Finds each target in its next image, and updates the targets' boxes and states.

        Returns:
            For each target its box, xywh in pixels, and a score in [0, 1].

        Raises:
            UserError: the numbers of targets and images differ, or an image is not RGB uint8. No target is changed.
        """
        if len(targets) != len(images):
            raise UserError(f"{len(targets)} targets need one image each, but there are {len(images)} images")
        if not targets:
            return []
        tracker, pictures = self.tracker, [_as_array(image) for image in images]
        states = [target.state for target in targets]
        crops = [tracker.crop(pixels, t.box, tracker.search) for pixels, t in zip(pictures, targets, strict=True)]
        searches, windows = zip(*crops, strict=True)
        found = tracker.steps(states, searches)
        results = []
        for target, pixels, window, (relative, score) in zip(targets, pictures, windows, found, strict=True):
            target.box = self._box_in_image(relative, window, target.box, pixels.shape)
            tracker.observe(target.state, pixels, target.box, score)
            results.append((target.box, score))
        return results

    def _box_in_image(self, relative: torch.Tensor, window: Window, old: Box, shape: tuple[int, ...]) -> Box:
        """Returns the reported box, xywh in pixels, smoothed and clipped.

        Args:
            relative: result of the tracker, cxcywh (4,) in units of the crop's side.
            window: window of the crop.
            old: box of the previous frame, xywh in pixels.
            shape: (H, W, 3) of the picture.
        """
        settings = self.tracker.online
        cx, cy, w, h = window.absolute(relative)
        share = settings.size_smoothing
        w, h = share * old[2] + (1 - share) * w, share * old[3] + (1 - share) * h
        box = cx - w / 2, cy - h / 2, w, h
        return box if settings.min_size is None else clip_box(box, shape[1], shape[0], settings.min_size)


class OnlineTracker:
    """Online tracker of one object in one video.

        tracker = load_tracker("child.safetensors")
        tracker.init(first_image, (x, y, w, h))
        for image in video:
            box, score = tracker.update(image)

    Images are RGB, (H, W, 3) uint8 arrays or PIL images; boxes are xywh in pixels.

    Attributes:
        tracker: the tracker, in evaluation mode on the device.
        loop: online loop, which can also track several objects at once.
        box: last box; None before `init`.
    """

    def __init__(self, tracker: Tracker, device: str | torch.device = "cpu"):
        self.loop = Lockstep(tracker, device)
        self.tracker = self.loop.tracker
        self.box: Box | None = None
        self._state: Any = None

    def init(self, image: Any, box: Box) -> None:
        """Starts tracking the object in a box of the first image.

        Raises:
            UserError: the image is not RGB uint8; the box is not finite, has no area, or lies outside of the image.
        """
        target = self.loop.begin(image, box)
        self.box, self._state = target.box, target.state

    def update(self, image: Any) -> tuple[Box, float]:
        """Returns the object's box in the next image, and a score in [0, 1].

        Raises:
            RuntimeError: `init` was not called.
            UserError: the image is not RGB uint8.
        """
        if self.box is None:
            raise RuntimeError("call init(image, box) with the first frame before update(image)")
        [(self.box, score)] = self.loop.advance([Target(self.box, self._state)], [image])
        return self.box, score


def _as_array(image: Any) -> np.ndarray:
    """Returns an image as (H, W, 3) uint8; raises UserError for other shapes and types."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UserError(
            f"an image must be RGB uint8 of shape (height, width, 3), not {pixels.dtype} of shape {pixels.shape}. "
            "Convert with cv2.cvtColor(image, cv2.COLOR_BGR2RGB) or PIL's image.convert('RGB')"
        )
    return pixels


def _check_box(box: Any, shape: tuple[int, ...]) -> Box:
    """Returns a box as floats; raises UserError if it has no area or lies outside of a picture of shape (H, W, 3)."""
    values = tuple(float(v) for v in np.asarray(box, np.float64).flatten())
    if len(values) != 4 or not np.isfinite(values).all() or values[2] <= 0 or values[3] <= 0:
        raise UserError(f"a box must be (x, y, width, height) in pixels with a positive size, not {values}")
    x, y, w, h = values
    height, width = shape[:2]
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise UserError(
            f"the box {values} lies outside of the image, which has {width} x {height} pixels (width x height); "
            "pass (x, y, width, height) of a box that overlaps the image"
        )
    return values
