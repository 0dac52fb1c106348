"""Learning-rate schedules as a factor over a stage's progress, so that one recipe fits stages of any length."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine down to 0.

    Attributes:
        warmup: share of the stage that warms up.
    """

    warmup: float = 0.05

    def __call__(self, progress: float) -> float:
        """Factor at `progress` in [0, 1]."""
        if progress < self.warmup:
            return (progress + 1e-3) / (self.warmup + 1e-3)
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


@dataclass(frozen=True)
class StepDrop:
    """Constant, with a drop whenever `at` more of the stage has passed, as StepLR (OSTrack: once, at 80 %).

    Attributes:
        at: progress at which the rate drops, and at whose multiples it drops again.
        factor: what it is multiplied by.
    """

    at: float = 0.8
    factor: float = 0.1

    def __call__(self, progress: float) -> float:
        """Factor at `progress` in [0, 1]."""
        return self.factor ** int(progress / self.at)
