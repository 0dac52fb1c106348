"""A tracker that says what it is told, to test what the online loop makes of it."""

from dataclasses import dataclass

import numpy as np

from tests.trackers.opened import Opened
from trackers.crops import CropSpec
from trackers.rules import Answer, Crop, Online, OnlineRules


@dataclass(frozen=True)
class SayingRules(OnlineRules):
    """Rules that find the object at `box`, cxcywh in units of the crop's side."""

    box: tuple[float, ...]

    def start(self, runtime: None, template: Crop) -> None: ...

    def step(self, runtime: None, state: None, search: Crop) -> Answer:
        return Answer(np.array(self.box), 1.0, 1.0)


def says(box: list[float], spec: CropSpec, margin: float = 10.0) -> Opened:
    """Returns a tracker that finds the object wherever it is told to.

    Args:
        box: cxcywh in units of the crop's side.
        spec: geometry of its crops.
        margin: smallest side of a box in pixels.
    """
    return Opened(SayingRules(spec, spec, Online(margin, size_smoothing=0.0), tuple(box)))
