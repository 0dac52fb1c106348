"""A synthetic video: background, camera and objects, rendered moment by moment with its annotation."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.synthetic import scene_objects
from datamodules.synthetic.backdrops import make_backdrop
from datamodules.synthetic.camera import Camera, Light, Sensor
from datamodules.synthetic.moving_object import MovingObject


@dataclass(frozen=True)
class Annotation:
    """Ground truth of one picture.

    Attributes:
        box: (x, y, w, h) of the whole object, hidden parts included, clipped to the picture; pixels.
        visible: visible fraction of the object's area, 0..1.
        cut: whether the object reaches beyond the edge of the picture.
    """

    box: tuple[float, float, float, float]
    visible: float
    cut: bool


class Scene:
    """A random video of `moments` time steps.

    Args:
        rng: random generator of everything in the video.
        width, height: size of the pictures, pixels.
        moments: number of simulated time steps.
        leaves: whether the object leaves the picture for a while, and returns.
    """

    def __init__(self, rng: Generator, width: int, height: int, moments: int, leaves: bool = False):
        # With saturated colours on uniform objects, colour would be the only cue: most scenes have little colour.
        saturation = rng.choice([rng.uniform(0.1, 0.75), rng.uniform(0.75, 1.1), 0.0], p=[0.6, 0.32, 0.08])
        canvas = make_backdrop(rng, int(height * 1.5), int(width * 1.9), saturation)
        ambient = canvas.reshape(-1, 3).mean(0)
        self.camera = Camera(rng, canvas, width, height, moments)
        self.target = scene_objects.make_target(rng, self.camera, saturation, ambient, leaves)
        self.behind, self.front = scene_objects.make_distractors(rng, self.camera, self.target, saturation, ambient)
        self.front += scene_objects.make_occluders(rng, self.camera, self.target, saturation, ambient)
        self.shadow = rng.choice([0.0, rng.uniform(0.15, 0.5)])
        self.light = Light(rng, moments)
        self.sensor = Sensor(rng, width, height, moments)

    def render(self, t: int) -> tuple[np.ndarray, Annotation]:
        """Returns the picture (height, width, 3) uint8 BGR and its annotation at moment t."""
        picture = self.camera.view(t, -self._motion_blur(self.camera.centre, t))
        for behind in self.behind:
            self._draw_shadow(behind, t, picture)
            behind.draw(t, picture, self._motion_blur(behind.centre, t))
        self._draw_shadow(self.target, t, picture)
        target_mask = self.target.draw(t, picture, self._motion_blur(self.target.centre, t))
        for front in self.front:
            mask = front.draw(t, picture, self._motion_blur(front.centre, t))
            if target_mask is not None and mask is not None:
                target_mask.subtract(mask)
        visible_area = 0.0 if target_mask is None else float(target_mask.alpha.sum()) / 255
        visible = min(visible_area / self.target.area(t), 1.0)
        picture = self.sensor.apply(self.light.apply(picture, t), t)
        return picture, self._annotate(t, visible)

    def _motion_blur(self, path: np.ndarray, t: int) -> np.ndarray:
        """Returns the motion along `path` while the shutter is open, (2,) pixels."""
        return (path[t] - path[max(t - 1, 0)]) * self.sensor.shutter

    def _draw_shadow(self, moving: MovingObject, t: int, picture: np.ndarray) -> None:
        if self.shadow == 0:
            return
        (left, top), (right, bottom) = moving.extent(t)
        height, width = picture.shape[:2]
        half = np.array([(right - left) * 0.55, (bottom - top) * 0.12 + 1])
        middle = np.array([(left + right) / 2, bottom - half[1] * 0.6])
        low = np.maximum(np.floor(middle - half * 1.3), 0).astype(int)
        high = np.minimum(np.ceil(middle + half * 1.3), (width, height)).astype(int)
        if (high <= low).any():
            return
        x = (np.arange(low[0], high[0]) + 0.5 - middle[0]) / half[0]
        y = (np.arange(low[1], high[1]) + 0.5 - middle[1]) / half[1]
        dark = 1 - self.shadow * np.clip(1.6 - 1.6 * (x[None] ** 2 + y[:, None] ** 2), 0, 1).astype(np.float32)
        region = picture[low[1] : high[1], low[0] : high[0]]
        region[:] = cv2.multiply(region, cv2.merge([dark] * 3), dtype=cv2.CV_8U)

    def _annotate(self, t: int, visible: float) -> Annotation:
        frame = np.array([self.camera.width, self.camera.height], float)
        whole = self.target.extent(t)
        inside = np.clip(whole, 0, frame)
        x, y = inside[0]
        w, h = inside[1] - inside[0]
        return Annotation((float(x), float(y), float(w), float(h)), visible, bool((whole != inside).any()))
