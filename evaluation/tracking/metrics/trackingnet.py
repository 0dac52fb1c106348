"""The protocol of TrackingNet (Mueller et al., ECCV 2018), computed like in its development kit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.tracking.metrics.counts import Counts, count_above, count_at_most
from evaluation.tracking.metrics.curves import (
    Curve,
    normalized_precision_curve,
    precision_curve,
    success_curve,
)
from evaluation.tracking.metrics.frames import Frames, join_tracks
from evaluation.tracking.metrics.geometry import centers, distances, intersection_and_union
from evaluation.tracking.metrics.protocol import Protocol
from evaluation.tracking.metrics.sequence_scores import Scores, SequenceScores
from evaluation.tracking.metrics.track import Track

# The areas under all three curves are taken over 0 to 1, which is the range of the overlap thresholds.
OVERLAP_THRESHOLDS, PIXEL_THRESHOLDS, RELATIVE_THRESHOLDS = (np.linspace(0, last, 21) for last in (1, 50, 0.5))


@dataclass(frozen=True)
class TrackingNet(Protocol):
    """Areas under three curves, averaged over sequences. Boxes are rounded to whole pixels before.

    P is the area from 0 to 50 pixels, and P_norm the area from 0 to 0.5 of the object's size. Other protocols take the
    values at 20 pixels and at 0.2. A perfect tracker scores 1. Frames without a prediction are failures.
    """

    key = "trackingnet"
    label = "TrackingNet development kit"

    def score(self, tracks: Mapping[str, Track]) -> Scores:
        """Computes AUC, P, P_norm and coverage, the share of frames with a box; see `Protocol.score`.

        All sequences weigh the same. The kit scores a missing result file like boxes (0, 0, 0, 0).
        """
        frames = self.rounded_frames(tracks)
        curves = dict(zip(("AUC", "P", "P_norm"), self.count(frames).sequence_curves(), strict=True))
        report = {
            "protocol": self.label,
            **{name: float(np.trapezoid(curve.mean(0), OVERLAP_THRESHOLDS)) for name, curve in curves.items()},
            "coverage": float((frames.predicted.sum(1) > 0).mean()),
            "sequences": len(tracks),
            "frames": len(frames.truth),
        }
        values = {name: np.trapezoid(curve, OVERLAP_THRESHOLDS) for name, curve in curves.items()}
        return Scores(report, SequenceScores(list(tracks), values, np.ones(len(tracks))))

    def curves(self, tracks: Mapping[str, Track]) -> list[Curve]:
        """Computes the curves whose areas are the scores; see `Protocol.curves`."""
        success, precision, normalized = self.count(self.rounded_frames(tracks)).sequence_curves()
        weights = np.ones(len(tracks))
        return [
            success_curve(OVERLAP_THRESHOLDS, success, weights),
            precision_curve(PIXEL_THRESHOLDS, precision, weights),
            normalized_precision_curve(RELATIVE_THRESHOLDS, normalized, weights),
        ]

    def rounded_frames(self, tracks: Mapping[str, Track]) -> Frames:
        """Returns all boxes, rounded to whole pixels; missing predictions are NaN."""
        frames = join_tracks(tracks, fill=np.nan)
        np.rint(frames.predicted, out=frames.predicted)
        np.rint(frames.truth, out=frames.truth)
        frames.set_first_to_truth()
        return frames

    def count(self, frames: Frames) -> Counts:
        """Counts the frames that pass each threshold."""
        with np.errstate(invalid="ignore", divide="ignore"):
            intersection, union = intersection_and_union(frames.predicted, frames.truth)
            difference = centers(frames.predicted) - centers(frames.truth)
            return Counts(
                count_above(intersection / union, OVERLAP_THRESHOLDS, frames.lengths, or_equal=True),
                count_at_most(distances(difference), PIXEL_THRESHOLDS, frames.lengths),
                count_at_most(distances(difference / frames.truth[:, 2:]), RELATIVE_THRESHOLDS, frames.lengths),
                frames.lengths,
            )
