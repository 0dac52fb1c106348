"""Paired times: forwards that take turns, so that other work on the machine falls on all of them alike."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from pruning.latency import synchronised_time

SECONDS, FEWEST, MOST = 3.0, 5, 50  # duration of a measurement, and limits on its number of rounds


def milliseconds_in_turns(calls: Sequence[Callable[[], Any]], device: str) -> tuple[list[float], int]:
    """Returns the median milliseconds of each call, and the number of rounds. In a round every call runs once.

    Args:
        calls: functions to time, after two warm-up runs each.
        device: torch device on which they compute.
    """
    times: list[list[float]] = [[] for _ in calls]
    with torch.inference_mode():
        for call in (*calls, *calls):
            call()
        started = time.perf_counter()
        while len(times[0]) < FEWEST or (time.perf_counter() - started < SECONDS and len(times[0]) < MOST):
            for call, own in zip(calls, times, strict=True):
                begin = synchronised_time(device)
                call()
                own.append(1e3 * (synchronised_time(device) - begin))
    return [median(own) for own in times], len(times[0])
