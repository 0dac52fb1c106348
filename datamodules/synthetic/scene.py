"""One video: a background, a camera, a cast; rendered moment by moment together with its annotation."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.synthetic import cast
from datamodules.synthetic.backdrops import backdrop
from datamodules.synthetic.camera import Camera, Light, Sensor
from datamodules.synthetic.movers import Mover


@dataclass(frozen=True)
class Annotation:
    """Truth of one picture.

    Attributes:
        box: (x, y, w, h) of the whole object, hidden parts included, clipped to the picture; pixels.
        visible: share of the object's pixels that the picture shows, 0..1.
        cut: whether the object reaches beyond the picture's edge.
    """

    box: tuple[float, float, float, float]
    visible: float
    cut: bool


class Scene:
    """A random video of `moments` moments, everything drawn from `rng`."""

    def __init__(self, rng: Generator, width: int, height: int, moments: int):
        # Saturated colours on uniform objects would make colour the only cue: most scenes have little of it.
        saturation = rng.choice([rng.uniform(0.1, 0.75), rng.uniform(0.75, 1.1), 0.0], p=[0.6, 0.32, 0.08])
        canvas = backdrop(rng, int(height * 1.5), int(width * 1.9), saturation)
        ambient = canvas.reshape(-1, 3).mean(0)
        self.camera = Camera(rng, canvas, width, height, moments)
        self.target = cast.target(rng, self.camera, saturation, ambient)
        self.behind, self.front = cast.neighbours(rng, self.camera, self.target, saturation, ambient)
        self.front += cast.obstacles(rng, self.camera, self.target, saturation, ambient)
        self.shadow = rng.choice([0.0, rng.uniform(0.15, 0.5)])
        self.light = Light(rng, moments)
        self.sensor = Sensor(rng, width, height, moments)

    def render(self, t: int) -> tuple[np.ndarray, Annotation]:
        """Picture (height, width, 3) uint8 BGR and annotation at moment t."""
        ground = self.camera.place
        picture = self.camera.view(t, -self._travel(ground, t))
        for mover in self.behind:
            self._cast_shadow(mover, t, picture)
            mover.draw(t, picture, self._travel(mover.centre, t))
        self._cast_shadow(self.target, t, picture)
        stamp = self.target.draw(t, picture, self._travel(self.target.centre, t))
        for mover in self.front:
            cover = mover.draw(t, picture, self._travel(mover.centre, t))
            if stamp is not None and cover is not None:
                stamp.hide_behind(cover)
        seen = 0.0 if stamp is None else float(stamp.alpha.sum()) / 255
        visible = min(seen / self.target.area(t), 1.0)
        picture = self.sensor.apply(self.light.apply(picture, t), t)
        return picture, self._annotate(t, visible)

    def _travel(self, path: np.ndarray, t: int) -> np.ndarray:
        """How far something on `path` moves while the shutter is open, (2,) pixels."""
        return (path[t] - path[max(t - 1, 0)]) * self.sensor.shutter

    def _cast_shadow(self, mover: Mover, t: int, picture: np.ndarray) -> None:
        if self.shadow == 0:
            return
        (left, top), (right, bottom) = mover.extent(t)
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
