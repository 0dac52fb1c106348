"""Latencies that can be compared between the jobs of a study.

Machines are noisy. The milliseconds of a child that was timed while another program ran say nothing beside those of
another job. The paired speed-up does: parent and child took turns. So every latency in the report is the median of the
parent's latency over all jobs of that parent, divided by the paired speed-up of the child.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from evaluation.report.study_results import Result, keys_at, number_at, value_at


def with_comparable_latencies(results: Sequence[Result]) -> list[Result]:
    """Returns the results with comparable latencies in the places of the measured ones."""
    measured: dict[tuple, list[float]] = {}
    for result in results:
        for device, ms in _parent_times(result):
            measured.setdefault((device, *_parent_of(result)), []).append(ms)
    medians = {key: median(values) for key, values in measured.items()}
    return [_replaced(result, medians) for result in results]


def speedup_of(result: Result, device: str) -> float | None:
    """Returns how many times faster a child is than its parent, which took turns with it; None if that is not known.

    Results of earlier versions lack the paired speed-up, and have the medians of the same turns.
    """
    if stored := number_at(result, "speedup", device, "ratio"):
        return stored
    child, parent = number_at(result, "latency", device, "ms"), number_at(result, "parent", "latency", device, "ms")
    return parent / child if child and parent and result.get("ratio") != 1 else None


def _replaced(result: Result, medians: dict[tuple, float]) -> Result:
    found: dict[str, Any] = {}
    for device in keys_at([result], "latency"):
        base, faster = medians.get((device, *_parent_of(result))), speedup_of(result, device)
        if base and (faster or result.get("ratio") == 1):
            found[device] = (base, base / (faster or 1))
    if not found:
        return result
    latency = result["latency"] | {d: result["latency"][d] | {"ms": ms} for d, (_, ms) in found.items()}
    parent = result.get("parent")
    if isinstance(parent, dict) and isinstance(parent.get("latency"), dict):
        times = {d: clock | {"ms": found[d][0]} for d, clock in parent["latency"].items() if d in found}
        result = result | {"parent": parent | {"latency": parent["latency"] | times}}
    return result | {"latency": latency}


def _parent_times(result: Result) -> Iterator[tuple[str, float]]:
    path = ("latency",) if result.get("ratio") == 1 else ("parent", "latency")
    for device in keys_at([result], *path):
        if ms := number_at(result, *path, device, "ms"):
            yield device, ms


def _parent_of(result: Result) -> tuple:
    """Returns a key that is equal for the jobs of equal parents."""
    size = () if result.get("ratio") == 1 else ("parent",)
    return result.get("tracker"), result.get("scale"), value_at(result, *size, "params")
