"""The online loop: one for all trackers. Crop around the last box, ask the tracker, map back, clip."""

from typing import Any

import numpy as np
import torch

from trackers.base import Tracker
from trackers.boxes import clip_box

Box = tuple[float, float, float, float]


class OnlineTracker:
    """Follows one object through a video.

    tracker = load_tracker("child.safetensors")
    tracker.init(first_image, (x, y, w, h))
    for image in video:
        box, score = tracker.update(image)

    Images are RGB, (H, W, 3) uint8 arrays or PIL; boxes are xywh in pixels.
    """

    def __init__(self, tracker: Tracker, device: str | torch.device = "cpu"):
        self.tracker = tracker.to(device).eval()
        self.box: Box | None = None
        self._state: Any = None

    @torch.inference_mode()
    def init(self, image: Any, box: Box) -> None:
        """Takes the object to follow.

        Raises:
            ValueError: not an RGB uint8 image; a box that is not finite, has no area, or lies outside of the picture.
        """
        pixels = _as_array(image)
        self.box = _check_box(box, pixels.shape)
        template, _ = self.tracker.take(pixels, self.box, self.tracker.template)
        self._state = self.tracker.start(template)

    @torch.inference_mode()
    def update(self, image: Any) -> tuple[Box, float]:
        """The object in the next frame: its box and a score in [0, 1].

        Raises:
            RuntimeError: `init` was not called.
        """
        if self.box is None:
            raise RuntimeError("call init(image, box) with the first frame before update(image)")
        pixels, tracker = _as_array(image), self.tracker
        search, window = tracker.take(pixels, self.box, tracker.search)
        relative, score = tracker.step(self._state, search)
        cx, cy, w, h = window.absolute(relative)
        keep = tracker.online.size_smoothing
        w, h = keep * self.box[2] + (1 - keep) * w, keep * self.box[3] + (1 - keep) * h
        self.box = cx - w / 2, cy - h / 2, w, h
        if tracker.online.min_size is not None:
            self.box = clip_box(self.box, pixels.shape[1], pixels.shape[0], tracker.online.min_size)
        tracker.observe(self._state, pixels, self.box, score)
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
