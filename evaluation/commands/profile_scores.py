"""Scores of trackers that lie on the disk already, for the picture of latency against accuracy."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import UserError
from evaluation.export.result_beside import result_beside
from evaluation.tracking.metrics import scores_of

Result = Mapping[str, Any]


def scores_at_hand(checkpoints: Mapping[str, str], file: str | None) -> dict[str, dict[str, Any]]:
    """Returns the main score of each tracker that has one.

    Scores of different benchmarks cannot be compared. If the results have several, it is the first one that most
    trackers have.

    Args:
        checkpoints: by name of the tracker.
        file: `comparison.json` or `result.json` of action=score; None to look beside each checkpoint for the
            `result.json` of the job that made it.

    Returns:
        By name: "benchmark", "metric", "score", "interval" ("low" and "high", or None) and "still_box".

    Raises:
        UserError: the file cannot be read, or has a score of none of the trackers.
    """
    found = dict(_results_in(checkpoints, Path(file))) if file else dict(_results_beside(checkpoints))
    if file and not found:
        raise UserError(f"profile.scores={file} has a score of none of {', '.join(checkpoints.values())}")
    counts: dict[str, int] = {}
    for result in found.values():
        for benchmark in result["metrics"]:
            counts[benchmark] = counts.get(benchmark, 0) + 1
    if not counts:
        return {}
    benchmark = max(counts, key=lambda name: counts[name])
    return {name: _main_score(r, benchmark) for name, r in found.items() if benchmark in r["metrics"]}


def _main_score(result: Result, benchmark: str) -> dict[str, Any]:
    metric, score = next(iter(scores_of(result["metrics"][benchmark]).items()))
    return {
        "benchmark": benchmark,
        "metric": metric,
        "score": score,
        "interval": result.get("intervals", {}).get(benchmark, {}).get(metric),
        "still_box": result.get("still_box", {}).get(benchmark, {}).get(metric),
    }


def _results_in(checkpoints: Mapping[str, str], file: Path) -> Iterator[tuple[str, Result]]:
    try:
        content = json.loads(file.read_text())
        results = list(content["trackers"].values()) if "trackers" in content else [content]
        by_path = {_place(result["checkpoint"]): result for result in results if result["metrics"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"profile.scores={file} is no comparison.json or result.json of action=score ({type(error).__name__})"
        ) from error
    shared = {key: content[key] for key in ("still_box",) if key in content}
    for name, checkpoint in checkpoints.items():
        if _place(checkpoint) in by_path:
            yield name, shared | by_path[_place(checkpoint)]


def _results_beside(checkpoints: Mapping[str, str]) -> Iterator[tuple[str, Result]]:
    for name, checkpoint in checkpoints.items():
        if result := result_beside(Path(checkpoint)):
            yield name, result


def _place(checkpoint: str) -> str:
    return str(Path(checkpoint).resolve())
