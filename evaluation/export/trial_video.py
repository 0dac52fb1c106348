"""A rendered video, on which an export is calibrated and compared with its tracker."""

from dataclasses import dataclass

import numpy as np

from datamodules.synthetic.scene import Scene
from trackers.rules import Box

WIDTH, HEIGHT, STRIDE = 320, 240, 2


@dataclass(frozen=True)
class TrialVideo:
    """Frames of one object.

    Attributes:
        frames: pictures (H, W, 3) uint8, RGB.
        box: the object in the first frame, xywh in pixels.
    """

    frames: list[np.ndarray]
    box: Box


def render_trial(frames: int, seed: int) -> TrialVideo:
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
            return TrialVideo([np.ascontiguousarray(picture[..., ::-1]) for picture, _ in rendered], first.box)
        seed += 1000
