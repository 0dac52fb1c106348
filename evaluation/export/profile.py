"""Latency of networks by one protocol. Networks are timed in turns in one run, since machines are noisy."""

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pruning.latency import synchronised_time
from trackers.base import Tracker

WARMUP, RUNS = 10, 50


def latencies(trackers: dict[str, Tracker], device: str = "cpu") -> dict[str, dict[str, Any]]:
    """Measures the median time of one forward pass of each tracker's network. The trackers take turns.

    Args:
        trackers: by name. They are moved to `device` and stay there.
        device: torch device.

    Returns:
        By name: "ms", "threads", "runs", and the "protocol" in words.
    """
    calls = {}
    for name, tracker in trackers.items():
        inputs = tree_map_only(Tensor, lambda t: t.to(device), tracker.to(device).eval().frame_inputs())
        calls[name] = partial(tracker.network, **inputs)
    protocol = f"network forward, batch 1, float32, eager, median of {RUNS} after {WARMUP} warm-ups, parent interleaved"
    threads = torch.get_num_threads()
    return {
        name: {"ms": ms, "threads": threads, "runs": RUNS, "protocol": protocol}
        for name, ms in medians(calls, device).items()
    }


def medians(calls: Mapping[Any, Callable[[], Any]], device: str = "cpu") -> dict[Any, float]:
    """Returns the median milliseconds of each call after `WARMUP` rounds. The calls take turns."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for run in range(WARMUP + RUNS):
            for name, call in calls.items():
                start = synchronised_time(device)
                call()
                if run >= WARMUP:
                    times[name].append(synchronised_time(device) - start)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}
