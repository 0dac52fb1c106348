"""Our trackers in the got10k toolkit: `ExperimentGOT10k(...).run(Got10kTracker(load_tracker(path), "child"))`."""

from typing import Any

import numpy as np
from got10k.trackers import Tracker as ToolkitTracker

from trackers.online import OnlineTracker


class Got10kTracker(ToolkitTracker):
    """An `OnlineTracker` with the toolkit's interface.

    Args:
        tracker: what `load_tracker` returns.
        name: the folder of its results.
    """

    def __init__(self, tracker: OnlineTracker, name: str):
        super().__init__(name=name, is_deterministic=True)
        self.tracker = tracker

    def init(self, image: Any, box: np.ndarray) -> None:
        """First frame (PIL, RGB) and box (xywh, pixels)."""
        self.tracker.init(image, tuple(box))

    def update(self, image: Any) -> np.ndarray:
        """Box in the next frame, xywh in pixels."""
        return np.array(self.tracker.update(image)[0])
