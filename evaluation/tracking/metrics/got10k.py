"""The protocol of GOT-10k (Huang et al., TPAMI 2021), computed like in the got10k toolkit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evaluation.errors import UserError
from evaluation.tracking.metrics.counts import count_above, count_at_most, count_flags
from evaluation.tracking.metrics.curves import Curve, precision_curve, success_curve
from evaluation.tracking.metrics.frames import join_labels, join_tracks
from evaluation.tracking.metrics.geometry import centers, distances, overlaps
from evaluation.tracking.metrics.protocol import Protocol
from evaluation.tracking.metrics.sequence_scores import Scores, SequenceScores
from evaluation.tracking.metrics.track import Track

OVERLAP_THRESHOLDS, PIXEL_THRESHOLDS = np.linspace(0, 1, 101), np.arange(51.0)


@dataclass(frozen=True)
class GOT10k(Protocol):
    """Average overlap and success rates over all frames of all sequences together."""

    key = "got10k"
    label = "GOT-10k"

    def score(self, tracks: Mapping[str, Track]) -> Scores:
        """Computes AO, SR0.5 and SR0.75; see `Protocol.score`. A NaN box makes AO NaN and is a failure for SR.

        A sequence weighs as much as its frames that count.
        """
        values, counted = self.overlaps(tracks)
        per_frame = {"AO": values, "SR0.5": values > 0.5, "SR0.75": values > 0.75}
        rows = np.repeat(np.arange(len(counted)), counted)
        with np.errstate(invalid="ignore"):
            scores = {name: float(np.divide(of.sum(), len(values))) for name, of in per_frame.items()}
            means = {name: np.bincount(rows, of, len(counted)) / counted for name, of in per_frame.items()}
        shape = {"sequences": int(np.count_nonzero(counted)), "frames": len(values)}
        report = {"protocol": self.label, **scores, **shape}
        return Scores(report, SequenceScores(list(tracks), means, counted))

    def curves(self, tracks: Mapping[str, Track]) -> list[Curve]:
        """Computes the success curve of the toolkit, and precision, which the protocol lacks; see `Protocol.curves`."""
        predicted, truth, sizes, counted = self._frames(tracks)
        errors = distances(centers(predicted) - centers(truth))
        passed = count_above(overlaps(predicted, truth, sizes), OVERLAP_THRESHOLDS, counted)
        near = count_at_most(errors, PIXEL_THRESHOLDS, counted)
        with np.errstate(invalid="ignore"):
            success, precision = (frames / counted[:, None] for frames in (passed, near))
        found = precision_curve(PIXEL_THRESHOLDS, precision, counted)
        return [
            success_curve(OVERLAP_THRESHOLDS, success, counted),
            replace(found, name=f"{found.name} (no part of GOT-10k's protocol)"),
        ]

    def overlaps(self, tracks: Mapping[str, Track]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the overlaps (n,) of the frames that GOT-10k scores, and the number of these in each sequence, (s,).

        Raises:
            UserError: see `_frames`.
        """
        predicted, truth, sizes, counted = self._frames(tracks)
        return overlaps(predicted, truth, sizes), counted

    def _frames(self, tracks: Mapping[str, Track]) -> tuple[np.ndarray, ...]:
        """Returns the predicted and the annotated boxes and the picture sizes of the frames that GOT-10k scores.

        The last array is the number of these frames in each sequence, (s,).

        These are all frames whose object is at least partly visible, without the first frame of each sequence.

        Raises:
            UserError: a track does not have one predicted box for each frame, or lacks the size of the picture. Like
                the toolkit, the protocol neither cuts nor pads predictions.
        """
        for name, t in tracks.items():
            if len(t.predicted) != len(t.truth):
                raise UserError(
                    f"{name} has {len(t.predicted)} predicted boxes for {len(t.truth)} annotated ones; "
                    "a result needs a box for every frame, the first one included"
                )
            if t.size is None:
                raise UserError(
                    f"{name} needs the size of its pictures, which GOT-10k clips boxes to: Track(size=(width, height))"
                )
        frames = join_tracks(tracks, fill=None)
        counts = join_labels([t.cover for t in tracks.values()], frames.lengths, default=1) > 0
        counts[frames.first] = False
        sizes = np.repeat(np.array([t.size for t in tracks.values()]), frames.lengths, axis=0)
        kept = (values[counts] for values in (frames.predicted, frames.truth, sizes))
        return *kept, count_flags(counts, frames.lengths)
