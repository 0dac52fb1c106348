"""Paints backgrounds: open ground under a sky, walls and surfaces, with clutter standing on them."""

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.synthetic.textures import (
    adjust_tone,
    blend,
    blob,
    cloud,
    fractal,
    gradient,
    make_texture,
    modulate,
    palette,
    stripes,
)


def _paint(canvas: np.ndarray, outline: np.ndarray, cover: np.ndarray, offset: tuple[int, int]) -> None:
    """Fills an outline (n, 2) of the canvas, in place, with a piece of the picture `cover` from `offset` (x, y) on."""
    height, width = canvas.shape[:2]
    left, top = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 1, (width, height))
    right, bottom = min(right, left + cover.shape[1]), min(bottom, top + cover.shape[0])
    if right <= left or bottom <= top:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    shape = np.round((outline - (left, top)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [shape], 255, cv2.LINE_AA, shift=4)
    x = min(offset[0], cover.shape[1] - (right - left))
    y = min(offset[1], cover.shape[0] - (bottom - top))
    piece = cover[y : y + bottom - top, x : x + right - left]
    canvas[top:bottom, left:right] = blend(canvas[top:bottom, left:right], piece, mask.astype(np.float32) / 255)


def _object_outlines(rng: Generator, kind: int, foot: np.ndarray, size: float) -> list[np.ndarray]:
    """Returns the outlines of an object that stands at `foot`. Kinds: 0 block, 1 tree, 2 bush or stone, 3 post."""
    if kind == 0:
        w, h = size * rng.uniform(0.5, 1.6), size * rng.uniform(0.5, 1.8)
        return [foot + np.array([[-w / 2, 0], [-w / 2, -h], [w / 2, -h * rng.uniform(0.85, 1)], [w / 2, 0]])]
    if kind == 1:
        trunk = size * rng.uniform(0.04, 0.12)
        stem = foot + np.array([[-trunk, 0], [-trunk * 0.7, -size], [trunk * 0.7, -size], [trunk, 0]])
        crown = foot - (0, size * 1.1) + blob(rng, 28, 0.5) * size * rng.uniform(0.3, 0.6)
        return [stem, crown]
    if kind == 2:
        return [foot + blob(rng, 24, 0.5) * size * (rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.4))]
    thick = size * rng.uniform(0.02, 0.06)
    return [foot + np.array([[-thick, 0], [-thick, -size * 1.5], [thick, -size * 1.5], [thick, 0]])]


def _clutter(rng: Generator, canvas: np.ndarray, feet: tuple[float, float], sizes: tuple[float, float]) -> None:
    """Paints objects onto the canvas from far (small, standing at row `feet[0]`) to near. All numbers are in pixels."""
    height, width = canvas.shape[:2]
    covers = [make_texture(rng, height // 2, width // 2) for _ in range(2)]
    kinds = rng.choice(4, 2)
    depth = np.sort(rng.random(int(rng.integers(4, 30))) ** rng.uniform(0.7, 2.5))
    for near in depth:
        foot = np.array([rng.uniform(0, width), feet[0] + near * (feet[1] - feet[0])])
        size = (sizes[0] + near * (sizes[1] - sizes[0])) * rng.uniform(0.6, 1.4)
        cover = covers[rng.integers(2)]
        offset = (int(rng.integers(0, cover.shape[1] // 2)), int(rng.integers(0, cover.shape[0] // 2)))
        shade = adjust_tone(cover, 1, rng.uniform(0.3, 1), palette(rng, 1)[0])
        for outline in _object_outlines(rng, int(rng.choice(kinds)), foot, size):
            _paint(canvas, outline, shade, offset)


def _open_ground(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints sky, horizon, ground in perspective and objects standing on it."""
    horizon = int(height * rng.uniform(0.15, 0.6))
    canvas = np.empty((height, width, 3), np.uint8)
    sky = gradient(rng, horizon, width) if rng.random() < 0.6 else make_texture(rng, horizon, width)
    bright = rng.uniform(0.2, 0.7)
    canvas[:horizon] = cv2.addWeighted(sky, 1 - bright, np.full_like(sky, 235), bright, 0)
    below = height - horizon
    ground = make_texture(rng, below, width) if rng.random() < 0.6 else cloud(rng, below, width)
    # Rows near the horizon show a wider stretch of ground than rows near the viewer.
    far = rng.uniform(0.15, 0.45)
    source = np.array([[0, 0], [width, 0], [width, below], [0, below]], np.float32)
    right, left = (width * (1 + side / far) / 2 for side in (1, -1))
    target = np.array([[0, 0], [width, 0], [right, below], [left, below]], np.float32)
    view = cv2.getPerspectiveTransform(source, target)
    canvas[horizon:] = cv2.warpPerspective(
        ground, view, (width, below), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    small = height * rng.uniform(0.04, 0.15)
    _clutter(rng, canvas, (horizon + 2, horizon + below * rng.uniform(0.05, 0.6)), (small, small * rng.uniform(1, 5)))
    return canvas


def _wall(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints a facade or fence over a strip of ground."""
    canvas = stripes(rng, height, width) if rng.random() < 0.5 else make_texture(rng, height, width)
    foot = int(height * rng.uniform(0.6, 0.95))
    canvas[foot:] = cloud(rng, height - foot, width)
    _clutter(rng, canvas, (foot, height), (height * 0.1, height * rng.uniform(0.2, 0.6)))
    return canvas


def _surface(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints a texture seen from above (water, lawn, floor), sometimes with stains or stones."""
    canvas = make_texture(rng, height, width)
    if rng.random() < 0.5:
        _clutter(rng, canvas, (0, height * 1.1), (height * 0.05, height * rng.uniform(0.05, 0.3)))
    return canvas


def make_backdrop(rng: Generator, height: int, width: int, saturation: float) -> np.ndarray:
    """Returns a random background (height, width, 3) uint8 BGR, often unevenly lit, sometimes out of focus."""
    kind = rng.choice(3, p=[0.45, 0.2, 0.35])
    canvas = (_open_ground, _wall, _surface)[kind](rng, height, width)
    if rng.random() < 0.5:
        light = fractal(rng, height, width, rng.uniform(1.5, 2.5), coarsest=2)
        canvas = modulate(canvas, light, rng.uniform(0.1, 0.6))
    if rng.random() < 0.7:
        # Smooth shapes have little fine detail at the resolution of the picture, so some is added.
        canvas = modulate(canvas, fractal(rng, height, width, rng.uniform(0, 0.4), coarsest=28), rng.uniform(0.2, 1.1))
    canvas = adjust_tone(canvas, saturation, rng.uniform(0.55, 1.1), rng.uniform(60, 170) * np.ones(3))
    if rng.random() < 0.25:
        canvas = cv2.GaussianBlur(canvas, (0, 0), min(height, width) / 200 * rng.uniform(0.3, 2))
    return canvas
