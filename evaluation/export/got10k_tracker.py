"""Runs our trackers in the got10k toolkit: `ExperimentGOT10k(...).run(Got10kTracker(load_tracker(path), "child"))`."""

from typing import Any

import numpy as np
from got10k.trackers import Tracker as ToolkitTracker

from trackers.online import OnlineTracker


class Got10kTracker(ToolkitTracker):
    """An `OnlineTracker` with the interface of the got10k toolkit.

    Args:
        tracker: from `load_tracker`.
        name: of the tracker; the toolkit names its result folder after it.
    """

    def __init__(self, tracker: OnlineTracker, name: str):
        super().__init__(name=name, is_deterministic=True)
        self.tracker = tracker

    def init(self, image: Any, box: np.ndarray) -> None:
        """Starts tracking on the first frame (PIL, RGB) with the target's box (xywh, pixels)."""
        self.tracker.init(image, tuple(box))

    def update(self, image: Any) -> np.ndarray:
        """Returns the box in the next frame, xywh in pixels."""
        return np.array(self.tracker.update(image)[0])
