"""Schedules: how the kept ratio goes from 1 to its target while a sparsity stage runs."""

from dataclasses import dataclass
from typing import ClassVar, Protocol


class Schedule(Protocol):
    """Maps the stage's progress to the ratio kept at that moment.

    Attributes:
        cuts_at_end: whether nothing leaves before the stage's last step is done, whatever the target.
    """

    cuts_at_end: bool

    def __call__(self, progress: float, target: float) -> float:
        """`progress` in [0, 1] of the stage; returns a ratio between 1 and `target`."""
        ...


@dataclass(frozen=True)
class Annealed:
    """From 1 to the target between two moments, at an even pace; the rest of the stage trains at the final mask.

    Attributes:
        start: progress at which the first units leave.
        end: progress at which the target is reached.
    """

    cuts_at_end: ClassVar[bool] = False
    start: float = 0.1
    end: float = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"a schedule needs 0 <= start < end <= 1, not start={self.start}, end={self.end}")

    def __call__(self, progress: float, target: float) -> float:
        """Ratio at `progress`."""
        t = (progress - self.start) / (self.end - self.start)
        return 1.0 if t <= 0 else target if t >= 1 else self.between(t, target)

    def between(self, t: float, target: float) -> float:
        """Ratio at `t` in (0, 1) of the way."""
        return target + (1 - target) * (1 - t)


class Linear(Annealed):
    """The same share of the dense network leaves at each moment."""


class Cubic(Annealed):
    """Zhu and Gupta (2017): fast at first, slow near the target."""

    def between(self, t: float, target: float) -> float:
        """Ratio at `t` of the way."""
        return target + (1 - target) * (1 - t) ** 3


class Exponential(Annealed):
    """The same share of what is left leaves at each moment: halved as often in the first half as in the second."""

    def between(self, t: float, target: float) -> float:
        """Ratio at `t` of the way."""
        return target**t


@dataclass(frozen=True)
class OneShot:
    """Everything at once, as the ICASSP 2023 paper prunes: dense until `at`, at the target from then on.

    Attributes:
        at: progress at which all units leave; 1 is after the last step.
    """

    at: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.at <= 1:
            raise ValueError(f"at={self.at} must lie in (0, 1]: it is a stage's progress, e.g. at=1.0 for its end")

    def __call__(self, progress: float, target: float) -> float:
        """Ratio at `progress`."""
        return target if progress >= self.at else 1.0

    @property
    def cuts_at_end(self) -> bool:
        """Whether the whole stage is dense."""
        return self.at == 1
