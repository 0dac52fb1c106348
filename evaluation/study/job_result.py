"""The result of a job as plain data: the content of `result.json`."""

from pathlib import Path
from typing import Any

import torch

from evaluation.export.timing.network_latency import compare_speed, latencies
from evaluation.processes.devices import device_type
from evaluation.study.provenance import provenance
from evaluation.tracking.metrics import scores_of
from evaluation.tracking.metrics.bootstrap import retention_intervals
from evaluation.tracking.sequence_results import SequenceResults
from pruning.cost import count_macs, count_params
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import Checkpoint, build_tracker, load_checkpoint


def describe_result(
    final: Path, parent: Path, scores: dict[str, Any], parent_scores: dict[str, Any], device: str
) -> dict[str, Any]:
    """Returns sizes, scores and speeds of a job's tracker beside those of its parent.

    Args:
        final: checkpoint of the job's tracker: a child, or the parent itself.
        parent: checkpoint of the tracker that the child was pruned from; the same file as `final` is measured once.
        scores, parent_scores: see `Benchmark.scores`.
        device: torch device on which latency is measured.
    """
    files = {"child": final} if parent == final else {"child": final, "parent": parent}
    checkpoints = {name: load_checkpoint(file) for name, file in files.items()}
    sizes = [size_of(checkpoint.tracker, files[name]) for name, checkpoint in checkpoints.items()]
    size, parent_size = sizes[0], sizes[-1]
    trackers, speedup = {name: checkpoint.tracker for name, checkpoint in checkpoints.items()}, {}
    if len(trackers) == 1:
        clocks = latencies(trackers, device)
    else:
        clocks, speedup[device_type(device)] = compare_speed(trackers["child"], trackers["parent"], device)
    latency = [{device_type(device): clock} for clock in clocks.values()]
    child = checkpoints["child"]
    departures = child.tracker.departures_from_original()
    return {
        "family": child.tracker.family,
        **size,
        "ratio_achieved": child.metrics.get("ratio_achieved", 1.0),
        "achieved": {
            "params": size["params"] / parent_size["params"],
            "macs": size["macs"]["total"] / parent_size["macs"]["total"],
        },
        "units": _units(child),
        "departures_from_original": [departure for departure, present in departures.items() if present],
        **{key: value for key, value in scores.items() if key != "sequences"},
        "latency": latency[0],
        "speedup": speedup,
        "parent": parent_size
        | {key: parent_scores[key] for key in ("metrics", "intervals", "presence")}
        | {"latency": latency[-1]},
        "retention": _retention(scores["metrics"], parent_scores["metrics"]),
        "retention_intervals": _retention_intervals(scores["sequences"], parent_scores["sequences"]),
        "masked_vs_compacted": child.metrics.get("masked_vs_compacted"),
        **provenance(),
    }


def size_of(tracker: Tracker, file: Path) -> dict[str, Any]:
    """Returns the parameters and multiply-accumulates (MACs) of a tracker's network, and the bytes of its checkpoint.

    Args:
        tracker: the tracker.
        file: the checkpoint, or its folder.
    """
    macs = count_macs(tracker.network, tracker.frame_inputs())
    counts = {"params": count_params(tracker.network), "macs": {"total": macs.total, "parts": macs.parts}}
    return counts | {"bytes": bytes_of(file)}


def bytes_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files of a folder."""
    files = (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)


def _units(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Returns the kept and the full size of every group of the network that the recipe builds."""
    with torch.device("meta"):
        groups = build_tracker(checkpoint.recipe).groups()
    return {g.name: {"kind": g.kind, "kept": len(checkpoint.plan.units(g)), "size": g.size} for g in groups}


def _retention(scores: dict[str, Any], parent: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Returns each metric divided by the parent's, by benchmark; None where the parent's metric is 0."""
    return {
        benchmark: {
            name: value / parent[benchmark][name] if parent[benchmark][name] > 0 else None
            for name, value in scores_of(metrics).items()
        }
        for benchmark, metrics in scores.items()
    }


def _retention_intervals(child: SequenceResults, parent: SequenceResults) -> dict[str, Any]:
    """Returns the paired interval of each retention, by benchmark; {} for a tracker that is its own parent."""
    if child is parent:
        return {}
    return {name: retention_intervals(scores, parent.scores[name]) for name, scores in child.scores.items()}
