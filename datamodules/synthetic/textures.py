"""Paints random textures: 1/f noise, dead leaves, stripes and checkers, gradients, text, and blends of two."""

import cv2
import numpy as np
from numpy.random import Generator

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)
# OpenCV hues (0..179). Colours of earth, leaves and sky are common in photographs, pink and violet are rare.
HUES = (4, 12, 15, 18, 22, 25, 30, 38, 45, 55, 75, 98, 105, 110, 116, 150)
LETTERS = np.array(list("ABCDEFGHJKLMNPRSTUVXYZabdeghknrst0123456789"))


def palette(rng: Generator, count: int) -> np.ndarray:
    """Draws colours (count, 3), BGR in 0..255: one or two hues, with brightness spread over a random range."""
    main, other = rng.choice(HUES, 2)
    hue = (np.where(rng.random(count) < 0.8, main, other) + rng.normal(0, 10, count)) % 180
    saturation = np.clip(rng.uniform(0, 200) + rng.normal(0, 35, count), 0, 255)
    low = rng.uniform(5, 90)
    value = rng.uniform(low, rng.uniform(low + 80, 255), count)
    hsv = np.stack([hue, saturation, value], axis=1).astype(np.uint8)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR)[0].astype(np.float32)


def colour_ramp(rng: Generator, count: int) -> np.ndarray:
    """Draws a lookup table (256, 3) uint8 that runs through `count` palette colours."""
    colours = palette(rng, count)
    at = np.linspace(0, count - 1, 256)
    return np.stack([np.interp(at, np.arange(count), colours[:, c]) for c in range(3)], axis=1).astype(np.uint8)


def fractal(rng: Generator, height: int, width: int, exponent: float, coarsest: int = 3) -> np.ndarray:
    """Draws noise (height, width) float32 in 0..1 of amplitude 1/f^exponent, from `coarsest` cells a side on."""
    field = np.zeros((height, width), np.float32)
    cells, side = coarsest, min(height, width)
    while cells <= side:
        rows, columns = max(2, cells * height // side), max(2, cells * width // side)
        octave = rng.standard_normal((rows, columns), dtype=np.float32)
        field += cells**-exponent * cv2.resize(octave, (width, height), interpolation=cv2.INTER_LINEAR)
        cells *= 2
    return cv2.normalize(field, np.empty_like(field), 0, 1, cv2.NORM_MINMAX)


def _colourise(ramp: np.ndarray, field: np.ndarray) -> np.ndarray:
    return ramp[(np.clip(field, 0, 1) * 255).astype(np.uint8)]


def cloud(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints 1/f noise through a colour ramp: foliage, ground, stone, water."""
    field = fractal(rng, height, width, rng.uniform(0.4, 1.4))
    return _colourise(colour_ramp(rng, int(rng.integers(2, 6))), field)


def blob(rng: Generator, points: int, roughness: float) -> np.ndarray:
    """Draws a closed random outline (points, 2) of mean radius 1 around the origin."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = np.ones(points)
    for wave in range(2, 6):
        radius += roughness / wave * rng.normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    radius = np.maximum(radius, 0.25)[:, None]
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def fill(picture: np.ndarray, outline: np.ndarray, colour: np.ndarray) -> None:
    """Fills an outline (n, 2) in pixels, antialiased, in place."""
    cv2.fillPoly(picture, [np.round(outline * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, shift=4)


def leaves(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints dead leaves: overlapping shapes whose radii follow a power law, like sizes of objects in photographs."""
    colours = palette(rng, int(rng.integers(3, 9)))
    picture = np.full((height, width, 3), colours[0], np.uint8)
    side = min(height, width)
    count = int(rng.integers(80, 260))
    small, large = rng.uniform(0.01, 0.04), rng.uniform(0.15, 0.4)
    radius = side * (small**-1 + rng.random(count) * (large**-1 - small**-1)) ** -1
    centre = rng.uniform(0, 1, (count, 2)) * (width, height)
    tint = colours[rng.integers(0, len(colours), count)] + rng.normal(0, 14, (count, 1))
    round_share, roughness = rng.random(), rng.uniform(0.1, 0.8)
    for i in range(count):
        if rng.random() < round_share:
            shape = blob(rng, 20, roughness)
        else:
            corners = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
            shape = np.stack([np.cos(corners), np.sin(corners)], axis=1)
        shape = shape * (1, rng.uniform(0.4, 1))
        turn = rng.uniform(0, np.pi)
        shape = shape @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        fill(picture, centre[i] + radius[i] * shape, np.clip(tint[i], 0, 255))
    return modulate(picture, fractal(rng, height, width, 0.7), rng.uniform(0, 0.6))


def stripes(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints stripes, checkers and grids with phase noise: facades, fences, cloth."""
    side = min(height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    turn = rng.choice([0.0, rng.uniform(0, np.pi)])
    bend = fractal(rng, height, width, 1.5) * rng.uniform(0, 5)
    pitch = side / rng.uniform(4, 28) / (2 * np.pi)
    wave = np.sin((np.cos(turn) * x + np.sin(turn) * y) / pitch + bend)
    if rng.random() < 0.6:
        pitch = pitch * rng.uniform(0.5, 2)
        wave = wave * np.sin((np.cos(turn) * y - np.sin(turn) * x) / pitch + bend)
    field = 0.5 + 0.5 * np.tanh(wave * rng.uniform(0.7, 6) + rng.uniform(-1, 1))
    picture = _colourise(colour_ramp(rng, int(rng.integers(2, 4))), field)
    return modulate(picture, fractal(rng, height, width, 0.8), rng.uniform(0, 0.7))


def gradient(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints a smooth colour change with faint grain: painted metal, sky, skin."""
    field = fractal(rng, height, width, rng.uniform(1.8, 3), coarsest=2)
    return _colourise(colour_ramp(rng, 3), field)


def script(rng: Generator, height: int, width: int) -> np.ndarray:
    """Paints text and strokes over a gradient: signs, shirts, graffiti."""
    picture = np.ascontiguousarray(gradient(rng, height, width))
    side = min(height, width)
    for colour in palette(rng, int(rng.integers(4, 16))):
        thick = int(rng.integers(1, max(2, side // 40) + 1))
        place = rng.uniform(-0.1, 1, 2) * (width, height)
        if rng.random() < 0.5:
            word = "".join(rng.choice(LETTERS, int(rng.integers(2, 8))))
            font = int(rng.choice(FONTS))
            scale = side / 100 * rng.uniform(0.3, 1.6)
            cv2.putText(picture, word, place.astype(int).tolist(), font, scale, colour.tolist(), thick, cv2.LINE_AA)
        else:
            curve = place + np.cumsum(rng.normal(0, side / 12, (int(rng.integers(2, 12)), 2)), axis=0)
            curve = np.round(curve * 16).astype(np.int32)
            cv2.polylines(picture, [curve], rng.random() < 0.3, colour.tolist(), thick, cv2.LINE_AA, shift=4)
    return modulate(picture, fractal(rng, height, width, 0.8), rng.uniform(0, 0.5))


KINDS = (cloud, leaves, stripes, gradient, script)
WEIGHTS = np.array([3, 4, 1.5, 1.5, 1]) / 11


def make_texture(rng: Generator, height: int, width: int) -> np.ndarray:
    """Returns a random texture (height, width, 3) uint8 BGR. A third of them blend two kinds through a smooth mask."""
    picture = KINDS[rng.choice(len(KINDS), p=WEIGHTS)](rng, height, width)
    if rng.random() < 0.33:
        other = KINDS[rng.choice(len(KINDS), p=WEIGHTS)](rng, height, width)
        mask = np.clip((fractal(rng, height, width, 1.6, coarsest=2) - 0.5) * rng.uniform(3, 20) + 0.5, 0, 1)
        picture = blend(picture, other, mask)
    return picture


def blend(under: np.ndarray, over: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blends uint8 pictures of equal shape: `over` where the mask (height, width) is 1, `under` where it is 0."""
    mask = np.ascontiguousarray(mask, np.float32)
    return cv2.blendLinear(np.ascontiguousarray(over), np.ascontiguousarray(under), mask, 1 - mask)


def modulate(picture: np.ndarray, field: np.ndarray, depth: float) -> np.ndarray:
    """Multiplies the brightness by 1 - depth to 1 + depth, as a field (height, width) goes from 0 to 1."""
    gain = cv2.merge([1 + depth * 2 * (field - 0.5)] * 3).astype(np.float32)
    return cv2.multiply(picture, gain, dtype=cv2.CV_8U)


def adjust_tone(
    picture: np.ndarray, saturation: float, contrast: float = 1.0, towards: np.ndarray | None = None
) -> np.ndarray:
    """Scales the saturation, then moves all colours towards a BGR colour; `contrast` is the fraction that remains."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    picture = cv2.addWeighted(picture, saturation, grey, 1 - saturation, 0)
    if towards is None:
        return picture
    scale = np.arange(256, dtype=np.float32)[:, None] * contrast + (1 - contrast) * np.asarray(towards, np.float32)
    return cv2.LUT(picture, np.clip(scale, 0, 255).astype(np.uint8)[None])
