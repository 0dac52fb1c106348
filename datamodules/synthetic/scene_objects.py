"""Makes the moving objects of a scene: the target, distractors beside it and occluders in front of it."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from datamodules.synthetic.camera import Camera
from datamodules.synthetic.motion import random_walk, smooth_path
from datamodules.synthetic.moving_object import MovingObject
from datamodules.synthetic.sprites import Sprite, make_occluder_sprite, make_sprite, recolour

# Size of the target (square root of its box area) over the size of the picture (square root of its area).
SMALLEST, LARGEST = 0.065, 0.5


def _animate(rng: Generator, sprite: Sprite, centre: np.ndarray, size: np.ndarray) -> MovingObject:
    """Returns a sprite that moves along `centre`, with rotation, a gait, and small changes of shape and brightness."""
    moments = len(size)
    angle = rng.normal(0, 0.15) + smooth_path(rng, moments, rng.uniform(8, 20)) * rng.choice([0.05, 0.15, 0.35])
    if rng.random() < 0.1:
        angle = angle + np.cumsum(smooth_path(rng, moments, 15)) * 0.06
    stretch = smooth_path(rng, moments, rng.uniform(8, 20)) * rng.choice([0.05, 0.15, 0.3], p=[0.4, 0.4, 0.2])
    cycle = np.exp(rng.uniform(np.log(0.01), np.log(0.12))) * np.exp(0.5 * smooth_path(rng, moments, 10))
    phase = rng.random() + np.cumsum(cycle)
    poses = len(sprite.poses)
    return MovingObject(
        sprite=sprite,
        centre=centre,
        size=size,
        angle=angle,
        stretch=np.clip(stretch, -0.6, 0.6),
        shear=smooth_path(rng, moments, 15) * 0.05,
        pose=np.floor(phase * poses).astype(int) % poses,
        gain=np.exp(smooth_path(rng, moments, 12) * rng.choice([0.0, rng.uniform(0.02, 0.2)])),
    )


def _sizes(rng: Generator, base: float, moments: int) -> np.ndarray:
    """Draws sizes (moments,) around `base`, pixels; the largest is about twice the smallest at most."""
    change = smooth_path(rng, moments, rng.uniform(10, 28)) * rng.uniform(0.05, 0.35)
    return base * np.exp(np.clip(change, -0.4, 0.4))


def _walk_through(rng: Generator, start: np.ndarray, size: np.ndarray, camera: Camera) -> np.ndarray:
    """Draws a walk (moments, 2) through the picture, at some hundredths of the object's size per moment."""
    frame = np.array([camera.width, camera.height])
    pace = np.exp(rng.normal(np.log(0.075), 0.5)) * np.exp(np.clip(0.5 * smooth_path(rng, len(size), 9), -1.2, 0.9))
    speed = np.minimum(np.clip(pace, 0.01, 0.35) * size, 0.03 * np.sqrt(frame.prod()))
    margin = rng.uniform(0.06, 0.15)
    low, high = margin * frame, (1 - margin) * frame
    start = np.clip(start, low, high)
    if rng.random() < 0.35:
        # A camera that follows the object keeps it near one place.
        room = size.mean() * rng.uniform(0.3, 1.2)
        low, high = np.maximum(low, start - room), np.minimum(high, start + room)
    return random_walk(rng, start, speed, low, high)


def make_target(
    rng: Generator, camera: Camera, saturation: float, ambient: np.ndarray, leaves: bool = False
) -> MovingObject:
    """Returns the object to track. Its origin never leaves the picture, unless it `leaves` once and returns."""
    frame = np.array([camera.width, camera.height])
    moments = len(camera.zoom)
    base = np.sqrt(frame.prod()) * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    size = _sizes(rng, base, moments)
    sprite = make_sprite(rng, size.max(), saturation, ambient)
    centre = _walk_through(rng, frame * rng.uniform(0.15, 0.85, 2), size, camera) + camera.shake
    target = _animate(rng, sprite, np.clip(centre, 0.03 * frame, 0.97 * frame), size)
    return _leaving(rng, target, frame) if leaves else target


def _leaving(rng: Generator, target: MovingObject, frame: np.ndarray) -> MovingObject:
    """Returns an object that leaves the picture across one of its edges in the middle of the video, and returns.

    All of it is outside for 15 to 30 % of the video; it leaves and returns in 10 % each.

    Args:
        rng: random generator.
        target: the object.
        frame: width and height of the picture.
    """
    moments = len(target.size)
    begin, outside = rng.uniform(0.25, 0.4), rng.uniform(0.15, 0.3)
    progress = np.clip(
        np.interp(np.arange(moments) / moments, begin + np.cumsum([0, 0.1, outside, 0.1]), [0, 1, 1, 0]), 0, 1
    )
    axis, forward = int(rng.integers(2)), bool(rng.integers(2))
    low, high = np.stack([target.extent(t)[:, axis] for t in range(moments)], 1)
    way = (frame[axis] - low).max() + 4 if forward else -high.max() - 4  # 4 pixels more, for the blur
    shift = np.zeros((moments, 2))
    shift[:, axis] = way * progress**2 * (3 - 2 * progress)
    return replace(target, centre=target.centre + shift)


def make_distractors(
    rng: Generator, camera: Camera, target: MovingObject, saturation: float, ambient: np.ndarray
) -> tuple[list[MovingObject], list[MovingObject]]:
    """Returns zero to four distractors, behind and in front of the target; half of them look like it."""
    behind: list[MovingObject] = []
    front: list[MovingObject] = []
    frame, moments = np.array([camera.width, camera.height]), len(target.size)
    other: Sprite | None = None
    for _ in range(int(rng.choice(5, p=[0.25, 0.25, 0.2, 0.15, 0.15]))):
        if rng.random() < 0.5:
            sprite = recolour(rng, target.sprite) if rng.random() < 0.6 else target.sprite
            base = target.size.mean() * np.exp(rng.normal(0, 0.15))
        else:
            if other is None or rng.random() < 0.3:
                other = make_sprite(rng, target.size.max(), saturation, ambient)
            sprite, base = other, target.size.mean() * np.exp(rng.normal(-0.1, 0.3))
        size = _sizes(rng, base, moments)
        away = rng.uniform(0, 2 * np.pi)
        offset = np.array([np.cos(away), np.sin(away)]) * rng.uniform(0.8, 2.8) * target.size.mean()
        behaviour = rng.random()
        if behaviour < 0.45:
            # Moves with the target, at a varying distance.
            sway = np.stack([smooth_path(rng, moments, 10), smooth_path(rng, moments, 10)], axis=1)
            distractor = _animate(rng, sprite, target.centre + offset + sway * 0.5 * target.size.mean(), size)
        elif behaviour < 0.75:
            start = np.clip(target.centre[0] + offset, 0.05 * frame, 0.95 * frame)
            distractor = _animate(rng, sprite, _walk_through(rng, start, size, camera) + camera.shake, size)
        else:
            distractor = _make_fixed(rng, camera, sprite, target.centre[rng.integers(moments)] + offset, 0, base)
        if rng.random() < 0.35 and not _hides(distractor, target):
            front.append(distractor)
        else:
            behind.append(distractor)
    return behind, front


def _make_fixed(
    rng: Generator, camera: Camera, sprite: Sprite, place: np.ndarray, moment: int, size: float
) -> MovingObject:
    """Returns an object that is fixed to the ground; at `moment` it is at `place` of the picture."""
    centre = camera.picture_path(camera.to_canvas(place, moment))
    scale = camera.zoom / camera.zoom[moment]
    moments = len(scale)
    still = np.zeros(moments)
    angle = camera.angle + rng.normal(0, 0.1)
    return MovingObject(sprite, centre, size * scale, angle, still, still, np.zeros(moments, int), np.ones(moments))


def _hides(other: MovingObject, target: MovingObject) -> bool:
    """Returns whether an object hides the target in the first picture, which must show what to track."""
    box, target_box = other.extent(0), target.extent(0)
    overlap = np.minimum(box[1], target_box[1]) - np.maximum(box[0], target_box[0])
    return bool((overlap > 0).all() and overlap.prod() > 0.15 * np.prod(target_box[1] - target_box[0]))


def make_occluders(
    rng: Generator, camera: Camera, target: MovingObject, saturation: float, ambient: np.ndarray
) -> list[MovingObject]:
    """Returns up to two objects that come between camera and target: fixed ones on its path, and ones that pass by."""
    occluders: list[MovingObject] = []
    moments = len(target.size)
    for _ in range(int(rng.choice(3, p=[0.55, 0.3, 0.15]))):
        moment = int(rng.integers(moments // 5, moments)) if moments > 1 else 0
        size = target.size[moment]
        sprite = make_occluder_sprite(rng, size, saturation, ambient)
        slip = rng.normal(0, 0.3, 2) * size
        if rng.random() < 0.5:
            place = target.centre[moment] + slip
            occluder = _make_fixed(rng, camera, sprite, place, moment, size * rng.uniform(0.45, 1.0))
        else:
            # Moves against the direction of the target, so that it does not hide the target for long.
            before = max(moment - 3, 0)
            heading = target.centre[before] - target.centre[min(before + 6, moments - 1)]
            turn = np.arctan2(heading[1], heading[0]) + rng.normal(0, 0.8)
            pace = 2.5 * size / rng.uniform(8, 22)
            way = np.array([np.cos(turn), np.sin(turn)]) * pace
            centre = target.centre[moment] + slip + (np.arange(moments) - moment)[:, None] * way + camera.shake
            occluder = _animate(rng, sprite, centre, np.full(moments, size * rng.uniform(0.5, 1.2)))
        if not _hides(occluder, target):
            occluders.append(occluder)
    return occluders
