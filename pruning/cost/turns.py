"""Timing of calls that take turns, since machines are noisy."""

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from pruning.cost.latency import synchronised_time

WARMUP, RUNS = 10, 50
FEWEST = 10  # rounds of a comparison of slow calls


def medians(calls: Mapping[Any, Callable[[], Any]], device: str = "cpu") -> dict[Any, float]:
    """Returns the median milliseconds of each call after `WARMUP` rounds. The calls take turns."""
    return {name: 1e3 * statistics.median(times) for name, times in time_in_turns(calls, device).items()}


@torch.inference_mode()
def time_in_turns(
    calls: Mapping[Any, Callable[[], Any]],
    device: str = "cpu",
    seconds: float = math.inf,
    runs: int | None = None,
    before: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] | None = None,
) -> dict[Any, np.ndarray]:
    """Times calls in rounds, in which each call runs once.

    The order is drawn for each round, and no call runs twice in succession, so caches favour none of them.

    Args:
        calls: by name.
        device: torch device on which they compute.
        seconds: time after which no further round starts, if there were `FEWEST` rounds.
        runs: most rounds, None for `RUNS`.
        before: is called before each call, and not timed.
        clock: returns seconds, e.g. `time.process_time`; None for the time on the wall, when the device has finished.

    Returns:
        Seconds of each call in each round after `WARMUP` rounds, (rounds,).
    """
    orders = _orders(list(calls))
    clock = partial(synchronised_time, device) if clock is None else clock
    for _ in _rounds(WARMUP, min(WARMUP, 1), seconds / 10):
        for name in next(orders):
            calls[name]()
    times: dict[Any, list[float]] = {name: [] for name in calls}
    most = RUNS if runs is None else runs
    for _ in _rounds(most, min(most, FEWEST), seconds):
        for name in next(orders):
            before()
            start = clock()
            calls[name]()
            times[name].append(clock() - start)
    return {name: np.array(values) for name, values in times.items()}


def _rounds(most: int, fewest: int, seconds: float) -> Iterator[int]:
    """Yields numbers of rounds until there are `most`, or `fewest` and the time is over."""
    start = time.perf_counter()
    for number in range(most):
        if number >= fewest and time.perf_counter() - start > seconds:
            return
        yield number


def _orders(names: Sequence[Any]) -> Iterator[list[Any]]:
    """Yields random orders without end. The first of an order is never the last of the order before."""
    generator, last = random.Random(0), []
    while True:
        order = generator.sample(names, len(names))
        if len(names) == 1 or order[:1] != last:
            yield order
            last = order[-1:]
