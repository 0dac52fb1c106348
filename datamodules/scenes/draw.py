"""Draws random scenes: objects in imagined frames, and the window of each crop. The renderer makes the pixels later.

Each crop of a sample shows a moment of its own. Its time gap to the first moment, between 0 and 1, scales every change
between the two. Lengths are in pixels of the imagined frames.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from datamodules.augmentation import Augmentation
from datamodules.scenes.bank import Bank
from datamodules.scenes.camera import LUMA
from datamodules.scenes.camera_settings import draw_camera_settings, find_affected
from datamodules.scenes.photo_realism import PhotoRealism
from trackers.crops import CropSpec

Scene = dict[str, Any]

BEHIND, FRONT = 3, 2  # layers behind and in front of the target
TARGET = BEHIND
ASPECTS = np.array([16 / 9, 4 / 3, 1.5, 1.0, 9 / 16])
LEVELS = 3  # resolutions of each picture: full, half, quarter; a picture that shrinks is sampled from a smaller one
SMALLEST, LARGEST = 0.03, 0.6  # size of the target over the size of the frame; sizes are square roots of areas


def draw_scenes(
    rng: Generator,
    samples: int,
    roles: Sequence[tuple[str, CropSpec]],
    bank: Bank,
    augmentation: Augmentation,
    realism: PhotoRealism,
    rows: slice = slice(None),
) -> dict[str, Scene]:
    """Draws a batch of scenes, as arrays without pixels.

    Args:
        rng: random generator.
        samples: number of samples in the batch.
        roles: "template" and "search" with their crops.
        bank: objects and backdrops; their pictures are not read here.
        augmentation: probabilities and ranges of gray, mirrored and brighter crops.
        realism: properties of photographs.
        rows: samples of the batch to return. All samples are drawn, so a sample does not depend on this choice.

    Returns:
        For each role, with B samples, n crops and L layers of objects from back to front:

        - "box" (B, n, 4), xywh in units of the crop's side, and "padding" (B, n, 2, S).
        - "object" (B, n, L), number of object and pose in one, -1 for none; "object_map" (B, n, L, 2, 3), from crop
          coordinates (in units of its side) to picture coordinates (from -1 to 1); "gain" (B, n, L, 3).
        - "pattern" (B, n, L), number of the backdrop that patterns the object; "pattern_strength" (B, n, L);
          "pattern_map" (B, n, L, 2, 3), from crop to picture.
        - "backdrop" (B, n), its number, and "backdrop_map" (B, n, 2, 3), from crop to picture.
        - "frame" (B, n, 4), xyxy of the frame in units of the crop's side, and "mirror" (B, n).
        - "camera" (B, n, 12) and "affected", see `apply_camera`.
        - "levels": for the backdrop and each layer, which of the B * n crops sample it at each of `LEVELS`. It is
          computed here, since the renderer must not wait for its device.
    """
    crops = [spec for _, spec in roles for _ in range(spec.count)]
    views = len(crops)
    gap = rng.random((samples, views)) ** 0.7
    gap[:, 0] = 0
    drawn = _SceneBatch(rng, bank, gap, realism)
    windows, padding = drawn.windows(crops)
    box = drawn.box
    left, top, side = (windows[..., i] for i in range(3))
    relative = np.concatenate([(box[..., :2] - windows[..., :2]) / side[..., None], box[..., 2:] / side[..., None]], -1)
    object_map, pattern_map, backdrop_map = drawn.maps(left, top, side)
    mirror = (rng.random((samples, 1)) < augmentation.flip) ^ (rng.random((samples, views)) < augmentation.flip_each)
    relative[..., 0] = np.where(mirror, 1 - relative[..., 0] - relative[..., 2], relative[..., 0])
    width, height = drawn.shape[:, 0, None], drawn.shape[:, 1, None]
    frame = np.stack([-left / side, -top / side, (width - left) / side, (height - top) / side], -1)
    sizes = np.array([c.size for c in crops])
    backdrop = drawn.backdrop[:, 0]
    brightness = bank.backdrop_colours.numpy()[backdrop] @ np.array(LUMA)
    deviation = bank.backdrop_contrasts.numpy()[backdrop]
    camera, scale = draw_camera_settings(rng, gap, sizes / side, augmentation, realism, brightness, deviation)
    pixels = np.array([bank.objects.shape[-1], bank.backdrops.shape[-1]])
    scales = np.concatenate([_scale_of(backdrop_map)[..., None] * pixels[1], _scale_of(object_map) * pixels[0]], -1)
    reduction = scales / sizes[:, None] / 2  # picture pixels per crop pixel
    level = np.clip(np.rint(np.log2(np.maximum(reduction, 1))), 0, LEVELS - 1)
    level[..., 1:][drawn.object < 0] = -1
    batch, first = {}, 0
    for role, spec in roles:
        cut = slice(first, first + spec.count)
        padded = np.stack([np.stack(p[cut]) for p in padding[rows]])
        padded[..., 1, :] = np.where(mirror[rows, cut, None], padded[..., 1, ::-1], padded[..., 1, :])
        batch[role] = {
            "box": _float32(relative[rows, cut]),
            "padding": padded,
            "object": drawn.object[rows, cut],
            "object_map": _float32(object_map[rows, cut]),
            "gain": _float32(drawn.gain[rows, cut]),
            "pattern": drawn.pattern[rows, cut, :, 0].astype(int),
            "pattern_strength": _float32(drawn.pattern[rows, cut, :, 1]),
            "pattern_map": _float32(pattern_map[rows, cut]),
            "backdrop": drawn.backdrop[rows, cut],
            "backdrop_map": _float32(backdrop_map[rows, cut]),
            "frame": _float32(frame[rows, cut]),
            "camera": _float32(camera[rows, cut]),
            "affected": find_affected(camera[rows, cut], scale[rows, cut]),
            "levels": [
                [np.flatnonzero(part == i) for i in range(LEVELS)] for part in np.moveaxis(level[rows, cut], -1, 0)
            ],
            "mirror": mirror[rows, cut],
        }
        first += spec.count
    return batch


class _SceneBatch:
    """Frames and the objects in them, for all samples (B) and moments (V) at once.

    Attributes:
        shape: (B, 2), width and height of the frames.
        box: (B, V, 4), box of the target, xywh, clipped to the frame.
        object: (B, V, L), see `draw_scenes`.
        gain: (B, V, L, 3), factors on the colours.
        pattern: (B, V, L, 8), patterns on the objects: number of a backdrop, strength, and the map (2, 3) from the
            object's picture to the backdrop's.
        backdrop: (B, V), number of the backdrop.
        camera: (B, V, 2, 2), linear map from the frame to the backdrop, pixels.
        camera_centre: (B, V, 2), point of the backdrop at the centre of the frame, pixels.
    """

    def __init__(self, rng: Generator, bank: Bank, gap: np.ndarray, realism: PhotoRealism):
        self.rng, self.bank, self.gap, self.realism = rng, bank, gap, realism
        count, views = gap.shape
        width = np.exp(rng.uniform(np.log(240), np.log(1280), count))
        self.shape = np.stack([width, width / rng.choice(ASPECTS, count, p=[0.5, 0.2, 0.1, 0.1, 0.1])], 1).round()
        self.backdrop = np.repeat(rng.integers(0, len(bank.backdrops), (count, 1)), views, 1)
        layers = (count, views, BEHIND + 1 + FRONT)
        self.object = np.full(layers, -1)
        self.gain = np.ones((*layers, 3))
        self.pattern = np.zeros((*layers, 8))
        self.matrix = np.zeros((*layers, 2, 2))
        self.centre = np.zeros((*layers, 2))
        self._draw_target()
        self._draw_distractors()
        self._draw_occluders()
        self._draw_camera()

    def _draw_target(self) -> None:
        rng, gap = self.rng, self.gap
        count, views = gap.shape
        area = np.sqrt(self.shape.prod(1))[:, None]
        size = area * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), (count, 1)))
        self.target_size = np.clip(size * np.exp(0.3 * gap * rng.standard_normal(gap.shape)), 5, 0.9 * area)
        first_centre = rng.uniform(0.06, 0.94, (count, 1, 2)) * self.shape[:, None]
        centre = first_centre + (gap * area)[..., None] * 0.25 * rng.standard_normal((count, views, 2))
        centre = np.clip(centre, 0.03 * self.shape[:, None], 0.97 * self.shape[:, None])
        self.target = self._draw_objects()
        numbers = self._draw_poses(self.target)
        self.camouflage = self.realism.hide * rng.random((count, 1, 1))
        matrix, self.target_pattern = self._draw_matrices(self.target_size), self._draw_patterns()
        self._place(TARGET, np.ones(count, bool), numbers, matrix, centre, self.target_pattern)
        self.box = self._box(numbers, matrix, centre)

    def _draw_distractors(self) -> None:
        """Draws objects around the target. Half of them look like the target, mostly in another colour."""
        rng, gap, size = self.rng, self.gap, self.target_size
        count, views = gap.shape
        centre, pattern = self.centre[:, :, TARGET], self.target_pattern
        distractors = rng.choice(BEHIND + 1, count, p=[0.25, 0.25, 0.2, 0.3])
        front = rng.random(count) < 0.35
        for i in range(BEHIND):
            present = distractors > i
            alike = rng.random((count, 1)) < 0.5
            other = np.where(alike, self.target, self._draw_objects())
            tint = rng.uniform(0.4, 1.5, (count, 1, 1)) * np.exp(rng.normal(0, 0.2, (count, 1, 3)))
            tint = np.where(alike[..., None] & (rng.random((count, 1, 1)) < 0.6), tint, 1.0)
            other_size = size * np.exp(rng.normal(-0.05, 0.25, (count, 1)))
            other_size = other_size * np.exp(0.1 * gap * rng.standard_normal(gap.shape))
            angle, distance = rng.uniform(0, 2 * np.pi, (count, 1)), rng.uniform(0.8, 2.8, (count, 1)) * size
            offset = np.stack([np.cos(angle) * distance, np.sin(angle) * distance], -1)
            offset = offset + (0.8 * gap * size)[..., None] * rng.standard_normal((count, views, 2))
            numbers = self._draw_poses(other)
            matrix = self._draw_matrices(other_size)
            other_pattern = np.where(alike & (rng.random((count, 1)) < 0.5), pattern, self._draw_patterns())
            in_front = front if i == 0 else np.zeros_like(front)  # one distractor may stand before the target
            self._place(i, present & ~in_front, numbers, matrix, centre + offset, other_pattern, tint)
            self._place(BEHIND + 1, present & in_front, numbers, matrix, centre + offset, other_pattern, tint)

    def _draw_occluders(self) -> None:
        """Draws an object between camera and target in a quarter of the moments, never in the first one."""
        rng, gap, size = self.rng, self.gap, self.target_size
        objects, poses = self.bank.extents.shape[:2]
        occluded = (rng.random(gap.shape) < 0.25) & (gap > 0)
        number = rng.integers(objects - self.bank.occluder_count, objects, gap.shape)
        numbers = number * poses + rng.integers(0, poses, gap.shape)
        matrix = self._draw_matrices(size * rng.uniform(0.4, 1.0, gap.shape))
        offset = size[..., None] * rng.normal(0, 0.4, (*gap.shape, 2))
        self._place(BEHIND + 2, occluded, numbers, matrix, self.centre[:, :, TARGET] + offset, self._draw_patterns())

    def _draw_camera(self) -> None:
        """Draws how the camera moves over the backdrop; sometimes the camera shows another backdrop."""
        rng, gap, size = self.rng, self.gap, self.target_size
        count, views = gap.shape
        another = rng.random(gap.shape) < 0.1 * gap
        self.backdrop = np.where(another, rng.integers(0, len(self.bank.backdrops), gap.shape), self.backdrop)
        canvas = np.array(self.bank.backdrops.shape[:1:-1], float)
        cover = np.exp(rng.uniform(np.log(0.6), np.log(2.2), (count, 1)))
        zoom = cover * canvas.min() / self.shape.min(1)[:, None] * np.exp(0.15 * gap * rng.standard_normal(gap.shape))
        angle = 0.05 * rng.standard_normal((count, 1)) + 0.1 * gap * self._heavy_tailed(gap.shape)
        self.camera = zoom[..., None, None] * _rotation(angle)
        drift = (gap * self._heavy_tailed(gap.shape) * 0.9 * size)[..., None] * rng.standard_normal((count, views, 2))
        middle = canvas * rng.uniform(0.3, 0.7, (count, 1, 2))
        self.canvas, self.camera_centre = canvas, middle + (self.camera @ drift[..., None])[..., 0]

    def windows(self, crops: Sequence[CropSpec]) -> tuple[np.ndarray, list[list[np.ndarray]]]:
        """Returns left, top and side of the window of each crop, (B, V, 3), and its padding by sample and crop."""
        count, views = self.gap.shape
        windows, padding = np.empty((count, views, 3)), [[None] * views for _ in range(count)]
        scale, shift = (
            np.array([getattr(c, name) for c in crops])[:, None] for name in ("scale_jitter", "centre_jitter")
        )
        around = self.box.copy()
        size = self.box[..., 2:] * np.exp(scale * self.rng.standard_normal((count, views, 2)))
        centre = self.box[..., :2] + self.box[..., 2:] / 2
        centre = centre + shift * np.sqrt(size.prod(-1))[..., None] * (self.rng.random((count, views, 2)) - 0.5)
        around[..., :2], around[..., 2:] = centre - size / 2, size
        for i in range(count):
            shape = (int(self.shape[i, 1]), int(self.shape[i, 0]))
            for j, spec in enumerate(crops):
                window = spec.training_window(shape, around[i, j])
                if window.padding.all(1).any():  # the window would not show the frame
                    window = spec.training_window(shape, self.box[i, j])
                windows[i, j], padding[i][j] = window.pixels, window.padding
        return windows, padding

    def maps(self, left: np.ndarray, top: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the maps of objects and patterns (B, V, L, 2, 3) and backdrops (B, V, 2, 3), see `draw_scenes`."""
        corner, scale = np.stack([left, top], -1), side[..., None, None]
        numbers = np.maximum(self.object, 0) // self.bank.extents.shape[1]
        object_size, *origin = np.moveaxis(self.bank.frames.numpy()[numbers], -1, 0)
        determinant = np.linalg.det(self.matrix)[..., None, None]
        inverse = np.linalg.inv(np.where(determinant == 0, np.eye(2), self.matrix)) * object_size[..., None, None]
        offset = (inverse @ (corner[:, :, None] - self.centre)[..., None])[..., 0] + np.stack(origin, -1)
        object_map = np.concatenate([2 * inverse * scale[:, :, None], (2 * offset - 1)[..., None]], -1)
        pattern = self.pattern[..., 2:].reshape(*self.object.shape, 2, 3)
        pattern_map = pattern[..., :2] @ object_map
        pattern_map[..., 2] += pattern[..., 2]
        middle = self.shape[:, None] / 2
        pixels = self.camera_centre + (self.camera @ (corner - middle)[..., None])[..., 0]
        unit = 2 / self.canvas
        backdrop_map = np.concatenate([self.camera * scale * unit[:, None], (pixels * unit - 1)[..., None]], -1)
        return object_map, pattern_map, backdrop_map

    def _place(
        self,
        layer: int,
        present: np.ndarray,
        numbers: np.ndarray,
        matrix: np.ndarray,
        centre: np.ndarray,
        pattern: np.ndarray,
        tint: np.ndarray | float = 1.0,
    ) -> None:
        """Places objects in a layer of those samples and moments in which they are present, (B,) or (B, V) bool."""
        present = np.broadcast_to(present if present.ndim == 2 else present[:, None], self.gap.shape)
        self.object[:, :, layer] = np.where(present, numbers, self.object[:, :, layer])
        self.matrix[:, :, layer] = np.where(present[..., None, None], matrix, self.matrix[:, :, layer])
        self.centre[:, :, layer] = np.where(present[..., None], centre, self.centre[:, :, layer])
        flicker = np.exp(0.15 * self.gap[..., None] * self.rng.standard_normal((*self.gap.shape, 1)))
        objects = numbers // self.bank.extents.shape[1]
        real = self.bank.real.numpy()[objects]
        colours = self.bank.object_colours.numpy()[objects].clip(0.02)
        backdrop = self.bank.backdrop_colours.numpy()[self.backdrop[:, :1]]
        hidden = self._weaken(self.camouflage, self.realism.hide, real[..., None])
        towards = (backdrop / colours).clip(0.2, 5) ** hidden
        self.gain[:, :, layer] = np.where(present[..., None], tint * flicker * towards, self.gain[:, :, layer])
        self.pattern[:, :, layer] = np.where(present[..., None], pattern[:, None], self.pattern[:, :, layer])
        strength = self._weaken(self.pattern[:, :, layer, 1], self.realism.pattern, real & present)
        self.pattern[:, :, layer, 1] = strength

    def _weaken(self, strength: np.ndarray, largest: float, real: np.ndarray) -> np.ndarray:
        """Returns strengths, which are uniform up to `largest`, as they are for painted and weaker for real objects."""
        return np.where(real, np.maximum(strength - (1 - self.realism.real) * largest, 0), strength)

    def _draw_patterns(self) -> np.ndarray:
        """Draws a pattern for an object of each sample, (B, 8), see `pattern`."""
        rng, count = self.rng, len(self.gap)
        number = rng.integers(0, len(self.bank.backdrops), (count, 1))
        linear = _rotation(rng.uniform(-np.pi, np.pi, count))
        linear *= np.exp(rng.uniform(np.log(0.15), np.log(0.8), (count, 1, 1)))
        maps = np.concatenate([linear, rng.uniform(-0.6, 0.6, (count, 2, 1))], -1).reshape(count, 6)
        return np.concatenate([number, self.realism.pattern * rng.random((count, 1)), maps], 1)

    def _draw_objects(self) -> np.ndarray:
        """Draws an object other than an occluder for each sample, (B, 1)."""
        return self.rng.integers(0, len(self.bank.extents) - self.bank.occluder_count, (len(self.gap), 1))

    def _draw_poses(self, objects: np.ndarray) -> np.ndarray:
        """Draws poses of objects (B, 1); returns numbers (B, V) of object and pose in one.

        The probability of another pose than in the first moment grows with the time gap.
        """
        poses = self.bank.extents.shape[1]
        first = self.rng.integers(0, poses, (len(self.gap), 1))
        moved = self.rng.random(self.gap.shape) < 2 * self.gap
        return objects * poses + np.where(moved, self.rng.integers(0, poses, self.gap.shape), first)

    def _draw_matrices(self, size: np.ndarray) -> np.ndarray:
        """Draws linear maps (B, V, 2, 2) from object sizes to pixels: rotated, stretched and sheared."""
        rng, gap = self.rng, self.gap
        angle = 0.15 * rng.standard_normal((len(gap), 1)) + 0.22 * gap * self._heavy_tailed(gap.shape)
        wide = 0.15 * rng.standard_normal((len(gap), 1)) + 0.16 * gap * self._heavy_tailed(gap.shape)
        wide = np.exp(np.clip(wide, -0.7, 0.7) / 2)
        shear = 0.1 * gap * rng.standard_normal(gap.shape)
        mirrored = np.where(rng.random((len(gap), 1)) < 0.5, -1.0, 1.0)
        stretch = np.stack([np.stack([wide * mirrored, shear], -1), np.stack([0 * wide, 1 / wide], -1)], -2)
        return size[..., None, None] * _rotation(np.clip(angle, -1.2, 1.2)) @ stretch

    def _box(self, numbers: np.ndarray, matrix: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """Returns the boxes (B, V, 4) of objects, xywh, clipped to the frame, with sides of at least 3 pixels."""
        points = self.bank.extents.flatten(0, 1).numpy()[numbers] @ matrix.swapaxes(-1, -2) + centre[..., None, :]
        limit = self.shape[:, None]
        low, high = np.clip(points.min(2), 0, limit), np.clip(points.max(2), 0, limit)
        # The origin of an object lies in the frame, but the part of an odd shape in the frame may be very small.
        extent = np.maximum(high - low, 3.0)
        return np.concatenate([np.clip(low, 0, limit - extent), extent], -1)

    def _heavy_tailed(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draws numbers from Student's t with three degrees of freedom, clipped: mostly small, sometimes large."""
        return np.clip(self.rng.standard_t(3, shape), -5, 5)


def _scale_of(maps: np.ndarray) -> np.ndarray:
    """Returns the factor by which maps (..., 2, 3) scale lengths."""
    return np.sqrt(np.abs(maps[..., 0, 0] * maps[..., 1, 1] - maps[..., 0, 1] * maps[..., 1, 0]))


def _rotation(angle: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)
