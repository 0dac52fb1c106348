"""The protocol of TrackingNet (Mueller et al., ECCV 2018), as its development kit computes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.tracking.metrics.counts import Counts, above, within
from evaluation.tracking.metrics.measures import centers, distances, intersection_and_union
from evaluation.tracking.metrics.protocol import Frames, Track, frames

# All three curves are drawn over 0 .. 1, which the overlaps are.
OVERLAPS, PIXELS, RELATIVE = (np.linspace(0, last, 21) for last in (1, 50, 0.5))


@dataclass(frozen=True)
class TrackingNet:
    """Areas under three curves, averaged over sequences, of boxes rounded to whole pixels.

    So P is the area from 0 to 50 pixels and P_norm that from 0 to 0.5 of the object's size, where other protocols take
    the values at 20 pixels and at 0.2; and a perfect tracker has 1. Frames without a prediction are failures.
    """

    key = "trackingnet"
    label = "TrackingNet development kit"

    def report(self, tracks: Mapping[str, Track]) -> dict[str, Any]:
        """AUC, P, P_norm and coverage, the share of frames with a box; see `Protocol.report`.

        The kit takes a whole result that is missing for boxes (0, 0, 0, 0).
        """
        of = self.frames(tracks)
        curves = zip(("AUC", "P", "P_norm"), self.count(of).curves(), strict=True)
        return {
            "protocol": self.label,
            **{name: float(np.trapezoid(curve, OVERLAPS)) for name, curve in curves},
            "coverage": float((of.predicted.sum(1) > 0).mean()),
            "sequences": len(tracks),
            "frames": len(of.truth),
        }

    def frames(self, tracks: Mapping[str, Track]) -> Frames:
        """All boxes, rounded; NaN where nothing is predicted."""
        of = frames(tracks, fill=np.nan)
        np.rint(of.predicted, out=of.predicted)
        np.rint(of.truth, out=of.truth)
        of.start_on_truth()
        return of

    def count(self, of: Frames) -> Counts:
        """Frames that pass each threshold."""
        with np.errstate(invalid="ignore", divide="ignore"):
            intersection, union = intersection_and_union(of.predicted, of.truth)
            difference = centers(of.predicted) - centers(of.truth)
            return Counts(
                above(intersection / union, OVERLAPS, of.lengths, or_equal=True),
                within(distances(difference), PIXELS, of.lengths),
                within(distances(difference / of.truth[:, 2:]), RELATIVE, of.lengths),
                of.lengths,
            )
