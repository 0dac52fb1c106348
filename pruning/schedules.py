"""Schedules: the kept ratio as a function of the progress of a sparsity stage."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from pruning.errors import PruningError


class Schedule(Protocol):
    """Function from the progress of the stage to the ratio to keep.

    Attributes:
        cuts_at_end: whether the ratio stays 1 until the last step of the stage is done, for every target.
    """

    cuts_at_end: bool

    def __call__(self, progress: float, target: float) -> float:
        """Returns the ratio, between 1 and `target`, at `progress` in [0, 1] of the stage."""
        ...


@dataclass(frozen=True)
class Annealed:
    """Schedule that falls from 1 to the target between `start` and `end`, and then stays at the target.

    Attributes:
        start: progress at which the first units are removed.
        end: progress at which the target is reached.
    """

    cuts_at_end: ClassVar[bool] = False
    start: float = 0.1
    end: float = 0.8

    def __post_init__(self) -> None:
        numbers = all(isinstance(value, int | float) for value in (self.start, self.end))
        if not numbers or not 0 <= self.start < self.end <= 1:
            raise PruningError(
                f"pruning.schedule needs 0 <= start < end <= 1, not start={self.start!r}, end={self.end!r}"
            )

    def __call__(self, progress: float, target: float) -> float:
        """Returns the ratio at `progress` in [0, 1] of the stage."""
        t = (progress - self.start) / (self.end - self.start)
        return 1.0 if t <= 0 else target if t >= 1 else self.interpolate(t, target)

    def interpolate(self, t: float, target: float) -> float:
        """Returns the ratio after the fraction `t` in (0, 1) of the time between `start` and `end`."""
        return target + (1 - target) * (1 - t)


class Linear(Annealed):
    """Schedule that is linear in time: every step removes the same fraction of the dense network."""


class Cubic(Annealed):
    """Cubic schedule of Zhu and Gupta (2017): fast at first, slow near the target."""

    def interpolate(self, t: float, target: float) -> float:
        """Returns the ratio after the fraction `t` in (0, 1) of the time between `start` and `end`."""
        return target + (1 - target) * (1 - t) ** 3


class Exponential(Annealed):
    """Exponential schedule: every step removes the same fraction of the remaining network."""

    def interpolate(self, t: float, target: float) -> float:
        """Returns the ratio after the fraction `t` in (0, 1) of the time between `start` and `end`."""
        return target**t


@dataclass(frozen=True)
class OneShot:
    """Schedule of the ICASSP 2023 paper: ratio 1 until `at`, the target from then on.

    Attributes:
        at: progress in (0, 1] at which the units are removed; 1 means after the last step.
    """

    at: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.at <= 1:
            raise PruningError(
                f"pruning.schedule.at={self.at} must lie in (0, 1]: it is a progress of the stage, e.g. 1.0 for the end"
            )

    def __call__(self, progress: float, target: float) -> float:
        """Returns the ratio at `progress` in [0, 1] of the stage."""
        return target if progress >= self.at else 1.0

    @property
    def cuts_at_end(self) -> bool:
        """Whether the network stays dense for the whole stage."""
        return self.at == 1
