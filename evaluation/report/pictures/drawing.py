"""Draws the boxes of several trackers and the annotation on frames, for pictures and videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.report.pictures.frame_region import FrameRegion

# Bright, with a dark edge, so that they show on photos; people who do not tell the colours apart tell the dashes apart.
COLOURS = ((255, 210, 63), (95, 216, 255), (255, 154, 222), (141, 255, 138), (255, 138, 92), (190, 170, 255))
DASHES = ((), (14, 5), (6, 4), (14, 4, 3, 4), (3, 3))  # pixels drawn and left out, in turns
PAPER, INK, SOFT = (22, 22, 22), (235, 235, 232), (163, 162, 157)
TEXT, LINE = 15, 24  # size of the text and of a line of text, in pixels
SAMPLE = 34  # width of the sample of a line in a legend
WIDTH = 2  # of a box's line
FAINT = 0.35  # opacity of a faint box
OUTSIDE = 16  # pixels around the picture up to which a box is drawn; it may be as large as it likes


@dataclass(frozen=True)
class Stroke:
    """How the boxes of one tracker are drawn: colour (RGB), and the pixels drawn and left out in turns."""

    colour: tuple[int, int, int]
    dashes: tuple[int, ...]


TRUTH = Stroke((255, 255, 255), (2, 5))


def stroke_of(number: int) -> Stroke:
    """Returns the stroke of the tracker with this number, from 0. Thirty trackers differ."""
    return Stroke(COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)])


@dataclass(frozen=True)
class DrawnBox:
    """A box in a frame: xywh in pixels, (4,), its stroke, a short text at its corner, and whether it is faint."""

    xywh: np.ndarray
    stroke: Stroke
    label: str = ""
    faint: bool = False


def draw_boxes(
    image: np.ndarray, boxes: Sequence[DrawnBox], region: FrameRegion, width: int, zoom: float = 1
) -> np.ndarray:
    """Returns a part of a frame, scaled to a width, with boxes.

    Args:
        image: the frame, RGB (H, W, 3) uint8.
        boxes: the first one is drawn first, so that later ones lie above it.
        region: the part of the frame.
        width: of the result, in pixels.
        zoom: of lines and labels, so that they show on large pictures.

    Returns:
        RGB (h, width, 3) uint8.
    """
    scale = width / region.width
    size = (width, max(1, round(region.height * scale)))
    shown = cv2.resize(region.crop(image), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for box in boxes:
        x, y, w, h = (np.asarray(box.xywh, float) - (region.x, region.y, 0, 0)) * scale
        corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)])
        corners = corners.clip((-OUTSIDE, -OUTSIDE), (size[0] + OUTSIDE, size[1] + OUTSIDE))
        thickness, before = round(WIDTH * zoom), shown.copy() if box.faint else shown
        _draw_line(shown, corners, Stroke((0, 0, 0), ()), thickness + 2 * max(1, thickness // 2))
        dashes = tuple(round(n * zoom) for n in box.stroke.dashes)
        _draw_line(shown, corners, Stroke(box.stroke.colour, dashes), thickness)
        if box.label:
            _paste(shown, _label(box.label, box.stroke.colour, round(TEXT * zoom)), round(x), round(y))
        if box.faint:
            cv2.addWeighted(shown, FAINT, before, 1 - FAINT, 0, shown)
    return shown


def strip(items: Sequence[tuple[Stroke | None, str]], width: int, strong: bool = False, zoom: float = 1) -> np.ndarray:
    """Returns lines of text on dark paper, each text behind a sample of its stroke.

    Args:
        items: (stroke, text); a text without a stroke has no sample.
        width: of the strip, in pixels. Items that do not fit begin a new line.
        strong: whether texts are white, and not in the colour of their stroke.
        zoom: of texts and samples.

    Returns:
        RGB (h, width, 3) uint8.
    """
    font = _font(round(TEXT * zoom))
    edge, gap, line, sample, behind = (round(n * zoom) for n in (8, 16, LINE, SAMPLE, SAMPLE + 6))
    places, x, row = [], edge, 0
    for stroke, text in items:
        wide = (behind if stroke else 0) + round(font.getlength(text))
        if x > edge and x + wide > width - edge:
            x, row = edge, row + 1
        places.append((x, row * line))
        x += wide + gap
    paper = Image.new("RGB", (width, line * (row + 1)), PAPER)
    pen = ImageDraw.Draw(paper)
    for (stroke, text), (x, y) in zip(items, places, strict=True):
        colour = SOFT if stroke is None and not strong else INK if strong or stroke is None else stroke.colour
        pen.text((x + (behind if stroke else 0), y + line / 2), text, colour, font, anchor="lm")
    shown = np.array(paper)
    for (stroke, _), (x, y) in zip(items, places, strict=True):
        if stroke:
            ends = np.array([(x, y + line / 2), (x + sample, y + line / 2)])
            _draw_line(shown, ends, stroke, round((WIDTH + 1) * zoom))
    return shown


def stack(pictures: Sequence[np.ndarray], columns: int, gap: int = 8) -> np.ndarray:
    """Returns pictures (h, w, 3), which may differ in height, in rows of some columns on dark paper."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    wide = max(picture.shape[1] for picture in pictures)
    height = sum(max(picture.shape[0] for picture in row) + gap for row in rows) - gap
    count = min(columns, len(pictures))
    sheet = np.full(
        (height, wide * count + gap * (count - 1), 3), PAPER[0], np.uint8
    )  # grey; a colour takes 5 times as long
    y = 0
    for row in rows:
        for i, picture in enumerate(row):
            x = i * (wide + gap)
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        y += max(picture.shape[0] for picture in row) + gap
    return sheet


def _draw_line(image: np.ndarray, points: np.ndarray, stroke: Stroke, width: int) -> None:
    """Draws a line through points (n, 2), in place. The pattern of dashes goes on around corners."""
    shift = 4  # OpenCV takes sixteenths of pixels
    for begin, end in _dashes(points, stroke.dashes):
        a, b = (tuple(int(v) for v in np.clip(np.rint(p * 2**shift), -(2**28), 2**28)) for p in (begin, end))
        cv2.line(image, a, b, stroke.colour, width, cv2.LINE_AA, shift)


def _dashes(points: np.ndarray, dashes: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the pieces (begin, end) of a line through points that its pattern draws."""
    pieces, number, left = [], 0, float(dashes[0]) if dashes else np.inf
    for begin, end in pairwise(points):
        length, at = float(np.hypot(*(end - begin))), 0.0
        unit = (end - begin) / max(length, 1e-9)
        while length - at > 1e-6:
            step = min(left, length - at)
            if number % 2 == 0:
                pieces.append((begin + at * unit, begin + (at + step) * unit))
            at, left = at + step, left - step
            if left <= 1e-6:
                number += 1
                left = float(dashes[number % len(dashes)])
    return pieces


def _paste(image: np.ndarray, label: np.ndarray, x: int, y: int) -> None:
    """Puts a label above the point (x, y) of an image, in place; below it at the upper edge, and never outside."""
    height, width, _ = label.shape
    top = y - height if y >= height else y
    top, left = min(max(top, 0), max(len(image) - height, 0)), min(max(x, 0), max(image.shape[1] - width, 0))
    part = image[top : top + height, left : left + width]
    part[:] = label[: part.shape[0], : part.shape[1]]


@cache
def _label(text: str, colour: tuple[int, int, int], size: int) -> np.ndarray:
    """Returns a short text in dark letters on a colour, RGB (h, w, 3) uint8."""
    font = _font(size)
    paper = Image.new("RGB", (round(font.getlength(text) + size * 0.6), round(size * 1.3)), colour)
    ImageDraw.Draw(paper).text((size * 0.3, size * 0.65), text, PAPER, font, anchor="lm")
    return np.array(paper)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
