"""Learning-rate schedules: factors over a stage's progress, so that one recipe fits stages of any length."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Schedule with a linear warm-up, then half a cosine that falls to 0.

    Attributes:
        warmup: fraction of the stage that is warm-up.
    """

    warmup: float = 0.05

    def __call__(self, progress: float) -> float:
        """Returns the factor at `progress` in [0, 1]."""
        if progress < self.warmup:
            return (progress + 1e-3) / (self.warmup + 1e-3)
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


@dataclass(frozen=True)
class StepDrop:
    """Schedule with a constant rate that drops at every multiple of `at`, like torch's StepLR (OSTrack: once, at 80 %).

    Attributes:
        at: fraction of the stage after which the rate drops.
        factor: factor by which each drop multiplies the rate.
    """

    at: float = 0.8
    factor: float = 0.1

    def __call__(self, progress: float) -> float:
        """Returns the factor at `progress` in [0, 1]."""
        return self.factor ** int(progress / self.at)
