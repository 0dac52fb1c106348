"""Compares trackers on the same sequences: paired differences, the sequences that differ most, and attributes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from evaluation.tracking.metrics.bootstrap import FEW_SEQUENCES, Interval, difference_interval
from evaluation.tracking.metrics.sequence_scores import SequenceScores

# Scores of trackers by name, all over the same sequences. The first tracker is the one that others are compared with.
ByTracker = Mapping[str, SequenceScores]

SMALLEST = 0.0005  # a smaller difference is 0.000 in all tables, and may come from the rounding of boxes


class Difference(NamedTuple):
    """The score of a tracker minus that of the first one.

    Attributes:
        value: of all sequences together.
        interval: 95 %, paired over the sequences; None if there is none.
        sequences: the sequences that count.
    """

    value: float
    interval: Interval | None
    sequences: int

    @property
    def verdict(self) -> str:
        """What the difference is evidence of, in words."""
        if self.sequences < FEW_SEQUENCES or self.interval is None:
            return "too few sequences for evidence of a difference"
        if self.interval.low <= 0 <= self.interval.high or abs(self.value) < SMALLEST:
            return "no evidence of a difference"
        return "better" if self.value > 0 else "worse"

    def as_plain_data(self) -> dict[str, Any]:
        """Returns the difference for a JSON file."""
        interval = None if self.interval is None else self.interval._asdict()
        return {"value": self.value, "interval": interval, "sequences": self.sequences, "verdict": self.verdict}


class Change(NamedTuple):
    """The scores of one sequence: of the first tracker and of another one."""

    sequence: str
    first: float
    other: float

    @property
    def difference(self) -> float:
        """The other score minus the first one."""
        return self.other - self.first


@dataclass(frozen=True)
class AttributeScores:
    """The scores of all trackers over the sequences with one attribute.

    Attributes:
        attribute: its name.
        sequences: their number.
        scores: by tracker.
        differences: to the first tracker, by tracker; without the first one.
    """

    attribute: str
    sequences: int
    scores: dict[str, float]
    differences: dict[str, Difference]


def differences(trackers: ByTracker) -> dict[str, dict[str, Difference]]:
    """Returns the differences to the first tracker, by tracker and metric."""
    first, *others = trackers
    return {
        name: {metric: _difference(trackers[name], trackers[first], metric) for metric in trackers[first].values}
        for name in others
    }


def largest_changes(first: SequenceScores, other: SequenceScores, metric: str, count: int) -> list[Change]:
    """Returns the sequences with the largest losses and gains: at most `count` of each, from loss to gain."""
    counts = first.weights > 0
    changes = [
        Change(name, float(a), float(b))
        for name, a, b, counted in zip(first.names, first.values[metric], other.values[metric], counts, strict=True)
        if counted and a != b and np.isfinite((a, b)).all()
    ]
    changes.sort(key=lambda change: change.difference)
    losses = [change for change in changes[:count] if change.difference < 0]
    gains = [change for change in changes[-count:] if change.difference > 0]
    return losses + gains


def most_different(trackers: ByTracker, metric: str) -> str | None:
    """Returns the sequence on which the scores of the trackers lie farthest apart; for one, that of its lowest score.

    Returns:
        None if no sequence counts.
    """
    first, *others = trackers.values()
    values = np.array([scores.values[metric] for scores in (first, *others)])
    spread = np.ptp(values, axis=0) if others else -values[0]
    spread = np.where((first.weights > 0) & np.isfinite(spread), spread, -np.inf)
    return first.names[int(spread.argmax())] if np.isfinite(spread).any() else None


def by_attribute(trackers: ByTracker, groups: Mapping[str, frozenset[str]], metric: str) -> list[AttributeScores]:
    """Returns the scores over the sequences with each attribute, without attributes of all sequences or of none."""
    first = next(iter(trackers.values()))
    counts, rows = first.weights > 0, []
    for attribute, members in groups.items():
        chosen = counts & np.isin(first.names, list(members))
        if not 0 < chosen.sum() < counts.sum():
            continue
        parts = {name: scores.select(chosen) for name, scores in trackers.items()}
        scores = {name: part.scores()[metric] for name, part in parts.items()}
        changes = {name: changed[metric] for name, changed in differences(parts).items()}
        rows.append(AttributeScores(attribute, int(chosen.sum()), scores, changes))
    return rows


def _difference(other: SequenceScores, first: SequenceScores, metric: str) -> Difference:
    interval = difference_interval(other.values[metric], first.values[metric], first.weights)
    value = other.scores()[metric] - first.scores()[metric]
    return Difference(value, interval, int((first.weights > 0).sum()))
