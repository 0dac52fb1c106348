"""Sprites: objects of one to five jointed, textured parts, drawn in several poses, each with its convex hull."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.synthetic.textures import adjust_tone, blob, make_texture, palette

POSES = 8


@dataclass(frozen=True)
class Sprite:
    """An object in all its poses.

    Lengths are in object sizes, i.e. square roots of the first pose's box area. The origin is the centre of that box.

    Attributes:
        poses: pictures (side, side, 4) uint8, BGRA with colours premultiplied by alpha.
        hulls: convex hull (points, 2) of the visible pixels of each pose, in object sizes.
        areas: sum of alpha of each pose, in squared object sizes.
        centre: the origin (2,) in the pixels of the pictures.
        unit: pixels of the pictures per object size.
    """

    poses: tuple[np.ndarray, ...]
    hulls: tuple[np.ndarray, ...]
    areas: tuple[float, ...]
    centre: np.ndarray
    unit: float


@dataclass(frozen=True)
class _Part:
    """A part of an object: it swings by +-`swing` rad around `angle`.

    Attributes:
        outline: shape (n, 2) around its own joint.
        joint: position of the joint in the object.
        angle, swing: mean and amplitude of the rotation, rad.
        phase: phase of the swing, rad.
    """

    outline: np.ndarray
    joint: tuple[float, float]
    angle: float = 0.0
    swing: float = 0.0
    phase: float = 0.0


def _ellipse(w: float, h: float) -> np.ndarray:
    return _superellipse(w, h, 2.0)


def _superellipse(w: float, h: float, power: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([w / 2 * np.sign(c) * np.abs(c) ** (2 / power), h / 2 * np.sign(s) * np.abs(s) ** (2 / power)], 1)


def _limb(length: float, thick: float) -> np.ndarray:
    """Returns the outline of a capsule that hangs down from its joint at the origin."""
    return _superellipse(thick, length, 4.0) + (0, length / 2 * 0.9)


def _polygon(rng: Generator, w: float, h: float) -> np.ndarray:
    count = int(rng.integers(3, 8))
    # Jitter below the spacing keeps the corners in order and the polygon wide.
    corner = 2 * np.pi / count * (np.arange(count) + rng.uniform(0, 0.8, count))
    return np.stack([w / 2 * np.cos(corner), h / 2 * np.sin(corner)], axis=1)


def _shape(rng: Generator, w: float, h: float) -> np.ndarray:
    kind = rng.integers(4)
    if kind == 0:
        return blob(rng, 40, rng.uniform(0.2, 0.7)) * (w / 2, h / 2)
    if kind == 1:
        return _ellipse(w, h)
    if kind == 2:
        return _superellipse(w, h, rng.uniform(3, 10))
    return _polygon(rng, w, h)


def _lump(rng: Generator) -> list[_Part]:
    """Returns the single part of a rigid object."""
    aspect = np.exp(rng.normal(0, 0.35))
    return [_Part(_shape(rng, aspect, 1 / aspect), (0, 0))]


def _cluster(rng: Generator) -> list[_Part]:
    """Returns the parts of a body with one to four appendages that swing."""
    parts = _lump(rng)
    for _ in range(int(rng.integers(1, 5))):
        turn, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8)
        joint = (0.5 * np.cos(turn), 0.5 * np.sin(turn))
        outline = _shape(rng, size, size * rng.uniform(0.3, 1.0)) + (size * 0.3, 0)
        parts.append(_Part(outline, joint, rng.uniform(0, 6.28), rng.uniform(0, 0.5), rng.uniform(0, 6.28)))
    return parts


def _upright(rng: Generator) -> list[_Part]:
    """Returns the parts of a body with head, two legs and an arm."""
    w, swing, phase = rng.uniform(0.25, 0.5), rng.uniform(0.05, 0.6), rng.uniform(0, 6.28)
    leg, thick = rng.uniform(0.6, 1.0), rng.uniform(0.14, 0.24)
    return [
        _Part(_limb(leg, thick), (-w / 5, 0.4), 0, swing, phase),
        _Part(_limb(leg, thick), (w / 5, 0.4), 0, swing, phase + np.pi),
        _Part(_superellipse(w, 1.1, rng.uniform(2.2, 6)), (0, 0), rng.normal(0, 0.08), 0.04, phase),
        _Part(_ellipse(rng.uniform(0.2, 0.32), rng.uniform(0.26, 0.4)), (rng.normal(0, 0.05), -0.68)),
        _Part(_limb(rng.uniform(0.5, 0.8), thick * 0.7), (w / 4, -0.4), rng.normal(0, 0.4), swing, phase + np.pi / 2),
    ]


def _walker(rng: Generator) -> list[_Part]:
    """Returns the parts of an animal: a horizontal body with head, tail and two legs, facing left or right."""
    side, swing, phase = rng.choice([-1, 1]), rng.uniform(0.1, 0.6), rng.uniform(0, 6.28)
    leg, thick, h = rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.2), rng.uniform(0.4, 0.65)
    return [
        _Part(_limb(leg, thick), (-0.42, h / 4), 0, swing, phase),
        _Part(_limb(leg, thick), (0.42, h / 4), 0, swing, phase + np.pi),
        _Part(_limb(rng.uniform(0.3, 0.7), thick * 0.6), (-0.5 * side, -h / 4), side * 1.2, 0.4, phase),
        _Part(_superellipse(1.15, h, rng.uniform(2, 4)), (0, 0), 0, 0.04, phase),
        _Part(_ellipse(rng.uniform(0.3, 0.55), rng.uniform(0.24, 0.4)), (0.6 * side, -0.25), rng.normal(0, 0.4), 0.15),
    ]


def _vehicle(rng: Generator) -> list[_Part]:
    """Returns the parts of a vehicle: a box with a cabin, a window and two wheels."""
    length, h, wheel = rng.uniform(1.0, 1.7), rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.34)
    cabin, shift = length * rng.uniform(0.4, 0.8), rng.normal(0, 0.1)
    return [
        _Part(_superellipse(cabin, h, rng.uniform(3, 8)), (shift, -h * 0.7)),
        _Part(_superellipse(cabin * 0.75, h * 0.5, 5), (shift, -h * 0.75)),
        _Part(_superellipse(length, h, rng.uniform(4, 12)), (0, 0)),
        _Part(_ellipse(wheel, wheel), (-length * 0.32, h / 2)),
        _Part(_ellipse(wheel, wheel), (length * 0.32, h / 2)),
    ]


BUILDERS = (_lump, _cluster, _upright, _walker, _vehicle)
BUILDER_WEIGHTS = (0.26, 0.24, 0.2, 0.16, 0.14)


def _draw_part(rng: Generator, outline: np.ndarray, scale: float, skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the picture of a part, BGRA premultiplied, and the position (2,) of its joint in picture pixels."""
    low = np.floor(outline.min(0) * scale) - 2
    w, h = (np.ceil(outline.max(0) * scale) + 2 - low).astype(int)
    points = np.round((outline * scale - low) * 16).astype(np.int32)
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, shift=4)

    zoom = max(rng.uniform(0.5, 2.0), w / skin.shape[1] * 1.02, h / skin.shape[0] * 1.02)
    need = np.array([w, h]) / zoom
    x, y = (rng.random(2) * (np.array(skin.shape[1::-1]) - need)).astype(int)
    piece = cv2.resize(skin[y : y + int(need[1]) + 1, x : x + int(need[0]) + 1], (w, h), interpolation=cv2.INTER_LINEAR)

    light = np.ones((h, w), np.float32)
    if rng.random() < 0.6:
        turn, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.6)
        along = np.cos(turn) * np.linspace(-1, 1, w)[None] + np.sin(turn) * np.linspace(-1, 1, h)[:, None]
        light += depth * along.astype(np.float32)
    if rng.random() < 0.5:
        # Round bodies are darker towards the outline.
        soft = cv2.GaussianBlur(mask, (0, 0), 0.15 * min(w, h) + 0.5).astype(np.float32) / 255
        light *= 1 - rng.uniform(0.2, 0.7) * (1 - soft)
    piece = cv2.multiply(piece, cv2.merge([np.maximum(light, 0)] * 3), dtype=cv2.CV_8U)
    if rng.random() < 0.3:
        thick = max(1, round(scale * rng.uniform(0.01, 0.05)))
        dark = (piece.reshape(-1, 3).mean(0) * rng.uniform(0.1, 0.5)).tolist()
        cv2.polylines(piece, [points], True, dark, thick, cv2.LINE_AA, shift=4)
    piece = cv2.multiply(piece, cv2.merge([mask] * 3), scale=1 / 255)
    return cv2.merge([*cv2.split(piece), mask]), -low


def _over(canvas: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Returns `layer` composed over `canvas`; both are premultiplied BGRA of the same shape."""
    rest = cv2.bitwise_not(layer[..., 3])
    return cv2.add(cv2.multiply(canvas, cv2.merge([rest] * 4), scale=1 / 255), layer)


def convex_hull(alpha: np.ndarray) -> np.ndarray:
    """Returns the convex hull (points, 2), in pixels, of all pixels that are at least half opaque, corners included."""
    pixels = cv2.findNonZero((alpha >= 128).astype(np.uint8)).reshape(-1, 2).astype(np.float32)
    hull = cv2.convexHull(pixels).reshape(-1, 2)
    corners = hull[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    return cv2.convexHull(corners.reshape(-1, 2)).reshape(-1, 2)


def _assemble(rng: Generator, parts: list[_Part], skins: list[np.ndarray], scale: float, elastic: float) -> Sprite:
    drawn = [_draw_part(rng, part.outline, scale, skins[rng.integers(len(skins))]) for part in parts]
    reach = max(np.hypot(*part.joint) + np.hypot(*part.outline.T).max() for part in parts)
    side = int(np.ceil(2 * scale * (reach + 2 * elastic))) + 6
    moving = elastic > 0 or any(part.swing > 0 for part in parts)
    bend = (rng.standard_normal((2, 4, 4, 2)) * elastic * scale / 2).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=2).astype(np.float32)
    poses = []
    for k in range(POSES if moving else 1):
        turn = 2 * np.pi * k / POSES
        canvas = np.zeros((side, side, 4), np.uint8)
        for part, (picture, joint) in zip(parts, drawn, strict=True):
            angle = part.angle + part.swing * np.sin(turn + part.phase)
            c, s = np.cos(angle), np.sin(angle)
            matrix = np.array([[c, -s], [s, c]])
            shift = np.array(part.joint) * scale + side / 2 - matrix @ joint
            canvas = _over(canvas, cv2.warpAffine(picture, np.column_stack([matrix, shift]), (side, side)))
        if elastic > 0:
            field = (np.cos(turn) * bend[0] + np.sin(turn) * bend[1]).astype(np.float32)
            flow = grid + cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)
            # pyrefly: ignore[no-matching-overload]  one map holds both coordinates, so there is no second one
            canvas = cv2.remap(canvas, flow, None, cv2.INTER_LINEAR)
        poses.append(canvas)
    hulls = [convex_hull(pose[..., 3]) for pose in poses]
    low, high = hulls[0].min(0), hulls[0].max(0)
    centre, unit = (low + high) / 2, float(np.sqrt(np.prod(high - low)))
    return Sprite(
        poses=tuple(poses),
        hulls=tuple((hull - centre) / unit for hull in hulls),
        areas=tuple(float(pose[..., 3].sum() / 255 / unit**2) for pose in poses),
        centre=centre,
        unit=unit,
    )


def _skins(rng: Generator, count: int, side: int, saturation: float, ambient: np.ndarray) -> list[np.ndarray]:
    """Draws textures for the parts. Many are nearly plain, some approach the mean colour of the background."""
    skins = []
    camouflage = rng.uniform(0.3, 0.9) if rng.random() < 0.4 else 0.0
    for _ in range(count):
        colour = palette(rng, 1)[0]
        skin = adjust_tone(make_texture(rng, side, side), 1, rng.uniform(0.15, 1), colour)
        skins.append(adjust_tone(adjust_tone(skin, saturation), 1, 1 - camouflage, ambient))
    return skins


def make_sprite(rng: Generator, size: float, saturation: float, ambient: np.ndarray) -> Sprite:
    """Draws a random object.

    Args:
        rng: random generator.
        size: largest size at which the object is shown, pixels (square root of the box area). It sets the resolution.
        saturation: factor on the saturation of the colours.
        ambient: mean colour (3,) of the background, BGR, which camouflaged objects approach.
    """
    build = BUILDERS[rng.choice(len(BUILDERS), p=BUILDER_WEIGHTS)]
    parts = build(rng)
    scale = max(size, 16.0)
    elastic = 0.0 if build is _vehicle or rng.random() < 0.2 else rng.uniform(0.01, 0.09)
    skins = _skins(rng, min(len(parts), int(rng.integers(1, 4))), int(max(48, scale)), saturation, ambient)
    return _assemble(rng, parts, skins, scale, elastic)


def make_occluder_sprite(rng: Generator, size: float, saturation: float, ambient: np.ndarray) -> Sprite:
    """Draws a random rigid occluder: a post, a board, or a bush of several blobs. Arguments: see `make_sprite`."""
    kind = rng.integers(3)
    if kind == 0:
        aspect = rng.uniform(0.25, 0.45)
        parts = [_Part(_superellipse(aspect, 1 / aspect, rng.uniform(3, 12)), (0, 0), rng.normal(0, 0.1))]
    elif kind == 1:
        aspect = np.exp(rng.normal(0, 0.3))
        parts = [_Part(_shape(rng, aspect, 1 / aspect), (0, 0), rng.normal(0, 0.2))]
    else:
        parts = [_Part(blob(rng, 30, 0.8) * rng.uniform(0.15, 0.4), tuple(rng.normal(0, 0.35, 2))) for _ in range(5)]
    skins = _skins(rng, 1, int(max(48, size)), saturation, ambient)
    return _assemble(rng, parts, skins, max(size, 16.0), 0.0)


def recolour(rng: Generator, sprite: Sprite) -> Sprite:
    """Returns the same object in other colours or another brightness."""
    gain = rng.uniform(0.4, 1.5) * np.exp(rng.normal(0, 0.2, 3))
    poses = []
    for pose in sprite.poses:
        colours = pose[..., :3] * gain
        # A premultiplied colour never exceeds its alpha.
        poses.append(np.dstack([np.minimum(colours, pose[..., 3:]).astype(np.uint8), pose[..., 3]]))
    return Sprite(tuple(poses), sprite.hulls, sprite.areas, sprite.centre, sprite.unit)
