"""Memory of the samples from which a tracker learns its filter: samples of the first frame and of later frames."""

import numpy as np

from trackers.errors import TrackerError
from trackers.runtimes.runtime import Array, Runtime


class SampleMemory:
    """Samples whose weights decay as new samples are added.

    The weights sum to 1. As in the original, they sum to a little more when the first frame's samples reach their
    minimal weight. Free slots have weight 0, which a filter learns nothing from.

    Args:
        runtime: holds the features.
        features: N samples of the first frame, an array (N, D, H, W) of the runtime. They are never overwritten.
        boxes: xywh in pixels of the crop, (N, 4).
        size: number M of samples that fit, more than N.
        minimum: smallest total weight of the first frame's samples.

    Attributes:
        features: of all slots, an array (M, D, H, W) of the runtime.
        boxes: xywh in pixels of the crop, (M, 4) float32.
        weights: (M,) float32.

    Raises:
        TrackerError: there is no room besides the samples of the first frame.
    """

    def __init__(self, runtime: Runtime, features: Array, boxes: np.ndarray, size: int = 50, minimum: float = 0.25):
        self._initial = self._stored = len(boxes)
        if not 0 < self._initial < size:
            raise TrackerError(
                f"{self._initial} samples of the first frame and one more do not fit in tracker.online.memory={size}; "
                f"set tracker.online.memory={self._initial + 1} or more"
            )
        self._runtime, self._minimum = runtime, minimum
        self.features = runtime.zeros(size, features)
        runtime.write(self.features, 0, features)
        self.boxes, self.weights = np.zeros((size, 4), np.float32), np.zeros(size, np.float32)
        self.boxes[: self._initial], self.weights[: self._initial] = boxes, 1 / self._initial
        self._last: int | None = None

    def __len__(self) -> int:
        """Returns the number of stored samples, which fill the first slots."""
        return self._stored

    def add(self, features: Array, box: np.ndarray, rate: float) -> int:
        """Stores a sample in a free slot. Without a free slot it replaces the sample of smallest weight.

        Samples of the first frame are never replaced.

        Args:
            features: array (1, D, H, W) of the runtime.
            box: xywh in pixels of the crop, (4,).
            rate: weight of the sample; the other weights are scaled by 1 - rate.

        Returns:
            Index of the slot.
        """
        slot = self._stored
        if slot == len(self.weights):
            slot = self._initial + int(self.weights[self._initial :].argmin())
        self._weigh(slot, rate)
        self._runtime.write(self.features, slot, features)
        self.boxes[slot] = box
        self._stored, self._last = max(self._stored, slot + 1), slot
        return slot

    def _weigh(self, slot: int, rate: float) -> None:
        """Updates all weights for a new sample in `slot`."""
        weights, first = self.weights, self._initial
        if self._last is None:
            weights /= 1 - rate
            weights[slot] = rate
        else:
            # Weights are normalised below, so a larger weight of the new sample reduces the weights of all others.
            weights[slot] = weights[self._last] / (1 - rate)
        weights /= weights.sum()
        if weights[:first].sum() < self._minimum:
            weights /= self._minimum + weights[first:].sum()
            weights[:first] = self._minimum / first
