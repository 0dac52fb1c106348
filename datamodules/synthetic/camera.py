"""The camera of a synthetic video: its motion over the background, the light, and lens, sensor and compression."""

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.synthetic.motion import smooth_path
from datamodules.synthetic.moving_object import motion_blur_kernel


class Camera:
    """A view that pans, turns and zooms over a canvas, smoothly, with or without shake.

    Args:
        rng: random generator.
        canvas: background (height, width, 3), larger than the picture; mirrored beyond its edges.
        width, height: size of the picture, pixels.
        moments: number of time steps.

    Attributes:
        shake: jitter (moments, 2) in pixels, shared by everything in the picture.
        centre: canvas point (moments, 2) at the centre of the picture, pixels.
        zoom, angle: scale and rotation (moments,) of the view.
    """

    def __init__(self, rng: Generator, canvas: np.ndarray, width: int, height: int, moments: int):
        self.canvas, self.width, self.height = canvas, width, height
        side = np.sqrt(width * height)
        drift = np.zeros((moments, 2))
        if rng.random() < 0.75:
            pace = side * np.exp(rng.uniform(np.log(0.0015), np.log(0.02)))
            velocity = np.stack([smooth_path(rng, moments, 14), 0.4 * smooth_path(rng, moments, 14)], axis=1)
            velocity += rng.normal(0, 0.7, 2) * (1, 0.3)
            drift = np.cumsum(velocity * pace, axis=0)
        self.shake = np.zeros((moments, 2))
        if rng.random() < 0.35:
            self.shake = rng.normal(0, side * rng.uniform(0.001, 0.006), (moments, 2))
        room = np.array([canvas.shape[1] - width, canvas.shape[0] - height])
        # The view stays near the canvas: far beyond its edges are only mirror images, with the sky below the ground.
        reach = np.array([0.7 * width, 0.3 * height])
        self.centre = np.array([width, height]) / 2 + room * rng.uniform(0.3, 0.7, 2) + reach * np.tanh(drift / reach)
        self.zoom = np.exp(smooth_path(rng, moments, 18) * rng.uniform(0, 0.12))
        self.angle = smooth_path(rng, moments, 15) * rng.choice([0.0, rng.uniform(0.01, 0.09)])

    def linear(self, t: int) -> np.ndarray:
        """Returns the linear part (2, 2) of the map from canvas to picture."""
        c, s = np.cos(self.angle[t]), np.sin(self.angle[t])
        return self.zoom[t] * np.array([[c, -s], [s, c]])

    def to_picture(self, points: np.ndarray, t: int) -> np.ndarray:
        """Maps canvas points (..., 2) to the picture at moment t, pixels."""
        return (points - self.centre[t]) @ self.linear(t).T + (self.width / 2, self.height / 2) + self.shake[t]

    def to_canvas(self, points: np.ndarray, t: int) -> np.ndarray:
        """Maps picture points to the canvas; the inverse of `to_picture`."""
        centred = points - (self.width / 2, self.height / 2) - self.shake[t]
        return centred @ np.linalg.inv(self.linear(t)).T + self.centre[t]

    def picture_path(self, point: np.ndarray) -> np.ndarray:
        """Returns the picture positions (moments, 2) of a point (2,) that is fixed on the canvas."""
        return np.stack([self.to_picture(point, t) for t in range(len(self.zoom))])

    def view(self, t: int, blur: np.ndarray) -> np.ndarray:
        """Returns the background (height, width, 3) at moment t, blurred along the vector `blur` in pixels."""
        linear = self.linear(t)
        origin = self.to_picture(np.full(2, 0.5), t) - 0.5
        matrix = np.column_stack([linear, origin])
        size = (self.width, self.height)
        picture = cv2.warpAffine(self.canvas, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        kernel = motion_blur_kernel(blur)
        return picture if kernel is None else cv2.filter2D(picture, -1, kernel)


class Light:
    """Brightness, contrast and colour cast of a video, which change slowly."""

    def __init__(self, rng: Generator, moments: int):
        self.gamma = np.exp(rng.normal(0, 0.2) + smooth_path(rng, moments, 20) * rng.uniform(0, 0.2))
        cast = rng.normal(0, 0.07, 3)
        cast = cast + np.stack([smooth_path(rng, moments, 25) for _ in range(3)], 1) * rng.uniform(0, 0.04)
        self.gain = np.exp(cast + rng.normal(0, 0.1) + (smooth_path(rng, moments, 20) * rng.uniform(0, 0.12))[:, None])
        self.haze = rng.choice([0.0, rng.uniform(0.1, 0.4)], p=[0.87, 0.13])
        self.air = rng.uniform(120, 230)

    def apply(self, picture: np.ndarray, t: int) -> np.ndarray:
        """Returns the picture (height, width, 3) uint8 in the light of moment t."""
        value = 255 * (np.arange(256) / 255)[:, None] ** self.gamma[t] * self.gain[t]
        value = (1 - self.haze) * value + self.haze * self.air
        return cv2.LUT(picture, np.clip(value, 0, 255).astype(np.uint8)[None])


class Sensor:
    """Defocus, low resolution, noise and compression of a video; `shutter` is the exposure time in moments."""

    def __init__(self, rng: Generator, width: int, height: int, moments: int):
        side = np.sqrt(width * height)
        self.shutter = rng.choice([0.0, rng.uniform(0.2, 0.7)])
        self.shrink = float(rng.choice([1.0, np.exp(-abs(rng.normal(0, 0.5)))], p=[0.6, 0.4]))
        # An autofocus that hunts for its distance: the picture is sharp most of the time.
        hunts = rng.random() < 0.2
        self.defocus = np.maximum(smooth_path(rng, moments, 6) - 0.5, 0) * (side / 200 if hunts else 0)
        self.quality = int(rng.integers(15, 70)) if rng.random() < 0.3 else None
        self.noise = None
        if rng.random() < 0.45:
            grain = rng.standard_normal((height + 16, width + 16, 3), dtype=np.float32)
            if rng.random() < 0.5:
                grain = cv2.GaussianBlur(grain, (0, 0), 0.8) * 2
            self.noise = (grain * rng.uniform(1.5, 9)).astype(np.int16)
            self.offset = rng.integers(0, 17, (moments, 2))

    def apply(self, picture: np.ndarray, t: int) -> np.ndarray:
        """Returns the picture (height, width, 3) uint8 as the camera records it at moment t."""
        height, width = picture.shape[:2]
        if self.defocus[t] > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), self.defocus[t])
        if self.shrink < 0.95:
            small = cv2.resize(picture, None, fx=self.shrink, fy=self.shrink, interpolation=cv2.INTER_AREA)
            picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.noise is not None:
            x, y = self.offset[t]
            picture = cv2.add(picture, self.noise[y : y + height, x : x + width], dtype=cv2.CV_8U)
        if self.quality is not None:
            encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
            return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
        return picture
