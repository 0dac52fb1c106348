"""Online rules: what a tracker remembers of its target, and what it asks its network in each frame.

Rules are plain data, and compute with NumPy and OpenCV alone. A runtime computes the parts of the network, so the same
rules run with PyTorch and on a device without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from trackers.crops import CropSpec, Window
from trackers.errors import TrackerError
from trackers.presence import Presence
from trackers.runtimes.runtime import Runtime

Box = tuple[float, float, float, float]
LARGEST_MIN_SIZE = 1000


class Crop(NamedTuple):
    """Crop of one frame, the input of `OnlineRules.start` and `OnlineRules.step`.

    Attributes:
        pixels: (S, S, 3), 0 to 255, uint8; float32 if the tracker does not round its crops.
        padding: rows and columns that show padding, (2, S) bool.
        target: the last known box in the crop, cxcywh in units of the crop's side.
        picture: the picture's edges in the crop, xyxy in units of the crop's side.
    """

    pixels: np.ndarray
    padding: np.ndarray
    target: Box = (0.5, 0.5, 0.5, 0.5)
    picture: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


class Answer(NamedTuple):
    """What a tracker finds in a crop.

    Attributes:
        box: cxcywh in units of the crop's side, (4,).
        score: the score of the original implementation, in [0, 1].
        evidence: number that rises with the presence of the target in the crop, see `Presence`. It may differ from the
            score, which online rules of the originals use.
    """

    box: np.ndarray
    score: float
    evidence: float


@dataclass(frozen=True)
class Online:
    """Settings of the online loop that all trackers share.

    Attributes:
        min_size: smallest side of a box in pixels, after the box is clipped to the picture; None for no clipping.
        size_smoothing: weight of the previous frame's width and height in the new ones; 0 as in the originals.
        presence: calibration of the evidence; None in a recipe for the default of its kind of tracker.

    Raises:
        TrackerError: `min_size` is not above 0, or beyond 1000 pixels; or `size_smoothing` is not in [0, 1).
    """

    min_size: float | None
    size_smoothing: float
    presence: Presence | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # The memory of a crop grows with the box, and with a weight of 1 or more no box would follow its object.
        if self.min_size is not None and not 0 < self.min_size <= LARGEST_MIN_SIZE:
            raise TrackerError(
                f"tracker.online.min_size={self.min_size} must be above 0 and at most {LARGEST_MIN_SIZE} pixels, or "
                "null for no clipping; try min_size=4"
            )
        if not 0 <= self.size_smoothing < 1:
            raise TrackerError(
                f"tracker.online.size_smoothing={self.size_smoothing} must be at least 0 and below 1; try "
                "size_smoothing=0.5"
            )


@dataclass(frozen=True)
class OnlineRules(ABC):
    """Abstract rules. Subclasses are dataclasses of plain data and say what happens in each frame.

    Attributes:
        template, search: geometry of the two kinds of crops.
        online: settings of the loop.
        lockstep: whether several targets advance in one batched forward, see `steps`.
        exportable: whether an export may have such rules. Rules that open files may not, since a stranger names them.
    """

    template: CropSpec
    search: CropSpec
    online: Online

    lockstep: ClassVar[bool] = False
    exportable: ClassVar[bool] = True

    @abstractmethod
    def start(self, runtime: Runtime, template: Crop) -> Any:
        """Returns the tracking state of a new target from the first frame's template crop.

        The state holds e.g. templates, filters or a memory. `step` and `observe` may change it.
        """

    @abstractmethod
    def step(self, runtime: Runtime, state: Any, search: Crop) -> Answer:
        """Finds the target in a search crop."""

    def steps(self, runtime: Runtime, states: Sequence[Any], searches: Sequence[Crop]) -> list[Answer]:
        """Finds several targets, each in a search crop of its own, and returns what `step` does for each.

        The default calls `step` for one target after the other. Rules with `lockstep` override this method with one
        batched forward, and their `step` is a batch of one.

        Args:
            runtime: runs the network.
            states: states of different targets, at least one.
            searches: one search crop per target.
        """
        return [self.step(runtime, state, search) for state, search in zip(states, searches, strict=True)]

    def observe(self, runtime: Runtime, state: Any, image: np.ndarray, box: Box, score: float) -> None:
        """Updates the state after a frame, e.g. with a new template; does nothing by default.

        Args:
            runtime: runs the network.
            state: the target's state.
            image: the frame, (H, W, 3) uint8.
            box: the reported box, xywh in pixels.
            score: the reported score.
        """

    @staticmethod
    def crop(image: np.ndarray, box: Box, spec: CropSpec) -> tuple[Crop, Window]:
        """Crops a picture (H, W, 3) uint8 around a box (xywh, pixels); returns the crop and the window of its boxes."""
        pixels, padding, window = spec.tracking_crop(image, box)
        x, y, w, h = window.relative(box).tolist()
        left, top, width, height = window.relative((0, 0, image.shape[1], image.shape[0])).tolist()
        target, picture = (x + w / 2, y + h / 2, w, h), (left, top, left + width, top + height)
        return Crop(pixels, padding, target, picture), window
