"""The online loop: one for all trackers. Crop around the last box, ask the tracker, map back, clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trackers.base import Tracker
from trackers.boxes import clip_box
from trackers.crops import Window

Box = tuple[float, float, float, float]


@dataclass(eq=False)
class Target:
    """One object that is followed.

    Attributes:
        box: where it was last, xywh in pixels.
        state: what the tracker remembers of it.
    """

    box: Box
    state: Any


class Lockstep:
    """Follows several objects, each through a video of its own, a frame of each at a time.

    A tracker with `lockstep` looks for all of them in one forward; any other finds them one by one. Boxes are the same
    as one by one, up to rounding.

    loop = Lockstep(tracker)
    targets = [loop.begin(video[0], box) for video, box in zip(videos, boxes)]
    found = loop.advance(targets, [video[1] for video in videos])

    Targets may begin between any two calls, and those that are done are left out of the next. Images are RGB,
    (H, W, 3) uint8 arrays or PIL, of any sizes; boxes are xywh in pixels.
    """

    def __init__(self, tracker: Tracker, device: str | torch.device = "cpu"):
        self.tracker = tracker.to(device).eval()

    @torch.inference_mode()
    def begin(self, image: Any, box: Box) -> Target:
        """An object to follow, from its first image.

        Raises:
            ValueError: not an RGB uint8 image; a box that is not finite, has no area, or lies outside of the picture.
        """
        pixels = _as_array(image)
        box = _check_box(box, pixels.shape)
        template, _ = self.tracker.crop(pixels, box, self.tracker.template)
        return Target(box, self.tracker.start(template))

    @torch.inference_mode()
    def advance(self, targets: Sequence[Target], images: Sequence[Any]) -> list[tuple[Box, float]]:
        """Each object in its next image: its box, which is also the target's from now on, and a score in [0, 1].

        Raises:
            ValueError: not an RGB uint8 image; not one image a target. No target has moved then.
        """
        if len(targets) != len(images):
            raise ValueError(f"{len(targets)} targets need as many images, one of each one's video, not {len(images)}")
        if not targets:
            return []
        tracker, pictures = self.tracker, [_as_array(image) for image in images]
        states = [target.state for target in targets]
        taken = [tracker.crop(pixels, t.box, tracker.search) for pixels, t in zip(pictures, targets, strict=True)]
        searches, windows = zip(*taken, strict=True)
        found = tracker.steps(states, searches)
        results = []
        for target, pixels, window, (relative, score) in zip(targets, pictures, windows, found, strict=True):
            target.box = self._placed(relative, window, target.box, pixels.shape)
            tracker.observe(target.state, pixels, target.box, score)
            results.append((target.box, score))
        return results

    def _placed(self, relative: torch.Tensor, window: Window, old: Box, shape: tuple[int, ...]) -> Box:
        """A box cxcywh in units of the crop's side as it is reported: smoothed, and clipped to the picture."""
        settings = self.tracker.online
        cx, cy, w, h = window.absolute(relative)
        keep = settings.size_smoothing
        w, h = keep * old[2] + (1 - keep) * w, keep * old[3] + (1 - keep) * h
        box = cx - w / 2, cy - h / 2, w, h
        return box if settings.min_size is None else clip_box(box, shape[1], shape[0], settings.min_size)


class OnlineTracker:
    """Follows one object through a video.

    tracker = load_tracker("child.safetensors")
    tracker.init(first_image, (x, y, w, h))
    for image in video:
        box, score = tracker.update(image)

    Images are RGB, (H, W, 3) uint8 arrays or PIL; boxes are xywh in pixels.

    Attributes:
        tracker: what finds it.
        loop: follows several objects at once with the same tracker.
        box: where it was last; None before `init`.
    """

    def __init__(self, tracker: Tracker, device: str | torch.device = "cpu"):
        self.loop = Lockstep(tracker, device)
        self.tracker = self.loop.tracker
        self.box: Box | None = None
        self._state: Any = None

    def init(self, image: Any, box: Box) -> None:
        """Takes the object to follow.

        Raises:
            ValueError: not an RGB uint8 image; a box that is not finite, has no area, or lies outside of the picture.
        """
        target = self.loop.begin(image, box)
        self.box, self._state = target.box, target.state

    def update(self, image: Any) -> tuple[Box, float]:
        """The object in the next frame: its box and a score in [0, 1].

        Raises:
            RuntimeError: `init` was not called.
            ValueError: not an RGB uint8 image.
        """
        if self.box is None:
            raise RuntimeError("call init(image, box) with the first frame before update(image)")
        [(self.box, score)] = self.loop.advance([Target(self.box, self._state)], [image])
        return self.box, score


def _as_array(image: Any) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"an image must be RGB, (height, width, 3), uint8; not of shape {pixels.shape} and type {pixels.dtype}. "
            "Convert with cv2.cvtColor(image, cv2.COLOR_BGR2RGB) or PIL's image.convert('RGB')"
        )
    return pixels


def _check_box(box: Any, shape: tuple[int, ...]) -> Box:
    values = tuple(float(v) for v in np.asarray(box, np.float64).flatten())
    if len(values) != 4 or not np.isfinite(values).all() or values[2] <= 0 or values[3] <= 0:
        raise ValueError(f"a box must be (x, y, width, height) in pixels with a positive size, not {values}")
    x, y, w, h = values
    height, width = shape[:2]
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(
            f"the box {values} lies outside of the picture, which is {width} x {height} pixels (width x height)"
        )
    return values
