"""What DiMP is shown of a picture: windows that keep to it, and a larger one of the first frame."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackers.crops import Box, CroppedImage, CropSpec, DecodedRegion, Window
from trackers.dimp.crops import reference_crop, training_crop, training_window


@dataclass(frozen=True)
class DiMPCropSpec(CropSpec):
    """A `CropSpec` whose windows are moved into the picture; what still lies outside repeats its border.

    Attributes:
        inside: a window that is larger than the picture shrinks by up to this factor; None for never.
        expansion: while tracking, the crop is larger by this factor, in the picture and in pixels: room for the moved
            copies of the first frame.
        compat: "reference" tracks with PyTracking's crop: rounded otherwise than in training, and a few pixels off for
            large targets, which it reads in steps. It loses the last column and row as well. "exact" tracks with the
            crop of the training, which shows everything.
    """

    inside: float | None = None
    expansion: int = 1

    repeats_border: ClassVar[bool] = True

    def cut(self, image: np.ndarray, box: Box) -> CroppedImage:
        """What a tracker is shown around an xywh box; not rounded to uint8 where the reference does not."""
        first, size, factor = self.expansion > 1, self.size * self.expansion, self.factor * self.expansion
        if self.compat == "exact":
            inside = None if first else self.inside
            return self._cropped(*training_crop(image, box, factor, size, inside, self.compat, moved=not first))
        x, y, w, h = (float(v) for v in box)
        centre, side = (x + w / 2, y + h / 2), factor * math.sqrt(w * h)
        return self._cropped(*reference_crop(image, centre, side, size, self.inside, first))

    def aim(self, shape: tuple[int, ...], box: Box) -> tuple[Window, np.ndarray]:
        """The window of `cut_to_learn`, and that no part of it is padding."""
        window = training_window(shape, box, self.factor, self.size, self.inside, self.compat)
        return window, np.zeros((2, self.size), bool)

    def cut_to_learn(self, image: np.ndarray | DecodedRegion, box: Box) -> CroppedImage:
        """A crop of `size`, whatever the expansion."""
        return self._cropped(*training_crop(image, box, self.factor, self.size, self.inside, self.compat))

    def _cropped(self, picture: np.ndarray, window: tuple[float, float, float]) -> CroppedImage:
        return CroppedImage(picture, np.zeros((2, len(picture)), bool), window)
