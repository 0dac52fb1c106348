"""DiMP's crops: windows that stay inside the picture, and a larger crop of the first frame."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackers.crops import Box, CroppedImage, CropSpec, CropWindow, DecodedRegion
from trackers.dimp.crops import reference_crop, replicated_crop, training_window


@dataclass(frozen=True)
class DiMPCropSpec(CropSpec):
    """`CropSpec` whose windows are moved into the picture. Pixels that still lie outside repeat the picture's border.

    Attributes:
        inside: largest factor by which a window that is larger than the picture shrinks; None for no shrinking.
        expansion: factor by which the window and the size of a tracking crop are larger. Displaced copies of the first
            frame need this room.
        compat: "reference" tracks with PyTracking's crop. This crop is rounded differently from the training crop. It
            subsamples large targets, whose position is then off by a few pixels, and does not show the picture's last
            column and row. "exact" tracks with the training crop, which shows every column and row.
    """

    inside: float | None = None
    expansion: int = 1

    repeats_border: ClassVar[bool] = True

    def tracking_crop(self, image: np.ndarray, box: Box) -> CroppedImage:
        """Returns the crop in which the tracker looks for its target; float32 where the reference does not round.

        Args:
            image: (H, W, 3) uint8.
            box: the last known box, xywh in pixels.

        Raises:
            TrackerError: the box has no area.
        """
        first, size, factor = self.expansion > 1, self.size * self.expansion, self.factor * self.expansion
        if self.compat == "exact":
            inside = None if first else self.inside
            window = training_window(image.shape, box, factor, size, inside, self.compat, moved=not first)
            picture = replicated_crop(image, window, size, self.compat)
        else:
            x, y, w, h = (float(v) for v in box)
            centre, side = (x + w / 2, y + h / 2), factor * math.sqrt(w * h)
            picture, window = reference_crop(image, centre, side, size, self.inside, first)
        return CroppedImage(picture, _no_padding(size), window)

    def training_window(self, shape: tuple[int, ...], box: Box) -> CropWindow:
        """Returns the window of the training crop, which `expansion` does not change. The crop has no padding.

        Args:
            shape: (H, W, ...) of the picture.
            box: xywh in pixels.

        Raises:
            TrackerError: the box has no area.
        """
        window = training_window(shape, box, self.factor, self.size, self.inside, self.compat)
        return CropWindow(window, window, _no_padding(self.size))

    def crop(self, image: np.ndarray | DecodedRegion, window: CropWindow) -> np.ndarray:
        """Returns the pixels of a training window, (size, size, 3) uint8."""
        return replicated_crop(image, window.pixels, self.size, self.compat)


def _no_padding(size: int) -> np.ndarray:
    return np.zeros((2, size), bool)
