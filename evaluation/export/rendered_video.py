"""Rendered videos of one object, on which exports are calibrated and compared, and trackers are timed."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from datamodules.synthetic.scene import Scene
from trackers.rules import Box

WIDTH, HEIGHT, STRIDE = 320, 240, 2  # of `render_trial`


@dataclass(frozen=True)
class RenderedVideo:
    """Frames of one object.

    Attributes:
        frames: pictures (H, W, 3) uint8, RGB.
        box: the object in the first frame, xywh in pixels.
    """

    frames: Sequence[np.ndarray]
    box: Box

    @classmethod
    def of(cls, rendered: Sequence[tuple[np.ndarray, Any]]) -> "RenderedVideo":
        """Returns the video of frames from `Scene.render`."""
        return cls([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture, _ in rendered], rendered[0][1].box)

    @property
    def words(self) -> str:
        """Size of the frames and of the object."""
        (height, width), (_, _, w, h) = self.frames[0].shape[:2], self.box
        return f"frames of {width} x {height}, object of {w:.0f} x {h:.0f} pixels"

    def endless(self) -> Iterator[np.ndarray]:
        """Yields the frames from the second one on, forwards and backwards without end, so that no object jumps."""
        return itertools.cycle([*self.frames[1:], *self.frames[-2::-1]])


def render_trial(frames: int, seed: int) -> RenderedVideo:
    """Returns a video of a synthetic scene whose object is visible and inside of the picture at the start.

    Args:
        frames: number of frames.
        seed: of the scene.
    """
    while True:
        scene = Scene(np.random.default_rng([seed, frames]), WIDTH, HEIGHT, (frames - 1) * STRIDE + 1)
        rendered = [scene.render(i * STRIDE) for i in range(frames)]
        first = rendered[0][1]
        if first.visible > 0.9 and not first.cut:
            return RenderedVideo.of(rendered)
        seed += 1000
