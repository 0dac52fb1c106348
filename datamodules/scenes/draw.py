"""Draws what samples show: which objects stand where in which frame, and the window of each crop. Pixels come later.

A sample is one moment for each of its crops. A time gap between 0 and 1 says how far a moment is from the first, and
scales all that changes between the two. Lengths are pixels of imagined frames.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from datamodules.augmentation import Augmentation
from datamodules.scenes.bank import Bank
from datamodules.scenes.light import changed, light_of
from datamodules.scenes.photo_realism import PhotoRealism
from trackers.crops import CropSpec

Scene = dict[str, Any]

BEHIND, FRONT = 3, 2  # places for things behind and in front of the target
TARGET = BEHIND
ASPECTS = np.array([16 / 9, 4 / 3, 1.5, 1.0, 9 / 16])
LEVELS = 3  # of each picture: whole, half, quarter; what shrinks is read from a smaller one
SMALLEST, LARGEST = 0.03, 0.6  # the target's size as a share of the frame's


def draw(
    rng: Generator,
    samples: int,
    roles: Sequence[tuple[str, CropSpec]],
    bank: Bank,
    augmentation: Augmentation,
    look: PhotoRealism,
) -> dict[str, Scene]:
    """A batch without its pixels, as arrays.

    Args:
        rng: of all that is drawn.
        samples: B.
        roles: "template" and "search" with their crops.
        bank: what there is to show; of its tensors the pictures are not looked at.
        augmentation: how often crops are gray, mirrored, brighter.
        look: how much of a photograph there is in them.

    Returns:
        For each role "box" (B, n, 4), xywh in units of the crop's side, "padding" (B, n, 2, S), and for the renderer:
        "thing" (B, n, L), number of object and pose in one, -1 for none, back to front; "place" (B, n, L, 2, 3), from
        crop (in units of its side) to picture (from -1 to 1); "gain" (B, n, L, 3); "pattern" (B, n, L), number of the
        backdrop that is seen on it, "depth" (B, n, L), how strong, and "weave" (B, n, L, 2, 3), from crop to its
        picture; "ground" (B, n) and "view" (B, n, 2, 3), the same for the backdrop; "frame" (B, n, 4), xyxy of the
        frame in units of the crop's side; "light" (B, n, 12), see `LIGHT`, and "changed", see `expose`; "mirror"
        (B, n); "reads", for backdrops and each of the L layers in which of the B * n crops they are read at each of
        `LEVELS`: known here, so that no device is waited for.
    """
    crops = [spec for _, spec in roles for _ in range(spec.count)]
    views = len(crops)
    gap = rng.random((samples, views)) ** 0.7
    gap[:, 0] = 0
    world = _World(rng, bank, gap, look)
    windows, padding = world.windows(crops)
    box = world.box
    left, top, side = (windows[..., i] for i in range(3))
    relative = np.concatenate([(box[..., :2] - windows[..., :2]) / side[..., None], box[..., 2:] / side[..., None]], -1)
    place, weave, ground = world.maps(left, top, side)
    mirror = (rng.random((samples, 1)) < augmentation.flip) ^ (rng.random((samples, views)) < augmentation.flip_each)
    relative[..., 0] = np.where(mirror, 1 - relative[..., 0] - relative[..., 2], relative[..., 0])
    width, height = world.shape[:, 0, None], world.shape[:, 1, None]
    frame = np.stack([-left / side, -top / side, (width - left) / side, (height - top) / side], -1)
    sizes = np.array([c.size for c in crops])
    light, detail = light_of(rng, gap, sizes / side, augmentation, look, bank, world.ground[:, 0])
    pixels = np.array([bank.objects.shape[-1], bank.backdrops.shape[-1]])
    texels = (
        np.concatenate([_spread(ground)[..., None] * pixels[1], _spread(place) * pixels[0]], -1) / sizes[:, None] / 2
    )
    level = np.clip(np.rint(np.log2(np.maximum(texels, 1))), 0, LEVELS - 1)
    level[..., 1:][world.thing < 0] = -1
    batch, first = {}, 0
    for role, spec in roles:
        cut = slice(first, first + spec.count)
        padded = np.stack([np.stack(p[cut]) for p in padding])
        padded[..., 1, :] = np.where(mirror[:, cut, None], padded[..., 1, ::-1], padded[..., 1, :])
        batch[role] = {
            "box": _single(relative[:, cut]),
            "padding": padded,
            "thing": world.thing[:, cut],
            "place": _single(place[:, cut]),
            "gain": _single(world.gain[:, cut]),
            "pattern": world.skin[:, cut, :, 0].astype(int),
            "depth": _single(world.skin[:, cut, :, 1]),
            "weave": _single(weave[:, cut]),
            "ground": world.ground[:, cut],
            "view": _single(ground[:, cut]),
            "frame": _single(frame[:, cut]),
            "light": _single(light[:, cut]),
            "changed": changed(light[:, cut], detail[:, cut]),
            "reads": [[np.flatnonzero(part == i) for i in range(LEVELS)] for part in np.moveaxis(level[:, cut], -1, 0)],
            "mirror": mirror[:, cut],
        }
        first += spec.count
    return batch


class _World:
    """Frames, and what stands in them, for all samples (B) and moments (V) at once.

    Attributes:
        shape: (B, 2), width and height of the frames.
        box: (B, V, 4), the target's, xywh, clipped to the frame.
        thing: (B, V, L), see `draw`.
        gain: (B, V, L, 3), factors on the colours.
        skin: (B, V, L, 8), the pattern on each: number of a backdrop, how strong, and a map (2, 3) to its picture.
        ground: (B, V), number of the backdrop.
    """

    def __init__(self, rng: Generator, bank: Bank, gap: np.ndarray, look: PhotoRealism):
        self.rng, self.bank, self.gap, self.look = rng, bank, gap, look
        count, views = gap.shape
        poses = bank.extents.shape[1]
        width = np.exp(rng.uniform(np.log(240), np.log(1280), count))
        self.shape = np.stack([width, width / rng.choice(ASPECTS, count, p=[0.5, 0.2, 0.1, 0.1, 0.1])], 1).round()
        area = np.sqrt(self.shape.prod(1))[:, None]
        grounds = len(bank.backdrops)
        self.ground = np.repeat(rng.integers(0, grounds, (count, 1)), views, 1)
        # The target
        size = area * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), (count, 1)))
        size = np.clip(size * np.exp(0.3 * gap * rng.standard_normal(gap.shape)), 5, 0.9 * area)
        away = rng.uniform(0.06, 0.94, (count, 1, 2)) * self.shape[:, None]
        centre = away + (gap * area)[..., None] * 0.25 * rng.standard_normal((count, views, 2))
        centre = np.clip(centre, 0.03 * self.shape[:, None], 0.97 * self.shape[:, None])
        objects = len(bank.extents)
        rigid = bank.occluders
        who = rng.integers(0, objects - rigid, (count, 1))
        pose = self._poses(who.shape, poses)
        self.thing = np.full((count, views, BEHIND + 1 + FRONT), -1)
        self.gain = np.ones((count, views, BEHIND + 1 + FRONT, 3))
        self.skin = np.zeros((count, views, BEHIND + 1 + FRONT, 8))
        self.matrix = np.zeros((count, views, BEHIND + 1 + FRONT, 2, 2))
        self.centre = np.zeros((count, views, BEHIND + 1 + FRONT, 2))
        self.hiding = look.hide * rng.random((count, 1, 1))
        target, skin = self._matrices(size), self._skins()
        self._put(TARGET, np.ones(count, bool), who * poses + pose, target, centre, skin)
        self.box = self._box(who * poses + pose, target, centre)
        # Company: half of it are look-alikes, and most of these of another colour.
        company = rng.choice(BEHIND + 1, count, p=[0.25, 0.25, 0.2, 0.3])
        front = rng.random(count) < 0.35
        for i in range(BEHIND):
            there = company > i
            alike = rng.random((count, 1)) < 0.5
            other = np.where(alike, who, rng.integers(0, objects - rigid, (count, 1)))
            tint = rng.uniform(0.4, 1.5, (count, 1, 1)) * np.exp(rng.normal(0, 0.2, (count, 1, 3)))
            tint = np.where(alike[..., None] & (rng.random((count, 1, 1)) < 0.6), tint, 1.0)
            its = (
                size * np.exp(rng.normal(-0.05, 0.25, (count, 1))) * np.exp(0.1 * gap * rng.standard_normal(gap.shape))
            )
            turn, far = rng.uniform(0, 2 * np.pi, (count, 1)), rng.uniform(0.8, 2.8, (count, 1)) * size
            offset = np.stack([np.cos(turn) * far, np.sin(turn) * far], -1)
            offset = offset + (0.8 * gap * size)[..., None] * rng.standard_normal((count, views, 2))
            numbers = other * poses + self._poses((count, 1), poses)
            matrix = self._matrices(its)
            its_skin = np.where(alike & (rng.random((count, 1)) < 0.5), skin, self._skins())
            before = front if i == 0 else np.zeros_like(front)  # one of them may stand before the target
            self._put(i, there & ~before, numbers, matrix, centre + offset, its_skin, tint)
            self._put(BEHIND + 1, there & before, numbers, matrix, centre + offset, its_skin, tint)
        # Something between camera and target, never in the first moment.
        hides = (rng.random(gap.shape) < 0.25) & (gap > 0)
        numbers = rng.integers(objects - rigid, objects, gap.shape) * poses + rng.integers(0, poses, gap.shape)
        matrix = self._matrices(size * rng.uniform(0.4, 1.0, gap.shape))
        offset = size[..., None] * rng.normal(0, 0.4, (count, views, 2))
        self._put(BEHIND + 2, hides, numbers, matrix, centre + offset, self._skins())
        # The backdrop moves behind all that.
        self.ground = np.where(rng.random(gap.shape) < 0.1 * gap, rng.integers(0, grounds, gap.shape), self.ground)
        canvas = np.array(bank.backdrops.shape[:1:-1], float)
        cover = np.exp(rng.uniform(np.log(0.6), np.log(2.2), (count, 1)))
        zoom = cover * canvas.min() / self.shape.min(1)[:, None] * np.exp(0.15 * gap * rng.standard_normal(gap.shape))
        angle = 0.05 * rng.standard_normal((count, 1)) + 0.1 * gap * self._heavy(gap.shape)
        self.camera = zoom[..., None, None] * _rotation(angle)
        drift = (gap * self._heavy(gap.shape) * 0.9 * size)[..., None] * rng.standard_normal((count, views, 2))
        middle = canvas * rng.uniform(0.3, 0.7, (count, 1, 2))
        self.canvas, self.aim = canvas, middle + (self.camera @ drift[..., None])[..., 0]

    def windows(self, crops: Sequence[CropSpec]) -> tuple[np.ndarray, list[list[np.ndarray]]]:
        """For each sample and crop: left, top and side of its window (B, V, 3), and its padding."""
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
                if window.padding.all(1).any():  # it would not show the frame
                    window = spec.training_window(shape, self.box[i, j])
                windows[i, j], padding[i][j] = window.pixels, window.padding
        return windows, padding

    def maps(self, left: np.ndarray, top: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From crops, in units of their side, to pictures: things and their patterns (B, V, L, 2, 3), the backdrop."""
        corner, scale = np.stack([left, top], -1), side[..., None, None]
        numbers = np.maximum(self.thing, 0) // self.bank.extents.shape[1]
        unit, *origin = np.moveaxis(self.bank.frames.numpy()[numbers], -1, 0)
        determinant = np.linalg.det(self.matrix)[..., None, None]
        inverse = np.linalg.inv(np.where(determinant == 0, np.eye(2), self.matrix)) * unit[..., None, None]
        offset = (inverse @ (corner[:, :, None] - self.centre)[..., None])[..., 0] + np.stack(origin, -1)
        place = np.concatenate([2 * inverse * scale[:, :, None], (2 * offset - 1)[..., None]], -1)
        skin = self.skin[..., 2:].reshape(*self.thing.shape, 2, 3)
        weave = skin[..., :2] @ place
        weave[..., 2] += skin[..., 2]
        middle = self.shape[:, None] / 2
        pixels = self.aim + (self.camera @ (corner - middle)[..., None])[..., 0]
        normal = 2 / self.canvas
        view = np.concatenate([self.camera * scale * normal[:, None], (pixels * normal - 1)[..., None]], -1)
        return place, weave, view

    def _put(
        self,
        slot: int,
        there: np.ndarray,
        numbers: np.ndarray,
        matrix: np.ndarray,
        centre: np.ndarray,
        skin: np.ndarray,
        tint: np.ndarray | float = 1.0,
    ) -> None:
        """Puts things into one place of the order, where they are `there`, (B,) or (B, V)."""
        there = np.broadcast_to(there if there.ndim == 2 else there[:, None], self.gap.shape)
        self.thing[:, :, slot] = np.where(there, numbers, self.thing[:, :, slot])
        self.matrix[:, :, slot] = np.where(there[..., None, None], matrix, self.matrix[:, :, slot])
        self.centre[:, :, slot] = np.where(there[..., None], centre, self.centre[:, :, slot])
        flicker = np.exp(0.15 * self.gap[..., None] * self.rng.standard_normal((*self.gap.shape, 1)))
        colours = self.bank.colours.numpy()[numbers // self.bank.extents.shape[1]].clip(0.02)
        nearer = (self.bank.tones.numpy()[self.ground[:, :1]] / colours).clip(0.2, 5) ** self.hiding
        self.gain[:, :, slot] = np.where(there[..., None], tint * flicker * nearer, self.gain[:, :, slot])
        self.skin[:, :, slot] = np.where(there[..., None], skin[:, None], self.skin[:, :, slot])

    def _skins(self) -> np.ndarray:
        """A pattern for a thing of each sample, (B, 8), see `skin`."""
        rng, count = self.rng, len(self.gap)
        which = rng.integers(0, len(self.bank.backdrops), (count, 1))
        turned = _rotation(rng.uniform(-np.pi, np.pi, count))
        turned *= np.exp(rng.uniform(np.log(0.15), np.log(0.8), (count, 1, 1)))
        weave = np.concatenate([turned, rng.uniform(-0.6, 0.6, (count, 2, 1))], -1).reshape(count, 6)
        return np.concatenate([which, self.look.pattern * rng.random((count, 1)), weave], 1)

    def _poses(self, shape: tuple[int, ...], poses: int) -> np.ndarray:
        """Poses (B, V): another one the likelier, the longer the gap."""
        first = self.rng.integers(0, poses, (len(self.gap), 1))
        moved = self.rng.random(self.gap.shape) < 2 * self.gap
        return np.where(moved, self.rng.integers(0, poses, self.gap.shape), first)

    def _matrices(self, size: np.ndarray) -> np.ndarray:
        """Linear maps (B, V, 2, 2) from object sizes to pixels: turned, stretched and sheared."""
        rng, gap = self.rng, self.gap
        angle = 0.15 * rng.standard_normal((len(gap), 1)) + 0.22 * gap * self._heavy(gap.shape)
        wide = 0.15 * rng.standard_normal((len(gap), 1)) + 0.16 * gap * self._heavy(gap.shape)
        wide = np.exp(np.clip(wide, -0.7, 0.7) / 2)
        shear = 0.1 * gap * rng.standard_normal(gap.shape)
        mirrored = np.where(rng.random((len(gap), 1)) < 0.5, -1.0, 1.0)
        stretch = np.stack([np.stack([wide * mirrored, shear], -1), np.stack([0 * wide, 1 / wide], -1)], -2)
        return size[..., None, None] * _rotation(np.clip(angle, -1.2, 1.2)) @ stretch

    def _box(self, numbers: np.ndarray, matrix: np.ndarray, centre: np.ndarray) -> np.ndarray:
        points = self.bank.extents.flatten(0, 1).numpy()[numbers] @ matrix.swapaxes(-1, -2) + centre[..., None, :]
        limit = self.shape[:, None]
        low, high = np.clip(points.min(2), 0, limit), np.clip(points.max(2), 0, limit)
        # The origin of an object lies in its frame, but of an odd shape little else may.
        extent = np.maximum(high - low, 3.0)
        return np.concatenate([np.clip(low, 0, limit - extent), extent], -1)

    def _heavy(self, shape: tuple[int, ...]) -> np.ndarray:
        """Mostly small, sometimes large: Student's t with three degrees of freedom, cut off."""
        return np.clip(self.rng.standard_t(3, shape), -5, 5)


def _spread(maps: np.ndarray) -> np.ndarray:
    """By how much maps (..., 2, 3) enlarge lengths."""
    return np.sqrt(np.abs(maps[..., 0, 0] * maps[..., 1, 1] - maps[..., 0, 1] * maps[..., 1, 0]))


def _rotation(angle: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def _single(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)
