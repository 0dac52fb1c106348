"""What the result files of a study hold; any key may be missing from any of them."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RATIO_OF = {"params": "parameters", "macs": "MACs", "units": "gated units"}

Result = dict[str, Any]
IDENTITY = ("tracker", "scale", "method", "ratio_of")  # what one line of a figure stands for
Identity = tuple[Any, ...]  # its values


def read_results(folder: Path) -> list[Result]:
    """The results of all jobs below a study's folder, each with the name of its own."""
    return [json.loads(p.read_text()) | {"folder": p.parent.name} for p in sorted(folder.glob("*/result.json"))]


def value_at(result: Result, *path: str) -> Any:
    """What lies at `path`, None where anything on the way is missing."""
    value: Any = result
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number_at(result: Result, *path: str) -> float | None:
    """The finite number at `path`, None where there is none."""
    value = value_at(result, *path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def reader(*path: str) -> Callable[[Result], float | None]:
    """The function that reads the number at `path` from a result."""
    return lambda result: number_at(result, *path)


def keys_at(results: Iterable[Result], *path: str) -> list[str]:
    """The keys at `path` over all results, in order of appearance."""
    return list(dict.fromkeys(key for result in results for key in value_at(result, *path) or ()))


def order(result: Result) -> tuple:
    """Sorts jobs by tracker, method, seed and falling ratio, whatever order they ended in."""
    ratio = number_at(result, "ratio")
    keys = (result.get("tracker"), result.get("method"), result.get("seed"), None if ratio is None else -ratio)
    # What is missing (failed jobs) goes last; None itself does not compare.
    return (*((key is None, "" if key is None else key) for key in keys), str(result.get("job")))


def identity_of(result: Result) -> Identity:
    """Equal for results that share a line."""
    return tuple(result.get(key) for key in IDENTITY)


def seeds_of(results: Iterable[Result]) -> set[Any]:
    """The seeds of all results."""
    return {result.get("seed") for result in results}


def fractions_of(results: Iterable[Result]) -> list[str]:
    """What the ratios are fractions of, in words."""
    return sorted({RATIO_OF.get(str(result.get("ratio_of")), str(result.get("ratio_of"))) for result in results})


def benchmarks_of(results: Iterable[Result]) -> list[str]:
    """The benchmarks that any result reports."""
    return keys_at(results, "metrics")


def metrics_of(results: Sequence[Result], benchmark: str) -> list[str]:
    """The metrics of a benchmark: its numbers, but for the counts beside them."""
    return [
        key
        for key in keys_at(results, "metrics", benchmark)
        if key not in ("sequences", "frames")
        and any(number_at(result, "metrics", benchmark, key) is not None for result in results)
    ]


def leading(results: Sequence[Result]) -> tuple[str, str]:
    """The benchmark and the metric that headline and figures are about: the first of each, empty without any."""
    benchmark = next(iter(benchmarks_of(results)), "")
    return benchmark, next(iter(metrics_of(results, benchmark)), "")


def protocol_of(results: Iterable[Result], benchmark: str) -> str:
    """The protocol of a benchmark; if jobs differ, all of them."""
    found = (value_at(result, "metrics", benchmark, "protocol") for result in results)
    return " / ".join(dict.fromkeys(str(protocol) for protocol in found if protocol))


def retention_of(result: Result, benchmark: str, metric: str) -> float | None:
    """As stored; a dense job that stores none is its own parent."""
    stored = number_at(result, "retention", benchmark, metric)
    dense = result.get("ratio") == 1 and number_at(result, "metrics", benchmark, metric)
    return 1.0 if stored is None and dense else stored


def floor_of(
    results: Sequence[Result], benchmark: str, metric: str, relative: bool = False
) -> tuple[float, float] | None:
    """Smallest and largest score of the still box, `relative` to each result's parent or not."""
    scores = []
    for result in results:
        score = number_at(result, "still_box", benchmark, metric)
        above = () if result.get("ratio") == 1 else ("parent",)
        parent = number_at(result, *above, "metrics", benchmark, metric)
        if score is not None and (parent or not relative):
            scores.append(score / parent if relative else score)
    return (min(scores), max(scores)) if scores else None
