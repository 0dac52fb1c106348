"""Crops: the square window around a box that a network sees, and how boxes get into it."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

Box = tuple[float, ...] | np.ndarray


class Window(NamedTuple):
    """The square of a picture that a crop shows, in pixels; pixel `i` reaches from `i` to `i + 1`."""

    left: float
    top: float
    side: float

    def relative(self, box: Box) -> np.ndarray:
        """An xywh box in pixels as xywh in units of the crop's side, (4,) float64."""
        x, y, w, h = (float(v) for v in box)
        return np.array([x - self.left, y - self.top, w, h]) / self.side

    def absolute(self, found: Box) -> tuple[float, float, float, float]:
        """A cxcywh box in units of the crop's side as cxcywh in pixels."""
        cx, cy, w, h = (float(v) * self.side for v in found)
        return cx + self.left, cy + self.top, w, h


@dataclass(frozen=True)
class DecodedRegion:
    """What is decoded of a picture; training crops are cut from it as from the whole.

    Attributes:
        pixels: (h, w, 3) uint8. Pixel `i` of a reduced picture is about the mean of those from `i` to `i + 1` times
            `reduction`.
        shape: of the whole picture, (H, W, 3).
        left, top: where in it the first pixel lies.
        reduction: of width and height.
    """

    pixels: np.ndarray
    shape: tuple[int, ...]
    left: int = 0
    top: int = 0
    reduction: int = 1

    @classmethod
    def of(cls, image: "np.ndarray | DecodedRegion") -> "DecodedRegion":
        """All of a picture (H, W, 3), or the part that it is."""
        return image if isinstance(image, DecodedRegion) else cls(image, image.shape)

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        """Rows and columns of the picture in full resolution."""
        rows, columns = (
            slice(max(0, span.start - first), max(0, span.stop - first))
            for span, first in zip(place, (self.top, self.left), strict=True)
        )
        return self.pixels[rows, columns]

    def resampled(self, window: Window, size: int, border: int) -> np.ndarray:
        """The picture in a window as (size, size, 3) uint8, with one of OpenCV's borders around it."""
        left, top = (window.left - self.left) / self.reduction, (window.top - self.top) / self.reduction
        step = window.side / self.reduction / size
        # Both count from the middle of their first pixel.
        places = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.pixels, places, (size, size), flags=flags, borderMode=border)


class CroppedImage(NamedTuple):
    """A picture's crop of side S: (S, S, 3), which rows and columns show padding, (2, S) bool, and where it lies."""

    picture: np.ndarray
    padding: np.ndarray
    window: Window


@dataclass(frozen=True)
class CropSpec:
    """What is cut around a box, and how far from it while training.

    Attributes:
        size: side of the crop in pixels.
        factor: side of the window that is cut, over the box's mean side sqrt(w * h).
        centre_jitter: training moves the window's centre by up to half of this, in mean sides, in x and in y.
        scale_jitter: training multiplies width and height by exp(scale_jitter * N(0, 1)), each by its own.
        count: number of such crops that a tracker looks at (templates).
        compat: "reference" loses the picture's last column and row where a window reaches them, and puts a training
            target half a crop pixel away from where results are mapped back from, as PyTracking and its descendants
            do and as official weights are used to; "exact" does neither.
    """

    size: int
    factor: float
    centre_jitter: float = 0.0
    scale_jitter: float = 0.0
    count: int = 1
    compat: str = "exact"

    repeats_border: ClassVar[bool] = False  # what crops show outside of the picture: its border; else black

    def __post_init__(self) -> None:
        if self.compat not in ("exact", "reference"):
            raise ValueError(f"compat={self.compat} is not known; choose exact or reference")

    def cut(self, image: np.ndarray | DecodedRegion, box: Box) -> CroppedImage:
        """What a tracker is shown of a picture (H, W, 3) uint8 around an xywh box in pixels."""
        picture, resize = crop(image, box, self)
        x, y, w, h = (float(v) for v in box)
        side = self.size / resize
        return CroppedImage(
            picture, padding(image.shape, box, self), Window(x + w / 2 - side / 2, y + h / 2 - side / 2, side)
        )

    def aim(self, shape: tuple[int, ...], box: Box) -> tuple[Window, np.ndarray]:
        """The window that `cut_to_learn` cuts from a picture (H, W, ...), in whole pixels, and the padding it shows."""
        return Window(*_window(box, self.factor)), padding(shape, box, self)

    def cut_to_learn(self, image: np.ndarray | DecodedRegion, box: Box) -> CroppedImage:
        """The same as `cut` for training, where boxes are put into the crop instead of mapped back from it."""
        picture, padded, (left, top, side) = self.cut(image, box)
        flaw = side / self.size / 2 if self.compat == "reference" else 0.0
        return CroppedImage(picture, padded, Window(left + flaw, top + flaw, side))


def crop(image: np.ndarray | DecodedRegion, box: Box, spec: CropSpec) -> tuple[np.ndarray, float]:
    """Cuts a square around `box`, zero outside of the picture.

    The window's side is ceil(factor * sqrt(w * h)); its corner is rounded half to even (`sample_target`).

    Args:
        image: (H, W, 3) uint8. Of a reduced one no row or column is lost: it would be several.
        box: xywh in pixels.
        spec: the crop.

    Returns:
        The crop (size, size, 3) uint8, and the resize factor: crop pixels per picture pixel.

    Raises:
        ValueError: the window is smaller than one pixel.
    """
    x1, y1, side = _window(box, spec.factor)
    part = DecodedRegion.of(image)
    if part.reduction > 1:
        return part.resampled(Window(x1, y1, side), spec.size, cv2.BORDER_CONSTANT), spec.size / side
    left, top, right, bottom = _margins(part.shape, (x1, y1, side), spec)
    inside = part[y1 + top : max(0, y1 + side - bottom), x1 + left : max(0, x1 + side - right)]
    if inside.size == 0:
        return np.zeros((spec.size, spec.size, 3), np.uint8), spec.size / side
    padded = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
    return cv2.resize(padded, (spec.size, spec.size)), spec.size / side


def padding(shape: tuple[int, ...], box: Box, spec: CropSpec) -> np.ndarray:
    """Which rows and which columns of `crop` show padding, or a mixture with it: (2, size) bool.

    Args:
        shape: of the picture, (H, W, ...).
        box: xywh in pixels.
        spec: the crop.
    """
    window = _window(box, spec.factor)
    left, top, right, bottom = _margins(shape, window, spec)
    return np.stack([_resized(a, b, window[2], spec.size) for a, b in ((top, bottom), (left, right))])


def _window(box: Box, factor: float) -> tuple[int, int, int]:
    """Left, top and side of the window in pixels."""
    x, y, w, h = (float(v) for v in box)
    area = w * h
    side = math.ceil(math.sqrt(area) * factor) if area > 0 else 0
    if side < 1:
        raise ValueError(f"cannot crop around the box {(x, y, w, h)}: its width and height must be positive")
    return round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side


def _margins(shape: tuple[int, ...], window: tuple[int, int, int], spec: CropSpec) -> tuple[int, int, int, int]:
    """How much of the window is padded at its left, top, right and bottom."""
    x1, y1, side = window
    height, width = shape[:2]
    lost = spec.compat == "reference"
    return max(0, -x1), max(0, -y1), max(0, x1 + side - width + lost), max(0, y1 + side - height + lost)


def _resized(before: int, after: int, side: int, size: int) -> np.ndarray:
    """Which of `size` entries a bilinear resize of `side` entries mixes with the first `before` or last `after`."""
    if not (before or after):
        return np.zeros(size, bool)
    padded = np.zeros((side, 1))
    padded[:before] = padded[max(0, side - after) :] = 1
    return cv2.resize(padded, (1, size))[:, 0] > 0
