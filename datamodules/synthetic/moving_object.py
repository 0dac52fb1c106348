"""A moving object: a sprite with its motion, drawn into pictures.

Coordinates are continuous pixels: pixel i reaches from i to i + 1, as in the annotations.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from datamodules.synthetic.sprites import Sprite


@dataclass(frozen=True)
class MovingObject:
    """A sprite, and its position and appearance at each moment (first axis of every array).

    Attributes:
        sprite: pictures of the object in its poses.
        centre: position (moments, 2) of the sprite's origin, pixels.
        size: pixels per object size (moments,).
        angle: rotation (moments,), rad.
        stretch: log of width over height, relative to the sprite (moments,).
        shear: horizontal shear (moments,).
        pose: index of the pose (moments,).
        gain: factor on the brightness (moments,).
    """

    sprite: Sprite
    centre: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    stretch: np.ndarray
    shear: np.ndarray
    pose: np.ndarray
    gain: np.ndarray

    def matrix(self, t: int) -> np.ndarray:
        """Returns the linear part (2, 2) of the map from object sizes to pixels."""
        c, s = np.cos(self.angle[t]), np.sin(self.angle[t])
        wide = np.exp(self.stretch[t] / 2)
        return self.size[t] * np.array([[c, -s], [s, c]]) @ np.array([[wide, self.shear[t]], [0, 1 / wide]])

    def extent(self, t: int) -> np.ndarray:
        """Returns the corners [[left, top], [right, bottom]] of the whole object, pixels; they may lie outside."""
        points = self.sprite.hulls[self.pose[t]] @ self.matrix(t).T + self.centre[t]
        return np.stack([points.min(0), points.max(0)])

    def area(self, t: int) -> float:
        """Returns the area of the whole object in square pixels."""
        return self.sprite.areas[self.pose[t]] * float(abs(np.linalg.det(self.matrix(t))))

    def draw(self, t: int, picture: np.ndarray, blur: np.ndarray) -> "AlphaMask | None":
        """Draws the object into `picture` (height, width, 3), in place, blurred along the vector `blur` (2,) in pixels.

        Returns the alpha mask of the drawn object, or None if the object is outside of the picture.
        """
        kernel = motion_blur_kernel(blur)
        pad = 2 + (0 if kernel is None else kernel.shape[0] // 2)
        low, high = self.extent(t)
        low = np.floor(low).astype(int) - pad
        high = np.ceil(high).astype(int) + pad
        height, width = picture.shape[:2]
        left, top = np.maximum(low, 0)
        right, bottom = np.minimum(high, (width, height))
        if right <= left or bottom <= top:
            return None
        linear = self.matrix(t) / self.sprite.unit
        # OpenCV puts whole coordinates at pixel centres, we put them at pixel edges: half a pixel apart on both sides.
        shift = self.centre[t] - (left, top) - 0.5 - linear @ (self.sprite.centre - 0.5)
        pose = self.sprite.poses[self.pose[t]]
        layer = cv2.warpAffine(pose, np.column_stack([linear, shift]), (int(right - left), int(bottom - top)))
        if kernel is not None:
            layer = cv2.filter2D(layer, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        alpha = layer[..., 3]
        gain = float(self.gain[t])
        colours = cv2.convertScaleAbs(layer[..., :3], alpha=gain) if gain != 1 else layer[..., :3]
        region = picture[top:bottom, left:right]
        rest = cv2.merge([cv2.bitwise_not(alpha)] * 3)
        picture[top:bottom, left:right] = cv2.add(cv2.multiply(region, rest, scale=1 / 255), colours)
        return AlphaMask(int(left), int(top), alpha)


@dataclass
class AlphaMask:
    """Alpha (height, width) uint8 of a drawn object whose first pixel is (left, top) of the picture."""

    left: int
    top: int
    alpha: np.ndarray

    def subtract(self, other: "AlphaMask") -> None:
        """Removes the part that is covered by `other`, an object that was drawn later."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + self.alpha.shape[1], other.left + other.alpha.shape[1])
        bottom = min(self.top + self.alpha.shape[0], other.top + other.alpha.shape[0])
        if right <= left or bottom <= top:
            return
        own = self.alpha[top - self.top : bottom - self.top, left - self.left : right - self.left]
        cover = other.alpha[top - other.top : bottom - other.top, left - other.left : right - other.left]
        own[:] = cv2.multiply(own, cv2.bitwise_not(cover), scale=1 / 255)


def motion_blur_kernel(blur: np.ndarray) -> np.ndarray | None:
    """Returns a kernel of motion blur along a vector (2,) in pixels, or None below 1.5 pixels, which is invisible."""
    length = float(np.hypot(*blur))
    if length < 1.5:
        return None
    half = np.asarray(blur) / 2 * min(1.0, 14 / length)
    reach = int(np.ceil(np.abs(half).max()))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    ends = np.round((np.stack([-half, half]) + reach) * 16).astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0, 1, cv2.LINE_8, shift=4)
    return kernel / kernel.sum()
