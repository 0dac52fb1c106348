"""Measures how long a training waits for its data."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from datamodules.lost_worker import naming_lost_workers

T = TypeVar("T")


class WaitMeter:
    """Adds up the time that the user of some batches waits for them, and the time that the user works.

    Args:
        clock: returns seconds.

    Attributes:
        waited: seconds from asking for a batch to getting it.
        worked: seconds from getting a batch to asking for the next one, without pauses.
        batches: number of batches in both times; the last one of an epoch is not counted, as nobody asks after it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.waited, self.worked, self.batches = 0.0, 0.0, 0
        self._clock, self._pause_began, self._paused = clock, 0.0, 0.0

    def measure(self, batches: Iterable[T]) -> Iterator[T]:
        """Yields the batches."""
        asked = self._clock()
        for batch in batches:
            got, self._paused = self._clock(), 0.0
            yield batch
            back = self._clock()
            self.waited += got - asked
            self.worked += back - got - self._paused
            self.batches += 1
            asked = back

    def pause(self) -> None:
        """Begins what is neither waiting nor work on a batch, such as a validation."""
        self._pause_began = self._clock()

    def resume(self) -> None:
        """Ends a pause."""
        self._paused += self._clock() - self._pause_began


class MeasuredLoader(DataLoader):
    """A `DataLoader` whose `meter` measures how long its user waits for batches, and which names a dead worker."""

    @cached_property
    def meter(self) -> WaitMeter:
        """The meter of all epochs."""
        return WaitMeter()

    def __iter__(self) -> Iterator[Any]:  # pyrefly: ignore[bad-override]  an iterator is all that loops need
        """Yields the batches of an epoch."""
        batches = super().__iter__()
        return self.meter.measure(naming_lost_workers(batches, getattr(batches, "_workers", ())))
