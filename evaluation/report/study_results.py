"""Reads the result files of a study. Any key may be missing in any result."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.report.formatting import format_percent

RATIO_OF = {"params": "parameters", "macs": "MACs", "units": "gated units"}

Result = dict[str, Any]
IDENTITY = ("tracker", "scale", "method", "ratio_of")  # results with equal values share one line of a figure
Identity = tuple[Any, ...]  # the values of these keys


def read_results(folder: Path) -> list[Result]:
    """Returns the results of all jobs below a study's folder, each with the name of its folder under "folder".

    A file that cannot be read is the result of a job that failed.
    """
    return [_read_result(path) | {"folder": path.parent.name} for path in sorted(folder.glob("*/result.json"))]


def _read_result(path: Path) -> Result:
    try:
        result = json.loads(path.read_text())
        if isinstance(result, dict):
            return result
    except ValueError:  # no text or no JSON
        pass
    error = f"{path} is damaged; delete it and give the command again"
    return {"job": path.parent.name, "status": "failed", "error": error, "log": str(path)}


def without_repeats(results: Iterable[Result]) -> list[Result]:
    """Returns the results without those of jobs that repeat another one: a repeated number is no second measurement.

    Two jobs are equal if their tracker, ratio, seed and configuration are, e.g. in a sweep with ratio=0.5,0.50.
    """
    unique: dict[tuple, Result] = {}
    for result in results:
        unique.setdefault(_job_key(result), result)
    return list(unique.values())


def _job_key(result: Result) -> tuple:
    configuration = result.get("config_hash")
    if configuration is None:
        return (id(result),)  # nothing tells whether it repeats another one
    return (configuration, *identity_of(result), result.get("ratio"), result.get("seed"))


def value_at(result: Result, *path: str) -> Any:
    """Returns the value at `path`, None if any of the keys is missing."""
    value: Any = result
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number_at(result: Result, *path: str) -> float | None:
    """Returns the finite number at `path`, None if there is none."""
    value = value_at(result, *path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def describe_sizes(fractions: Mapping[str, Sequence[float]]) -> str:
    """Returns which fractions of the parent are left, e.g. "72% of the parameters and 59% (51 to 66%) of the MACs".

    Args:
        fractions: by "params" and "macs": a fraction, or also the smallest and the largest that may be expected.
    """
    words = []
    for key in ("params", "macs"):
        about, spread = format_percent(fractions[key][0]), [format_percent(end) for end in fractions[key][1:]]
        expected = f" ({' to '.join(spread)}%)" if {*spread} - {about} else ""
        words.append(f"{about}%{expected} of the {RATIO_OF[key]}")
    return " and ".join(words)


def number_reader(*path: str) -> Callable[[Result], float | None]:
    """Returns a function that reads the number at `path` from a result."""
    return lambda result: number_at(result, *path)


def keys_at(results: Iterable[Result], *path: str) -> list[str]:
    """Returns the keys at `path` of all results, in order of appearance."""
    return list(dict.fromkeys(key for result in results for key in value_at(result, *path) or ()))


def sort_key(result: Result) -> tuple:
    """Returns a key that sorts jobs by tracker, method, seed and falling ratio."""
    ratio = number_at(result, "ratio")
    keys = (result.get("tracker"), result.get("method"), result.get("seed"), None if ratio is None else -ratio)
    # Missing values (of failed jobs) sort last. None itself cannot be compared.
    return (*((key is None, "" if key is None else key) for key in keys), str(result.get("job")))


def identity_of(result: Result) -> Identity:
    """Returns the identity of a result; results with equal identities share one line."""
    return tuple(result.get(key) for key in IDENTITY)


def seeds_of(results: Iterable[Result]) -> set[Any]:
    """Returns the seeds of all results."""
    return {result.get("seed") for result in results}


def fractions_of(results: Iterable[Result]) -> list[str]:
    """Returns in words what the ratios are fractions of."""
    return sorted({RATIO_OF.get(str(result.get("ratio_of")), str(result.get("ratio_of"))) for result in results})


def benchmarks_of(results: Iterable[Result]) -> list[str]:
    """Returns the benchmarks that any result reports."""
    return keys_at(results, "metrics")


def metrics_of(results: Sequence[Result], benchmark: str) -> list[str]:
    """Returns the metrics of a benchmark: its numbers without the counts of sequences and frames."""
    return [
        key
        for key in keys_at(results, "metrics", benchmark)
        if key not in ("sequences", "frames")
        and any(number_at(result, "metrics", benchmark, key) is not None for result in results)
    ]


def leading_metric(results: Sequence[Result]) -> tuple[str, str]:
    """Returns the benchmark and the metric of the headline and the figures: the first of each, "" if there is none."""
    benchmark = next(iter(benchmarks_of(results)), "")
    return benchmark, next(iter(metrics_of(results, benchmark)), "")


def protocol_of(results: Iterable[Result], benchmark: str) -> str:
    """Returns the protocol of a benchmark, or all of them if jobs differ."""
    protocols = (value_at(result, "metrics", benchmark, "protocol") for result in results)
    return " / ".join(dict.fromkeys(str(protocol) for protocol in protocols if protocol))


def retention_of(result: Result, benchmark: str, metric: str) -> float | None:
    """Returns the stored retention, and 1 for a dense job that stores none, since it is its own parent."""
    stored = number_at(result, "retention", benchmark, metric)
    dense = result.get("ratio") == 1 and number_at(result, "metrics", benchmark, metric)
    return 1.0 if stored is None and dense else stored


def informative(results: Sequence[Result], benchmark: str, metric: str) -> list[Result]:
    """Returns the results whose parent scores above a box that never moves, since other retentions have no meaning.

    Returns:
        All results if none is left. A result that does not tell both scores is kept.
    """
    return [result for result in results if is_informative(result, benchmark, metric)] or list(results)


def is_informative(result: Result, benchmark: str, metric: str) -> bool:
    """Returns whether the parent scores above a box that never moves, or does not tell both scores."""
    still, above = number_at(result, "still_box", benchmark, metric), () if result.get("ratio") == 1 else ("parent",)
    parent = number_at(result, *above, "metrics", benchmark, metric)
    return still is None or parent is None or parent > still


def parent_result(result: Result) -> Result:
    """Returns what the result of a child says about its parent, as a result of ratio 1."""
    kept = {key: result.get(key) for key in (*IDENTITY, "family", "seed", "still_box")}
    sequences = {benchmark: rows.parent() for benchmark, rows in (result.get("sequences") or {}).items()}
    return kept | (result.get("parent") or {}) | {"ratio": 1, "sequences": sequences}


def floor_of(
    results: Sequence[Result], benchmark: str, metric: str, relative: bool = False
) -> tuple[float, float] | None:
    """Returns the smallest and the largest score of the still box.

    `relative` divides each by its parent's score, for `informative` results.
    """
    scores = []
    for result in informative(results, benchmark, metric) if relative else results:
        score = number_at(result, "still_box", benchmark, metric)
        above = () if result.get("ratio") == 1 else ("parent",)
        parent = number_at(result, *above, "metrics", benchmark, metric)
        if score is not None and (parent or not relative):
            scores.append(score / parent if relative and parent else score)
    return (min(scores), max(scores)) if scores else None
