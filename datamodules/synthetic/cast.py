"""Who is in a scene and how they move: the target, look-alikes and others beside it, things in front of it."""

import numpy as np
from numpy.random import Generator

from datamodules.synthetic.camera import Camera
from datamodules.synthetic.motion import smooth, walk
from datamodules.synthetic.movers import Mover
from datamodules.synthetic.sprites import Sprite, make_occluder, make_sprite, recolour

# Target size (square root of its box area) as a share of the picture's side (square root of its area).
SMALLEST, LARGEST = 0.065, 0.5


def _animate(
    rng: Generator, sprite: Sprite, centre: np.ndarray, size: np.ndarray, angle: np.ndarray | None = None
) -> Mover:
    """Add rotation, small changes of shape and brightness, and a gait to a sprite that moves along `centre`."""
    moments = len(size)
    if angle is None:
        angle = rng.normal(0, 0.15) + smooth(rng, moments, rng.uniform(8, 20)) * rng.choice([0.05, 0.15, 0.35])
        if rng.random() < 0.1:
            angle = angle + np.cumsum(smooth(rng, moments, 15)) * 0.06
    stretch = smooth(rng, moments, rng.uniform(8, 20)) * rng.choice([0.05, 0.15, 0.3], p=[0.4, 0.4, 0.2])
    cycle = np.exp(rng.uniform(np.log(0.01), np.log(0.12))) * np.exp(0.5 * smooth(rng, moments, 10))
    phase = rng.random() + np.cumsum(cycle)
    poses = len(sprite.poses)
    return Mover(
        sprite=sprite,
        centre=centre,
        size=size,
        angle=angle,
        stretch=np.clip(stretch, -0.6, 0.6),
        shear=smooth(rng, moments, 15) * 0.05,
        pose=np.floor(phase * poses).astype(int) % poses,
        gain=np.exp(smooth(rng, moments, 12) * rng.choice([0.0, rng.uniform(0.02, 0.2)])),
    )


def _sizes(rng: Generator, base: float, moments: int) -> np.ndarray:
    """Sizes (moments,) in pixels around `base`, within a factor of about two of each other."""
    change = smooth(rng, moments, rng.uniform(10, 28)) * rng.uniform(0.05, 0.35)
    return base * np.exp(np.clip(change, -0.4, 0.4))


def _stroll(rng: Generator, start: np.ndarray, size: np.ndarray, camera: Camera) -> np.ndarray:
    """A walk (moments, 2) through the picture at some hundredths of the object's size per moment, up to a third."""
    frame = np.array([camera.width, camera.height])
    pace = np.exp(rng.normal(np.log(0.075), 0.5)) * np.exp(np.clip(0.5 * smooth(rng, len(size), 9), -1.2, 0.9))
    speed = np.minimum(np.clip(pace, 0.01, 0.35) * size, 0.03 * np.sqrt(frame.prod()))
    margin = rng.uniform(0.06, 0.15)
    low, high = margin * frame, (1 - margin) * frame
    start = np.clip(start, low, high)
    if rng.random() < 0.35:
        # A camera operator who follows it keeps it near one place.
        room = size.mean() * rng.uniform(0.3, 1.2)
        low, high = np.maximum(low, start - room), np.minimum(high, start + room)
    return walk(rng, start, speed, low, high)


def target(rng: Generator, camera: Camera, saturation: float, ambient: np.ndarray) -> Mover:
    """The object to track; its origin never leaves the picture."""
    frame = np.array([camera.width, camera.height])
    moments = len(camera.zoom)
    base = np.sqrt(frame.prod()) * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    size = _sizes(rng, base, moments)
    sprite = make_sprite(rng, size.max(), saturation, ambient)
    centre = _stroll(rng, frame * rng.uniform(0.15, 0.85, 2), size, camera) + camera.shake
    return _animate(rng, sprite, np.clip(centre, 0.03 * frame, 0.97 * frame), size)


def neighbours(
    rng: Generator, camera: Camera, hero: Mover, saturation: float, ambient: np.ndarray
) -> tuple[list[Mover], list[Mover]]:
    """Zero to four distractors, those behind the target and those in front; half are look-alikes."""
    behind: list[Mover] = []
    front: list[Mover] = []
    frame, moments = np.array([camera.width, camera.height]), len(hero.size)
    other: Sprite | None = None
    for _ in range(int(rng.choice(5, p=[0.25, 0.25, 0.2, 0.15, 0.15]))):
        if rng.random() < 0.5:
            sprite = recolour(rng, hero.sprite) if rng.random() < 0.6 else hero.sprite
            base = hero.size.mean() * np.exp(rng.normal(0, 0.15))
        else:
            if other is None or rng.random() < 0.3:
                other = make_sprite(rng, hero.size.max(), saturation, ambient)
            sprite, base = other, hero.size.mean() * np.exp(rng.normal(-0.1, 0.3))
        size = _sizes(rng, base, moments)
        away = rng.uniform(0, 2 * np.pi)
        offset = np.array([np.cos(away), np.sin(away)]) * rng.uniform(0.8, 2.8) * hero.size.mean()
        behaviour = rng.random()
        if behaviour < 0.45:
            # Keeps company: moves as the target does, nearer and farther.
            sway = np.stack([smooth(rng, moments, 10), smooth(rng, moments, 10)], axis=1)
            mover = _animate(rng, sprite, hero.centre + offset + sway * 0.5 * hero.size.mean(), size)
        elif behaviour < 0.75:
            start = np.clip(hero.centre[0] + offset, 0.05 * frame, 0.95 * frame)
            mover = _animate(rng, sprite, _stroll(rng, start, size, camera) + camera.shake, size)
        else:
            mover = _parked(rng, camera, sprite, hero.centre[rng.integers(moments)] + offset, 0, base)
        if rng.random() < 0.35 and not _hides(mover, hero):
            front.append(mover)
        else:
            behind.append(mover)
    return behind, front


def _parked(rng: Generator, camera: Camera, sprite: Sprite, place: np.ndarray, moment: int, size: float) -> Mover:
    """Something fixed to the ground, at `place` of the picture at one moment."""
    centre = camera.follow(camera.to_canvas(place, moment))
    scale = camera.zoom / camera.zoom[moment]
    moments = len(scale)
    still = np.zeros(moments)
    angle = camera.angle + rng.normal(0, 0.1)
    return Mover(sprite, centre, size * scale, angle, still, still, np.zeros(moments, int), np.ones(moments))


def _hides(mover: Mover, hero: Mover) -> bool:
    """Whether it stands before the target in the first picture, which must show what to track."""
    mine, its = mover.extent(0), hero.extent(0)
    overlap = np.minimum(mine[1], its[1]) - np.maximum(mine[0], its[0])
    return bool((overlap > 0).all() and overlap.prod() > 0.15 * np.prod(its[1] - its[0]))


def obstacles(rng: Generator, camera: Camera, hero: Mover, saturation: float, ambient: np.ndarray) -> list[Mover]:
    """Zero to two things that come between camera and target: fixed ones on its way, and others that pass by."""
    found: list[Mover] = []
    moments = len(hero.size)
    for _ in range(int(rng.choice(3, p=[0.55, 0.3, 0.15]))):
        moment = int(rng.integers(moments // 5, moments)) if moments > 1 else 0
        size = hero.size[moment]
        sprite = make_occluder(rng, size, saturation, ambient)
        slip = rng.normal(0, 0.3, 2) * size
        if rng.random() < 0.5:
            place = hero.centre[moment] + slip
            mover = _parked(rng, camera, sprite, place, moment, size * rng.uniform(0.45, 1.0))
        else:
            # Passes against the target's own direction, so that it does not hide it for long.
            before = max(moment - 3, 0)
            heading = hero.centre[before] - hero.centre[min(before + 6, moments - 1)]
            turn = np.arctan2(heading[1], heading[0]) + rng.normal(0, 0.8)
            pace = 2.5 * size / rng.uniform(8, 22)
            way = np.array([np.cos(turn), np.sin(turn)]) * pace
            centre = hero.centre[moment] + slip + (np.arange(moments) - moment)[:, None] * way + camera.shake
            mover = _animate(rng, sprite, centre, np.full(moments, size * rng.uniform(0.5, 1.2)))
        if not _hides(mover, hero):
            found.append(mover)
    return found
