"""One protocol for latency, and the comparison of two networks in one run, because machines are noisy."""

import statistics
import time
from typing import Any

import torch

from trackers.base import Tracker

WARMUP, RUNS = 10, 50


def latencies(trackers: dict[str, Tracker], device: str = "cpu") -> dict[str, dict[str, Any]]:
    """Median time of one network forward of each tracker, interleaved.

    Returns:
        By name: "ms", "threads", "runs", and the "protocol" in words.
    """
    inputs = {}
    for name, tracker in trackers.items():
        tracker.to(device).eval()
        inputs[name] = {k: v.to(device) for k, v in tracker.frame_inputs().items()}
    times: dict[str, list[float]] = {name: [] for name in trackers}
    with torch.inference_mode():
        for run in range(WARMUP + RUNS):
            for name, tracker in trackers.items():
                start = _clock(device)
                tracker.network(**inputs[name])
                if run >= WARMUP:
                    times[name].append(_clock(device) - start)
    protocol = f"network forward, batch 1, float32, eager, median of {RUNS} after {WARMUP} warm-ups, parent interleaved"
    threads = torch.get_num_threads()
    return {
        name: {"ms": 1e3 * statistics.median(values), "threads": threads, "runs": RUNS, "protocol": protocol}
        for name, values in times.items()
    }


def _clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
