"""The numbers of a finished job for the summary of its W&B run, and the words that explain them for its config."""

from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.tracking.metrics import scores_of

Result = Mapping[str, Any]


def summary_of(result: Result) -> dict[str, Any]:
    """Returns the numbers of a finished job as a flat mapping; any of them may be missing.

    - `params`, `macs` and `bytes` of the tracker, `parent_params` and `parent_macs`; `achieved/params` and
      `achieved/macs`, the fractions that are kept; `ratio_achieved`, the fraction of the quantity to which the ratio
      refers.
    - `metrics/<benchmark>/<metric>` of the tracker and `parent_metrics/...`; `retention/...`, the first divided by the
      second; `still_box/...`, the scores of a box that never moves. `.../low` and `.../high` are its 95 % interval.
    - `speedup/<device>`, how many times faster than its parent the tracker is, measured in turns; `.../noise` is the
      parent against itself. `latency/<device>` and `parent_latency/<device>` in ms.
    - `presence/<benchmark>/AUC`, `.../false_alarms`, `.../misses`, where objects are absent in some frames.
    - `fps/<benchmark>` of the whole tracker; `masked_vs_compacted`; `protocol/<benchmark>` in words.
    """
    summary = {
        key: result[key] for key in ("params", "bytes", "ratio_achieved", "masked_vs_compacted") if key in result
    }
    summary |= {f"achieved/{name}": fraction for name, fraction in result.get("achieved", {}).items()}
    summary |= {f"protocol/{benchmark}": report["protocol"] for benchmark, report in _reports(result, "metrics")}
    for kind, intervals in (
        ("metrics", "intervals"),
        ("retention", "retention_intervals"),
        ("still_box", ""),
        ("presence", ""),
    ):
        summary |= dict(_scores(result, kind, intervals))
    for device, measured in result.get("speedup", {}).items():
        summary |= dict(_with_ends(f"speedup/{device}", measured["ratio"], measured))
        if noise := measured.get("noise"):
            summary |= dict(_with_ends(f"speedup/{device}/noise", noise["ratio"], noise))
    summary |= {f"fps/{benchmark}": report["fps"] for benchmark, report in _reports(result, "speed")}
    summary |= dict(_costs(result))
    if result.get("ratio") != 1:
        parent = result.get("parent", {})
        numbers = dict(_scores(parent, "metrics", "intervals")) | dict(_costs(parent))
        summary |= {f"parent_{name}": value for name, value in numbers.items()}
        summary |= {"parent_params": parent["params"]} if "params" in parent else {}
    return {name: value for name, value in summary.items() if value is not None}


def protocols_of(result: Result) -> dict[str, str]:
    """Returns how the numbers of a job were measured, in words, by the kind of number."""
    words = {"intervals": result.get("interval_protocol")}
    for kind in ("latency", "speedup", "speed", "presence"):
        for report in result.get(kind, {}).values():
            words["fps" if kind == "speed" else kind] = report.get("protocol")
    return {kind: text for kind, text in words.items() if text}


def _reports(result: Result, kind: str) -> Iterator[tuple[str, Any]]:
    yield from result.get(kind, {}).items()


def _scores(result: Result, kind: str, intervals: str) -> Iterator[tuple[str, float]]:
    """Yields the scores of a kind by name, each with the ends of its interval if there is one."""
    for benchmark, report in _reports(result, kind):
        found = result.get(intervals, {}).get(benchmark, {})
        for metric, value in scores_of(report).items():
            yield from _with_ends(f"{kind}/{benchmark}/{metric}", value, found.get(metric))


def _with_ends(name: str, value: float, interval: Mapping[str, float] | None) -> Iterator[tuple[str, float]]:
    yield name, value
    for end in ("low", "high"):
        if interval and interval.get(end) is not None:
            yield f"{name}/{end}", interval[end]


def _costs(result: Result) -> Iterator[tuple[str, float]]:
    """Yields MACs and latencies by name."""
    if "macs" in result:
        yield "macs", result["macs"]["total"]
    for device, measured in result.get("latency", {}).items():
        yield f"latency/{device}", measured["ms"]
