"""One-pass evaluation (OTB, LaSOT, UAV123, NfS, ...) by the rules of three toolkits, whose numbers differ."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.errors import UserError
from evaluation.tracking.metrics.counts import Counts, count_above, count_at_most, count_flags
from evaluation.tracking.metrics.curves import Curve, normalized_precision_curve, precision_curve, success_curve
from evaluation.tracking.metrics.frames import Frames, join_labels, join_tracks
from evaluation.tracking.metrics.geometry import centers, distances, intersection_and_union, overlaps
from evaluation.tracking.metrics.protocol import Protocol
from evaluation.tracking.metrics.sequence_scores import Scores, SequenceScores
from evaluation.tracking.metrics.track import Track

PROFILES = ("got10k", "pytracking", "ostrack")
DATASETS = ("lasot", "lasot_extension_subset", "nfs", "otb", "trackingnet", "uav", "other")
GRID = np.arange(21)
# torch.arange restarts its sum at every fourth value. So pytracking's 0.65 and 0.75 are one bit above 13 * 0.05 and
# 15 * 0.05.
GRID_OF_TORCH = GRID // 4 * 4 * 0.05 + GRID % 4 * 0.05
HUNDREDTHS = np.arange(51) / 100
OVERLAP_THRESHOLDS = {"got10k": GRID * 0.05, "pytracking": GRID_OF_TORCH, "ostrack": GRID_OF_TORCH}
PIXEL_THRESHOLDS = np.arange(51.0)
RELATIVE_THRESHOLDS = {"got10k": np.arange(51) * 0.01, "pytracking": HUNDREDTHS, "ostrack": HUNDREDTHS}


@dataclass(frozen=True)
class Measures:
    """Overlaps and errors of all frames that a profile uses, (n,) each, one sequence after the other.

    Attributes:
        overlap: IoU; -1 in frames that pytracking calls invalid.
        center_error: in pixels; in invalid frames infinite (a miss) or -1 (a hit).
        normalized_error: centre error in units of the object's size; in invalid frames infinite or -1.
        valid: whether the annotation says where the object is.
        lengths: of the sequences, (s,).
    """

    overlap: np.ndarray
    center_error: np.ndarray
    normalized_error: np.ndarray
    valid: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class OnePass(Protocol):
    """Success and precision: one curve for each sequence, averaged over sequences.

    A tracker is started on the first frame and never restarted. The first frame counts, with the annotated box.

    Attributes:
        profile: the toolkit whose numbers are reproduced. "got10k" is the got10k toolkit since 2020, which knows LaSOT.
            "pytracking" is the `analysis` package of pytracking. "ostrack" is the copy of it in OSTrack and STARK, in
            which an annotated box may touch the left and the top edge of the picture.
        dataset: one of `DATASETS`. "lasot" and "uav" have rules of their own; "other" is any data set without such
            rules.
        exclude_invalid_frames: option of pytracking: scores are shares of the valid frames only. Invalid frames that
            count as hits still do, so P_norm may be above 1.

    Raises:
        UserError: the profile or the data set is unknown, or the profile does not have the option.
    """

    profile: str
    dataset: str = "other"
    exclude_invalid_frames: bool = False

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise UserError(f"profile={self.profile} is not known; take one of {', '.join(PROFILES)}")
        if self.dataset not in DATASETS:
            raise UserError(f"dataset={self.dataset} is not known; take one of {', '.join(DATASETS)}")
        if self.exclude_invalid_frames and self.profile == "got10k":
            raise UserError(
                "exclude_invalid_frames=true does not exist in the got10k toolkit (profile=got10k); take "
                "profile=pytracking, or set exclude_invalid_frames=false"
            )

    @property
    def key(self) -> str:
        """Short name of the protocol; see `Protocol.key`."""
        return self.profile + "_excluding_invalid" * self.exclude_invalid_frames

    @property
    def label(self) -> str:
        """Name that is written beside every score; see `Protocol.label`."""
        return f"one pass, {self.profile}" + ", without invalid frames" * self.exclude_invalid_frames

    def score(self, tracks: Mapping[str, Track]) -> Scores:
        """Computes AUC, OP50, OP75, P (at 20 pixels) and P_norm; see `Protocol.score`. All sequences weigh the same.

        P_norm is the share of frames within 0.2 of the object's size. The got10k profile instead takes the mean over
        thresholds from 0 to 0.5, and has P_norm for LaSOT only.
        """
        counts = self.count(self.measure(tracks))
        curves = counts.sequence_curves()
        scores = {name: float(score) for name, score in self._read(*(curve.mean(0) for curve in curves)).items()}
        shape = {"sequences": len(tracks), "frames": int(counts.frames.sum())}
        report = {"protocol": self.label, **scores, **shape}
        return Scores(report, SequenceScores(list(tracks), self._read(*curves), np.ones(len(tracks))))

    def curves(self, tracks: Mapping[str, Track]) -> list[Curve]:
        """Computes the curves from which the scores are read; see `Protocol.curves`."""
        success, precision, normalized = self.count(self.measure(tracks)).sequence_curves()
        weights = np.ones(len(tracks))
        curves = [
            success_curve(OVERLAP_THRESHOLDS[self.profile], success, weights),
            precision_curve(PIXEL_THRESHOLDS, precision, weights),
        ]
        if "P_norm" in self._read(success, precision, normalized):
            curves.append(normalized_precision_curve(RELATIVE_THRESHOLDS[self.profile], normalized, weights))
        return curves

    def _read(self, success: np.ndarray, precision: np.ndarray, normalized: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the scores (...) that curves (..., t) have."""
        scores = {"AUC": success.mean(-1), "OP50": success[..., 10], "OP75": success[..., 15], "P": precision[..., 20]}
        if self.profile != "got10k":
            scores["P_norm"] = normalized[..., 20]
        elif self.dataset == "lasot":
            scores["P_norm"] = normalized.mean(-1)
        return scores

    def measure(self, tracks: Mapping[str, Track]) -> Measures:
        """Measures the overlap and the errors of every frame.

        Raises:
            UserError: there are no tracks, or the profile refuses one of them.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._measure_got10k(tracks) if self.profile == "got10k" else self._measure_pytracking(tracks)

    def count(self, measures: Measures) -> Counts:
        """Counts the frames that pass each threshold."""
        lengths = measures.lengths
        return Counts(
            count_above(measures.overlap, OVERLAP_THRESHOLDS[self.profile], lengths),
            count_at_most(measures.center_error, PIXEL_THRESHOLDS, lengths),
            count_at_most(measures.normalized_error, RELATIVE_THRESHOLDS[self.profile], lengths),
            count_flags(measures.valid, lengths) if self.exclude_invalid_frames else lengths,
        )

    def _measure_got10k(self, tracks: Mapping[str, Track]) -> Measures:
        """Measures like the got10k toolkit: frames without a prediction are left out."""
        frames = join_tracks(tracks, fill=None)
        frames.set_first_to_truth()
        predicted, truth, lengths = frames.predicted, frames.truth, frames.lengths
        unknown = np.asarray(np.isnan(truth.T).any(0))
        if self.dataset in ("lasot", "uav") and unknown.any():
            known = np.logical_not(unknown)
            predicted, truth, lengths = predicted[known], truth[known], count_flags(known, lengths)
        difference = centers(predicted) - centers(truth)
        return Measures(
            overlaps(predicted, truth),
            distances(difference),
            distances(difference / np.maximum(1, truth[:, 2:])),
            np.ones(len(truth), bool),
            lengths,
        )

    def _measure_pytracking(self, tracks: Mapping[str, Track]) -> Measures:
        """Measures like pytracking.

        A frame without a prediction is a failure. A predicted box without a size is replaced by the one before it.
        """
        frames = join_tracks(tracks, fill=0)
        self._check_boxes(frames)
        _replace_empty_boxes(frames)
        frames.set_first_to_truth()
        predicted, truth = frames.predicted, frames.truth
        intersection, union = intersection_and_union(predicted, truth, pixel=1)
        overlap = intersection / union
        found, true, unit = centers(predicted), centers(truth), truth[:, 2:]
        center_error = distances(found, true)
        normalized_error = distances(found / unit, true / unit)
        absent = join_labels([t.absent for t in tracks.values()], frames.lengths, default=0) > 0
        positive = truth if self.profile == "pytracking" else truth[:, 2:]
        valid = (positive.T > 0).all(0) & ~absent
        overlap[~valid] = -1
        center_error[~valid] = -1 if self.dataset == "uav" else np.inf
        normalized_error[~valid] = -1
        if self.dataset == "lasot":
            normalized_error[absent] = np.inf
        return Measures(overlap, center_error, normalized_error, valid, frames.lengths)

    def _check_boxes(self, frames: Frames) -> None:
        """Raises UserError for boxes that pytracking refuses."""
        if self.dataset == "lasot" and frames.missing.any():
            raise UserError(
                f"{frames.location(int(frames.missing.argmax()))}: no box is predicted; on LaSOT, "
                f"{self.profile} needs one for every frame, the first one included"
            )
        wrong = np.isnan(frames.predicted.T).any(0) | (frames.predicted.T[2:] < 0).any(0)
        if wrong.any():
            i = int(wrong.argmax())
            raise UserError(
                f"{frames.location(i)}: the predicted box is {frames.predicted[i].tolist()}; "
                f"{self.profile} refuses NaN and negative sizes"
            )
        unknown = np.isnan(frames.truth.T).any(0)
        if self.dataset != "uav" and unknown.any():
            raise UserError(
                f"{frames.location(int(unknown.argmax()))}: the annotated box is NaN, which "
                f"{self.profile} accepts in UAV123 only (dataset=uav)"
            )


def _replace_empty_boxes(frames: Frames) -> None:
    """Replaces each predicted box without a size by the box before it, in place.

    Several such boxes in a row are all replaced by the box before the row. First boxes, missing boxes and boxes of
    frames whose annotation is NaN stay as they are.
    """
    empty = (frames.predicted.T[2:] == 0).any(0) & ~frames.missing & ~np.isnan(frames.truth.T).any(0)
    empty[frames.first] = False
    rows = np.flatnonzero(empty)
    if rows.size:
        before = np.maximum.accumulate(np.where(empty, 0, np.arange(len(empty))))
        frames.predicted[rows] = frames.predicted[before[rows]]
