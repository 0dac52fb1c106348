"""Memory of the samples from which a tracker learns its filter: samples of the first frame and of later frames."""

import torch
from torch import Tensor

from trackers.errors import TrackerError


class SampleMemory:
    """Samples whose weights decay as new samples are added.

    The weights sum to 1. As in the original, they sum to a little more when the first frame's samples reach their
    minimal weight.

    Args:
        features: N samples of the first frame, (N, D, H, W). They are never overwritten.
        boxes: xywh in pixels of the crop, (N, 4).
        size: number of samples that fit, more than N.
        minimum: smallest total weight of the first frame's samples.

    Raises:
        TrackerError: there is no room besides the samples of the first frame.
    """

    def __init__(self, features: Tensor, boxes: Tensor, size: int = 50, minimum: float = 0.25):
        self._initial = self._stored = len(features)
        if not 0 < self._initial < size:
            raise TrackerError(
                f"{self._initial} samples of the first frame and one more do not fit in tracker.online.memory={size}; "
                f"set tracker.online.memory={self._initial + 1} or more"
            )
        self._minimum = minimum
        self._features = features.new_zeros(size, *features.shape[1:])
        self._boxes = boxes.new_zeros(size, 4)
        self._features[: self._initial], self._boxes[: self._initial] = features, boxes
        # Always on the CPU, so that the choice of a slot does not synchronise with the device.
        self._weights = torch.zeros(size, device="cpu")
        self._weights[: self._initial] = 1 / self._initial
        self._last: int | None = None

    def __len__(self) -> int:
        """Returns the number of stored samples."""
        return self._stored

    def add(self, features: Tensor, box: Tensor, rate: float) -> int:
        """Stores a sample in a free slot. Without a free slot it replaces the sample of smallest weight.

        Samples of the first frame are never replaced.

        Args:
            features: (D, H, W).
            box: xywh in pixels of the crop, (4,).
            rate: weight of the sample; the other weights are scaled by 1 - rate.

        Returns:
            Index of the slot.
        """
        slot = self._stored
        if slot == len(self._weights):
            slot = self._initial + int(self._weights[self._initial :].argmin())
        self._weigh(slot, rate)
        self._features[slot], self._boxes[slot] = features, box
        self._stored, self._last = max(self._stored, slot + 1), slot
        return slot

    def stored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns views of the stored features and boxes, and their weights, on the features' device."""
        used = slice(self._stored)
        return self._features[used], self._boxes[used], self._weights[used].to(self._features.device)

    def _weigh(self, slot: int, rate: float) -> None:
        """Updates all weights for a new sample in `slot`."""
        weights, first = self._weights, self._initial
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
