"""Numbers with their 95 % intervals: scores, retention and speed-ups of one job, or means over the seeds of a ratio.

An interval of a score or of a retention is over the sequences of the benchmark. The one of a job is in its result. The
one of a mean over seeds is computed from the sequences of the jobs, since all seeds track the same sequences. The
interval of a retention is paired: child and parent are compared on the same sequences.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import fmean, harmonic_mean
from typing import NamedTuple

import numpy as np

from evaluation.report.evidence import interval_at
from evaluation.report.formatting import with_interval
from evaluation.report.latency import speedup_of
from evaluation.report.study_results import Result, informative, number_at, parent_result, retention_of, value_at
from evaluation.tracking.metrics.bootstrap import Interval, score_interval


class Estimate(NamedTuple):
    """A number and its interval, which is None if it is not known."""

    value: float
    interval: Interval | None

    def score(self) -> str:
        """Returns a score as text, e.g. "0.537 (0.48 to 0.59)"."""
        return with_interval(self.value, self.interval, "{:.3f}".format, "{:.2f}".format)

    def percent(self) -> str:
        """Returns a share as text, e.g. "92% (88 to 95%)"."""
        return with_interval(self.value, self.interval, "{:.0%}".format, lambda end: f"{100 * end:.0f}", "%")

    def times(self) -> str:
        """Returns a factor as text, e.g. "1.92 (1.85 to 2.01)"."""
        return with_interval(self.value, self.interval, "{:.2f}".format, "{:.2f}".format)


def score_estimate(seeds: Sequence[Result], benchmark: str, metric: str) -> Estimate | None:
    """Returns the mean score over the seeds that have it."""
    path = (benchmark, metric)
    return _estimate(
        seeds,
        lambda result: number_at(result, "metrics", *path),
        lambda result: interval_at(result, "intervals", *path),
        lambda result: _columns(result, benchmark, metric),
    )


def parent_score_estimate(seeds: Sequence[Result], benchmark: str, metric: str) -> Estimate | None:
    """Returns the mean score of the parents; the parent of ratio 1 is the tracker itself."""
    parents = [result if result.get("ratio") == 1 else parent_result(result) for result in seeds]
    return score_estimate(parents, benchmark, metric)


def retention_estimate(seeds: Sequence[Result], benchmark: str, metric: str) -> Estimate | None:
    """Returns the mean retention over the `informative` seeds that have it. At ratio 1 it is exactly 1."""
    path = (benchmark, metric)
    return _estimate(
        informative(seeds, *path),
        lambda result: retention_of(result, *path),
        lambda result: (
            Interval(1.0, 1.0) if result.get("ratio") == 1 else interval_at(result, "retention_intervals", *path)
        ),
        lambda result: _retention_columns(result, *path),
    )


def speedup_estimate(seeds: Sequence[Result], device: str) -> Estimate | None:
    """Returns how many times faster the children are than their parents: the parent's time over the mean time.

    With several seeds, the ends are the smallest and the largest one of a seed, since the seeds were timed apart.
    """
    pairs = [(speedup_of(result, device), interval_at(result, "speedup", device)) for result in seeds]
    pairs = [(ratio, ends) for ratio, ends in pairs if ratio]
    if not pairs:
        return None
    ends = [ends for _, ends in pairs if ends is not None]
    whole = len(ends) == len(pairs)
    interval = Interval(min(low for low, _ in ends), max(high for _, high in ends)) if whole else None
    return Estimate(harmonic_mean([ratio for ratio, _ in pairs]), interval)


def latency_estimate(seeds: Sequence[Result], device: str) -> Estimate | None:
    """Returns the mean latency in milliseconds. Its interval is that of the paired speed-up."""
    times = [ms for result in seeds if (ms := number_at(result, "latency", device, "ms")) is not None]
    faster = speedup_estimate(seeds, device)
    if not times:
        return None
    mean = fmean(times)
    if faster is None or faster.interval is None:
        return Estimate(mean, None)
    low, high = faster.interval
    return Estimate(mean, Interval(mean * faster.value / high, mean * faster.value / low))


def retention_difference(
    one: Sequence[Result], other: Sequence[Result], benchmark: str, metric: str
) -> Estimate | None:
    """Returns the retention of one tracker less that of another, paired over the same sequences.

    Returns:
        None if the retention or the sequences of a tracker are not known, or if the sequences are not the same.
    """
    one, other = (informative(seeds, benchmark, metric) for seeds in (one, other))
    first, second = (_mean_columns([_retention_columns(r, benchmark, metric) for r in s]) for s in (one, other))
    mean, other_mean = (retention_estimate(seeds, benchmark, metric) for seeds in (one, other))
    if first is None or second is None or mean is None or other_mean is None or first[0] != second[0]:
        return None
    return Estimate(mean.value - other_mean.value, _interval(first[1] - second[1], first[2]))


Columns = tuple[tuple[str, ...], np.ndarray, np.ndarray]  # names, values and weights of the sequences


def _estimate(
    seeds: Sequence[Result],
    read: Callable[[Result], float | None],
    stored: Callable[[Result], Interval | None],
    columns: Callable[[Result], Columns | None],
) -> Estimate | None:
    pairs = [(result, value) for result in seeds if (value := read(result)) is not None]
    if not pairs:
        return None
    mean = fmean(value for _, value in pairs)
    ends = [stored(result) for result, _ in pairs]
    if len(set(ends)) == 1 and len({value for _, value in pairs}) == 1:  # one seed, or one parent of all seeds
        return Estimate(mean, ends[0])
    found = _mean_columns([columns(result) for result, _ in pairs])
    return Estimate(mean, None if found is None else _interval(*found[1:]))


def _mean_columns(columns: Sequence[Columns | None]) -> Columns | None:
    """Returns the means over seeds of each sequence; None unless all seeds have the same sequences."""
    found = [seed for seed in columns if seed is not None]
    if len(found) < len(columns) or len({names for names, *_ in found}) != 1:
        return None
    return found[0][0], np.mean([values for _, values, _ in found], 0), found[0][2]


def _columns(result: Result, benchmark: str, metric: str) -> Columns | None:
    rows = value_at(result, "sequences", benchmark)
    if rows is None or not {metric, "weight"} <= set(rows.columns):
        return None
    return rows.names, rows.columns[metric], rows.columns["weight"]


def _retention_columns(result: Result, benchmark: str, metric: str) -> Columns | None:
    """Returns what each sequence adds to a retention.

    The weighted mean of the values is the retention. Their bootstrap is that of the retention to first order, so means
    over seeds with different parents and differences between trackers are those of the values.
    """
    child = _columns(result, benchmark, metric)
    if child is None:
        return None
    names, values, weights = child
    if result.get("ratio") == 1:
        return names, np.ones_like(values), weights
    parent = _columns(parent_result(result), benchmark, metric)
    counts = weights > 0
    if parent is None or not (base := float((parent[1] * weights)[counts].sum() / weights[counts].sum())) > 0:
        return None
    retention = float((values * weights)[counts].sum() / weights[counts].sum()) / base
    return names, retention + (values - retention * parent[1]) / base, weights


def _interval(values: np.ndarray, weights: np.ndarray) -> Interval | None:
    return _cached_interval(values.tobytes(), weights.tobytes())


@lru_cache(maxsize=10_000)  # figures, tables and sentences ask for the same intervals
def _cached_interval(values: bytes, weights: bytes) -> Interval | None:
    return score_interval(np.frombuffer(values), np.frombuffer(weights))
