"""The samples that a tracker learns its filter from: those of the first frame, and the latest and heaviest since."""

import torch
from torch import Tensor


class SampleMemory:
    """Samples with weights that fade while others come.

    The weights sum to one, or to a little more at the moment when those of the first frame reach their minimum, as in
    the original.

    Args:
        features: of the N samples of the first frame, (N, D, H, W). They are never overwritten.
        boxes: xywh in pixels of the crop, (N, 4).
        size: M, how many samples are held; more than N.
        minimum: what the samples of the first frame weigh together, at least.

    Raises:
        ValueError: nothing would fit besides the samples of the first frame.
    """

    def __init__(self, features: Tensor, boxes: Tensor, size: int = 50, minimum: float = 0.25):
        self._initial = self._stored = len(features)
        if not 0 < self._initial < size:
            raise ValueError(
                f"{self._initial} samples of the first frame and at least one more do not fit in memory.size={size}"
            )
        self._minimum = minimum
        self._features = features.new_zeros(size, *features.shape[1:])
        self._boxes = boxes.new_zeros(size, 4)
        self._features[: self._initial], self._boxes[: self._initial] = features, boxes
        # On the CPU, wherever the features are: the choice of a slot is no reason to wait for a device.
        self._weights = torch.zeros(size, device="cpu")
        self._weights[: self._initial] = 1 / self._initial
        self._last: int | None = None

    def __len__(self) -> int:
        """Number of samples that are stored."""
        return self._stored

    def add(self, features: Tensor, box: Tensor, rate: float) -> int:
        """Stores a sample in a free slot or, if there is none, in that of the lightest later one.

        Args:
            features: (D, H, W).
            box: xywh in pixels of the crop, (4,).
            rate: weight of the sample; that of the others shrinks by as much.

        Returns:
            The slot.
        """
        slot = self._stored
        if slot == len(self._weights):
            slot = self._initial + int(self._weights[self._initial :].argmin())
        self._weigh(slot, rate)
        self._features[slot], self._boxes[slot] = features, box
        self._stored, self._last = max(self._stored, slot + 1), slot
        return slot

    def stored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Views of the features and boxes that are stored, and their weights, on the features' device."""
        used = slice(self._stored)
        return self._features[used], self._boxes[used], self._weights[used].to(self._features.device)

    def _weigh(self, slot: int, rate: float) -> None:
        weights, first = self._weights, self._initial
        if self._last is None:
            weights /= 1 - rate
            weights[slot] = rate
        else:
            # Only ratios count: instead of all others shrinking, each new one weighs more than the one before.
            weights[slot] = weights[self._last] / (1 - rate)
        weights /= weights.sum()
        if weights[:first].sum() < self._minimum:
            weights /= self._minimum + weights[first:].sum()
            weights[:first] = self._minimum / first
