"""Paints the pictures of `datamodules.scenes.bank`, in processes that need not import torch."""

from collections.abc import Sequence

import cv2
import numpy as np

from datamodules.synthetic.backdrops import make_backdrop
from datamodules.synthetic.sprites import POSES, make_occluder_sprite, make_sprite

DIRECTIONS = 32  # directions in which the extent of an object is stored
PAINTED_SIZE = 96.0  # size in pixels for which objects are painted


def paint_object(seed: int, index: int, side: int, occluder: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paints an object in all its poses.

    Args:
        seed, index: seed of the bank and number of the object in it.
        side: s, side of the pictures, pixels.
        occluder: whether to paint an occluder.

    Returns:
        (poses, 4, s, s) uint8, RGB premultiplied by alpha, and alpha; (poses, directions, 2) float32 and (3,) float32,
        rows of `extents` and `frames` of the bank.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng([seed, 1, index])
    make = make_occluder_sprite if occluder else make_sprite
    sprite = make(rng, PAINTED_SIZE, 1.0, rng.uniform(60, 170) * np.ones(3))
    pictures = [cv2.resize(pose, (side, side), interpolation=cv2.INTER_AREA) for pose in sprite.poses]
    pictures = np.stack([picture[..., [2, 1, 0, 3]].transpose(2, 0, 1) for picture in pictures])
    extents = find_extents(sprite.hulls)
    poses = np.arange(POSES) % len(pictures)
    frame = np.array([sprite.unit, *sprite.centre], np.float32) / sprite.poses[0].shape[0]
    return pictures[poses], extents[poses], frame


def find_extents(hulls: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the outermost points of convex hulls (points, 2) in all directions, (hulls, directions, 2) float32."""
    angle = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    direction = np.stack([np.cos(angle), np.sin(angle)])
    return np.stack([hull[(hull @ direction).argmax(0)] for hull in hulls]).astype(np.float32)


def paint_backdrop(seed: int, index: int, height: int, width: int) -> np.ndarray:
    """Paints backdrop `index` of a bank, (3, height, width) uint8 RGB."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([seed, 2, index])
    return make_backdrop(rng, height, width, 1.0)[..., ::-1].transpose(2, 0, 1).copy()
