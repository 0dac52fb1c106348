"""One-pass evaluation (OTB, LaSOT, UAV123, NfS, ...) as three toolkits compute it: they do not agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.tracking.metrics.counts import Counts, above, per_sequence, within
from evaluation.tracking.metrics.measures import centers, distances, intersection_and_union, overlaps
from evaluation.tracking.metrics.protocol import Frames, Track, frames, labels

PROFILES = ("got10k", "pytracking", "ostrack")
DATASETS = ("lasot", "lasot_extension_subset", "nfs", "otb", "trackingnet", "uav", "other")
GRID = np.arange(21)
# torch.arange counts on from every fourth, so pytracking's 0.65 and 0.75 are one bit more than 13 and 15 times 0.05.
BY_FOURS = GRID // 4 * 4 * 0.05 + GRID % 4 * 0.05
HUNDREDTHS = np.arange(51) / 100
OVERLAPS = {"got10k": GRID * 0.05, "pytracking": BY_FOURS, "ostrack": BY_FOURS}
PIXELS = np.arange(51.0)
RELATIVE = {"got10k": np.arange(51) * 0.01, "pytracking": HUNDREDTHS, "ostrack": HUNDREDTHS}


@dataclass(frozen=True)
class Measures:
    """Of all frames that a profile looks at, (n,) each, all sequences one after the other.

    Attributes:
        overlap: -1 where that of pytracking is invalid.
        center_error: in pixels; infinite (a miss) or -1 (a hit) there.
        normalized_error: the same in units of the object's size.
        valid: whether the annotation says where the object is.
        lengths: of the sequences, (s,).
    """

    overlap: np.ndarray
    center_error: np.ndarray
    normalized_error: np.ndarray
    valid: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class OnePass:
    """Success and precision: the curve of each sequence, averaged over sequences.

    A tracker is started on the first frame and never again; that frame counts, with the annotated box.

    Attributes:
        profile: whose code to agree with. "got10k": the got10k toolkit, of 2020 and later, which knows LaSOT.
            "pytracking": its `analysis`. "ostrack": OSTrack's and STARK's copy of that, in which an annotated box may
            touch the picture's left and top edge.
        dataset: one of `DATASETS`; "other" is any without rules of its own. "lasot" and "uav" have some.
        exclude_invalid_frames: pytracking's option: shares are of the valid frames only. Invalid ones that count as
            hits still do, so P_norm may pass 1.

    Raises:
        ValueError: an unknown profile or dataset, or one without the option.
    """

    profile: str
    dataset: str = "other"
    exclude_invalid_frames: bool = False

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"profile={self.profile} is not known; take one of {', '.join(PROFILES)}")
        if self.dataset not in DATASETS:
            raise ValueError(f"dataset={self.dataset} is not known; take one of {', '.join(DATASETS)}")
        if self.exclude_invalid_frames and self.profile == "got10k":
            raise ValueError("the got10k toolkit cannot exclude_invalid_frames; take profile=pytracking or leave it")

    @property
    def key(self) -> str:
        """See `Protocol`."""
        return self.profile + "_excluding_invalid" * self.exclude_invalid_frames

    @property
    def label(self) -> str:
        """See `Protocol`."""
        return f"one pass, {self.profile}" + ", without invalid frames" * self.exclude_invalid_frames

    def report(self, tracks: Mapping[str, Track]) -> dict[str, Any]:
        """AUC, OP50, OP75, P (at 20 pixels) and P_norm; see `Protocol.report`.

        P_norm is the share at 0.2 of the object's size, but of the got10k profile it is the mean from 0 to 0.5, and
        there only LaSOT has it.
        """
        counts = self.count(self.measure(tracks))
        success, precision, normalized = counts.curves()
        scores = {"AUC": success.mean(), "OP50": success[10], "OP75": success[15], "P": precision[20]}
        if self.profile != "got10k":
            scores["P_norm"] = normalized[20]
        elif self.dataset == "lasot":
            scores["P_norm"] = normalized.mean()
        return {
            "protocol": self.label,
            **{name: float(score) for name, score in scores.items()},
            "sequences": len(tracks),
            "frames": int(counts.frames.sum()),
        }

    def measure(self, tracks: Mapping[str, Track]) -> Measures:
        """Overlaps and errors of all frames.

        Raises:
            ValueError: there are no tracks, or one that the profile does not accept.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._measure_got10k(tracks) if self.profile == "got10k" else self._measure_pytracking(tracks)

    def count(self, measures: Measures) -> Counts:
        """Frames that pass each threshold."""
        lengths = measures.lengths
        return Counts(
            above(measures.overlap, OVERLAPS[self.profile], lengths),
            within(measures.center_error, PIXELS, lengths),
            within(measures.normalized_error, RELATIVE[self.profile], lengths),
            per_sequence(measures.valid, lengths) if self.exclude_invalid_frames else lengths,
        )

    def _measure_got10k(self, tracks: Mapping[str, Track]) -> Measures:
        """A missing box shortens the sequence."""
        of = frames(tracks, fill=None)
        of.start_on_truth()
        predicted, truth, lengths = of.predicted, of.truth, of.lengths
        unknown = np.isnan(truth.T).any(0)
        if self.dataset in ("lasot", "uav") and unknown.any():
            predicted, truth, lengths = predicted[~unknown], truth[~unknown], per_sequence(~unknown, lengths)
        difference = centers(predicted) - centers(truth)
        return Measures(
            overlaps(predicted, truth),
            distances(difference),
            distances(difference / np.maximum(1, truth[:, 2:])),
            np.ones(len(truth), bool),
            lengths,
        )

    def _measure_pytracking(self, tracks: Mapping[str, Track]) -> Measures:
        """A missing box is a failure, and one without size stands for the one before it."""
        of = frames(tracks, fill=0)
        self._check(of)
        _hold(of)
        of.start_on_truth()
        predicted, truth = of.predicted, of.truth
        intersection, union = intersection_and_union(predicted, truth, pixel=1)
        overlap = intersection / union
        here, there, unit = centers(predicted), centers(truth), truth[:, 2:]
        center_error = distances(here, there)
        normalized_error = distances(here / unit, there / unit)
        absent = labels([t.absent for t in tracks.values()], of.lengths, default=0) > 0
        positive = truth if self.profile == "pytracking" else truth[:, 2:]
        valid = (positive.T > 0).all(0) & ~absent
        overlap[~valid] = -1
        center_error[~valid] = -1 if self.dataset == "uav" else np.inf
        normalized_error[~valid] = -1
        if self.dataset == "lasot":
            normalized_error[absent] = np.inf
        return Measures(overlap, center_error, normalized_error, valid, of.lengths)

    def _check(self, of: Frames) -> None:
        if self.dataset == "lasot" and of.missing.any():
            raise ValueError(
                f"{of.place(of.missing.argmax())}: no box is predicted; on LaSOT, {self.profile} wants one for every "
                "frame, the first one included"
            )
        wrong = np.isnan(of.predicted.T).any(0) | (of.predicted.T[2:] < 0).any(0)
        if wrong.any():
            i = wrong.argmax()
            raise ValueError(
                f"{of.place(i)}: the predicted box is {of.predicted[i].tolist()}; {self.profile} refuses NaN and "
                "negative sizes"
            )
        unknown = np.isnan(of.truth.T).any(0)
        if self.dataset != "uav" and unknown.any():
            raise ValueError(
                f"{of.place(unknown.argmax())}: the annotated box is NaN, which {self.profile} accepts of UAV123 only "
                "(dataset=uav)"
            )


def _hold(of: Frames) -> None:
    """Replaces predictions without size by the one before; not first or missing ones, nor where the truth is NaN."""
    empty = (of.predicted.T[2:] == 0).any(0) & ~of.missing & ~np.isnan(of.truth.T).any(0)
    empty[of.first] = False
    rows = np.flatnonzero(empty)
    if rows.size:
        before = np.maximum.accumulate(np.where(empty, 0, np.arange(len(empty))))
        of.predicted[rows] = of.predicted[before[rows]]
