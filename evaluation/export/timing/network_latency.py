"""Latency of networks, and how much faster a child is than its parent."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from evaluation.export.timing.paired_ratio import paired_ratio
from pruning.cost.turns import WARMUP, time_in_turns
from trackers.base import Tracker

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
