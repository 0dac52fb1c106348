"""Crops: square windows around boxes, the pixels of the windows, and boxes relative to the windows.

Data loaders import this module, so it imports neither torch nor Lightning.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, SupportsFloat

import cv2
import numpy as np

from trackers.errors import TrackerError

Box = tuple[float, ...] | np.ndarray
LARGEST = {"size": 4096, "factor": 20, "count": 100}  # beyond these a crop of a large box needs gigabytes


class Window(NamedTuple):
    """Square in the coordinates of a picture, in pixels. Pixel `i` covers the interval from `i` to `i + 1`."""

    left: float
    top: float
    side: float

    def relative(self, box: Box) -> np.ndarray:
        """Converts an xywh box in pixels to xywh in units of the crop's side, (4,) float64."""
        x, y, w, h = (float(v) for v in box)
        return np.array([x - self.left, y - self.top, w, h]) / self.side

    def absolute(self, box: Iterable[SupportsFloat]) -> tuple[float, float, float, float]:
        """Converts a cxcywh box in units of the crop's side to cxcywh in pixels."""
        cx, cy, w, h = (float(v) * self.side for v in box)
        return cx + self.left, cy + self.top, w, h


@dataclass(frozen=True)
class DecodedRegion:
    """Decoded part of a picture, from which training crops are cut as if it were the whole picture.

    Attributes:
        pixels: (h, w, 3) uint8. Pixel `i` of a reduced picture is about the mean of the full picture's pixels from
            `i * reduction` to `(i + 1) * reduction`.
        shape: shape (H, W, 3) of the whole picture.
        left, top: position of the first pixel in the whole picture.
        reduction: factor by which width and height were reduced when the picture was decoded.
    """

    pixels: np.ndarray
    shape: tuple[int, ...]
    left: int = 0
    top: int = 0
    reduction: int = 1

    @classmethod
    def wrap(cls, image: "np.ndarray | DecodedRegion") -> "DecodedRegion":
        """Wraps a whole picture (H, W, 3); returns a region unchanged."""
        return image if isinstance(image, DecodedRegion) else cls(image, image.shape)

    def __getitem__(self, spans: tuple[slice, slice]) -> np.ndarray:
        """Returns the pixels (h, w, 3) of some rows and columns, which are counted in the whole picture.

        Only for `reduction` 1. Rows and columns outside of the region are left out.
        """
        rows, columns = (
            slice(max(0, span.start - first), max(0, span.stop - first))
            for span, first in zip(spans, (self.top, self.left), strict=True)
        )
        return self.pixels[rows, columns]

    def resampled(self, window: Window, size: int, border: int) -> np.ndarray:
        """Returns the pixels of a window, (size, size, 3) uint8, by bilinear interpolation.

        Args:
            window: square in the whole picture, in pixels.
            size: side of the result in pixels.
            border: OpenCV's border type for pixels outside of the picture.
        """
        left, top = (window.left - self.left) / self.reduction, (window.top - self.top) / self.reduction
        step = window.side / self.reduction / size
        # OpenCV counts both coordinates from the centre of the first pixel.
        matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.pixels, matrix, (size, size), flags=flags, borderMode=border)


class CropWindow(NamedTuple):
    """Window of one crop, which a `CropSpec` computes from a box. It determines pixels, padding and boxes of the crop.

    Attributes:
        pixels: square of whole pixels that the crop shows.
        boxes: square to which boxes in the crop are relative. `CropSpec` does not round it to whole pixels.
        padding: rows and columns of the crop that show padding or a mixture of padding and picture, (2, size) bool.
        margins: number of padded pixels at the left, top, right and bottom of `pixels`.
    """

    pixels: Window
    boxes: Window
    padding: np.ndarray
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)


class CroppedImage(NamedTuple):
    """Crop of a picture: pixels (S, S, 3), padded rows and columns (2, S) bool, and the window of its boxes."""

    picture: np.ndarray
    padding: np.ndarray
    window: Window


@dataclass(frozen=True)
class CropSpec:
    """Geometry of the crops around a box, and how far training moves them.

    The window's side is ceil(factor * sqrt(w * h)). The corner of `CropWindow.pixels` is rounded half to even to a
    whole pixel, and the corner of `CropWindow.boxes` is not rounded (`sample_target` and `transform_image_to_crop` of
    the originals).

    Attributes:
        size: side of the crop in pixels.
        factor: side of the window over the box's mean side sqrt(w * h).
        centre_jitter: twice the largest displacement of the window's centre in training, in mean sides, in x and in y.
        scale_jitter: training multiplies width and height by exp(scale_jitter * N(0, 1)), independently.
        count: number of such crops that a tracker sees at once (templates).
        compat: "reference" repeats two faults of PyTracking and its descendants, with which official weights were
            trained: a crop that reaches the picture's last column or row does not show it, and boxes of training crops
            are shifted by half a crop pixel against boxes of tracking crops. "exact" has neither fault.
    """

    size: int
    factor: float
    centre_jitter: float = 0.0
    scale_jitter: float = 0.0
    count: int = 1
    compat: str = "exact"

    repeats_border: ClassVar[bool] = False  # crops show black outside of the picture, not its repeated border

    def __post_init__(self) -> None:
        if self.compat not in ("exact", "reference"):
            raise TrackerError(f"compat={self.compat} of a crop is not known; choose exact or reference")
        for name, largest in LARGEST.items():
            if not 0 < (value := getattr(self, name)) <= largest:
                raise TrackerError(
                    f"{name}={value} of a crop must be positive, and {largest:,} at most; e.g. size=256 factor=4"
                )

    def tracking_crop(self, image: np.ndarray, box: Box) -> CroppedImage:
        """Returns the crop of a picture (H, W, 3) uint8 in which a tracker looks for its target.

        Args:
            image: the picture.
            box: the last known box, xywh in pixels.

        Raises:
            TrackerError: the box has no area.
        """
        window = self._window(image.shape, box)
        return CroppedImage(self.crop(image, window), window.padding, window.boxes)

    def training_window(self, shape: tuple[int, ...], box: Box) -> CropWindow:
        """Returns the window of the training crop around an xywh box in pixels, in a picture of shape (H, W, ...).

        Raises:
            TrackerError: the box has no area.
        """
        window = self._window(shape, box)
        left, top, side = window.boxes
        shift = side / self.size / 2 if self.compat == "reference" else 0.0
        return window._replace(boxes=Window(left + shift, top + shift, side))

    def crop(self, image: np.ndarray | DecodedRegion, window: CropWindow) -> np.ndarray:
        """Returns the pixels of a window, (size, size, 3) uint8, black outside of the picture.

        Args:
            image: picture (H, W, 3) uint8, or a decoded region of it. A reduced region keeps its last row and column
                even with `compat` "reference", since each of its rows stands for several rows of the picture.
            window: window that this spec computed.
        """
        region = DecodedRegion.wrap(image)
        if region.reduction > 1:
            return region.resampled(window.pixels, self.size, cv2.BORDER_CONSTANT)
        x, y, side = (int(v) for v in window.pixels)
        left, top, right, bottom = window.margins
        inside = region[y + top : max(0, y + side - bottom), x + left : max(0, x + side - right)]
        if inside.size == 0:
            return np.zeros((self.size, self.size, 3), np.uint8)
        if any(window.margins):
            inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
        return cv2.resize(inside, (self.size, self.size))

    def _window(self, shape: tuple[int, ...], box: Box) -> CropWindow:
        """Returns the window of a tracking crop around an xywh box, in a picture of shape (H, W, ...)."""
        x, y, w, h = (float(v) for v in box)
        area = w * h
        side = math.ceil(math.sqrt(area) * self.factor) if area > 0 else 0
        if side < 1:
            raise TrackerError(f"cannot crop around the box {(x, y, w, h)}: its width and height must be positive")
        left, top = round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5)
        lost, (height, width) = self.compat == "reference", shape[:2]
        margins = max(0, -left), max(0, -top), max(0, left + side - width + lost), max(0, top + side - height + lost)
        rows, columns = (
            _padded_entries(before, after, side, self.size) for before, after in (margins[1::2], margins[::2])
        )
        exact = self.size / (self.size / side)  # the originals divide by a resize factor; results keep that rounding
        boxes = Window(x + w / 2 - exact / 2, y + h / 2 - exact / 2, exact)
        return CropWindow(Window(left, top, side), boxes, np.stack([rows, columns]), margins)


def _padded_entries(before: int, after: int, side: int, size: int) -> np.ndarray:
    """Returns the entries (size,) bool that show padding after a bilinear resize.

    Args:
        before, after: number of padded entries at the start and at the end, before the resize.
        side: number of entries before the resize.
        size: number of entries after the resize.
    """
    if not (before or after):
        return np.zeros(size, bool)
    padded = np.zeros((side, 1))
    padded[:before] = padded[max(0, side - after) :] = 1
    return cv2.resize(padded, (1, size))[:, 0] > 0
