"""Latency of networks by one protocol. Networks are timed in turns in one run, since machines are noisy."""

import copy
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from evaluation.export.paired_ratio import paired_ratio
from pruning.latency import synchronised_time
from trackers.base import Tracker

WARMUP, RUNS = 10, 50
FEWEST = 10  # rounds of a comparison of slow networks
SECONDS = 30.0  # after this time, a comparison starts no further round; a tenth of it is for warm-up
BLOCKS, WIDE, PATIENCE = 4, 0.05, 10.0  # if the noise is wider, up to so many times RUNS rounds within these seconds


def latencies(trackers: dict[str, Tracker], device: str = "cpu") -> dict[str, dict[str, Any]]:
    """Measures the median time of one forward pass of each tracker's network. The trackers take turns.

    Args:
        trackers: by name. They are moved to `device` and stay there.
        device: torch device.

    Returns:
        By name: "ms", "threads", "runs", and the "protocol" in words.
    """
    return _described(time_in_turns({name: _forward(t, device) for name, t in trackers.items()}, device))


def compare_speed(child: Tracker, parent: Tracker, device: str = "cpu") -> tuple[dict[str, Any], dict[str, Any]]:
    """Measures how much faster a child is than its parent, and how much the parent differs from itself.

    In each round child, parent and a copy of the parent are called once, in random order. The speed-up is the median of
    the rounds' ratios. Slow networks are timed in fewer rounds, see `FEWEST` and `SECONDS`. Fast ones are timed in more
    rounds on a busy machine, see `BLOCKS`.

    Args:
        child, parent: trackers. They are moved to `device` and stay there.
        device: torch device.

    Returns:
        The latencies of "child" and "parent", see `latencies`, and the speed-up: "ratio" (time of the parent / time of
        the child) with its 95 % interval "low" and "high", "noise" (the same three numbers of the parent against its
        copy), "rounds" and the "protocol" in words.
    """
    # A copy, since the same network twice in succession would find its weights in the processor's cache.
    trackers = {"child": child, "parent": parent, "copy": copy.deepcopy(parent)}
    calls = {name: _forward(t, device) for name, t in trackers.items()}
    start = time.perf_counter()
    rounds, noise = _with_noise([time_in_turns(calls, device, SECONDS)])
    blocks = [rounds]
    while noise["high"] - noise["low"] > WIDE and len(blocks) < BLOCKS and time.perf_counter() - start < PATIENCE:
        blocks.append(time_in_turns(calls, device, SECONDS))
        rounds, noise = _with_noise(blocks)
    protocol = (
        "median over rounds of time of the parent / time of the child in the same round; noise: the parent and a copy "
        "of it; order drawn for each round; 95 % interval between two order statistics, rounds independent"
    )
    count = {"rounds": len(rounds["parent"]), "protocol": protocol}
    described = _described({name: rounds[name] for name in ("child", "parent")})
    return described, paired_ratio(rounds["parent"], rounds["child"]) | {"noise": noise} | count


def _with_noise(blocks: Sequence[Mapping[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns the rounds of all blocks, and the ratio of the parent against its copy."""
    rounds = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    return rounds, paired_ratio(rounds["parent"], rounds["copy"])


def medians(calls: Mapping[Any, Callable[[], Any]], device: str = "cpu") -> dict[Any, float]:
    """Returns the median milliseconds of each call after `WARMUP` rounds. The calls take turns."""
    return {name: 1e3 * statistics.median(times) for name, times in time_in_turns(calls, device).items()}


@torch.inference_mode()
def time_in_turns(
    calls: Mapping[Any, Callable[[], Any]],
    device: str = "cpu",
    seconds: float = math.inf,
    runs: int = RUNS,
    before: Callable[[], Any] = lambda: None,
) -> dict[Any, np.ndarray]:
    """Times calls in rounds, in which each call runs once.

    The order is drawn for each round, and no call runs twice in succession, so caches favour none of them.

    Args:
        calls: by name.
        device: torch device on which they compute.
        seconds: time after which no further round starts, if there were `FEWEST` rounds.
        runs: most rounds.
        before: is called before each call, and not timed.

    Returns:
        Seconds of each call in each round after `WARMUP` rounds, (rounds,).
    """
    orders = _orders(list(calls))
    for _ in _rounds(WARMUP, min(WARMUP, 1), seconds / 10):
        for name in next(orders):
            calls[name]()
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in _rounds(runs, min(runs, FEWEST), seconds):
        for name in next(orders):
            before()
            start = synchronised_time(device)
            calls[name]()
            times[name].append(synchronised_time(device) - start)
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


def _forward(tracker: Tracker, device: str) -> Callable[[], Any]:
    inputs = tree_map_only(Tensor, lambda t: t.to(device), tracker.to(device).eval().frame_inputs())
    return partial(tracker.network, **inputs)


def _described(rounds: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns the median milliseconds of each tracker with the protocol, see `latencies`."""
    threads, runs = torch.get_num_threads(), len(next(iter(rounds.values())))
    protocol = f"network forward, batch 1, float32, eager, median of {runs} after {WARMUP} warm-ups, parent interleaved"
    return {
        name: {"ms": 1e3 * statistics.median(times), "threads": threads, "runs": runs, "protocol": protocol}
        for name, times in rounds.items()
    }
