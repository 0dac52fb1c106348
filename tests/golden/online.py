"""A tracker that says what it is told, to test what the online loop makes of it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trackers.base import Online
from trackers.crops import CropSpec, Window


class Says(nn.Module):
    """A tracker that finds the object wherever it is told to: `box` is cxcywh in units of the crop's side."""

    device = torch.device("cpu")
    online = Online(min_size=10.0, size_smoothing=0.0)

    def __init__(self, box: list[float], spec: CropSpec):
        super().__init__()
        self.box, self.template, self.search = torch.tensor(box, dtype=torch.float64), spec, spec

    def crop(self, image: np.ndarray, box: Any, spec: CropSpec) -> tuple[None, Window]:
        return None, spec.tracking_crop(image, box).window

    def start(self, template: None) -> None: ...

    def steps(self, states: list[None], searches: list[None]) -> list[tuple[Tensor, float]]:
        return [(self.box, 1.0)] * len(states)

    def observe(self, *_: Any) -> None: ...
