"""The protocol of GOT-10k (Huang et al., TPAMI 2021), as the got10k toolkit computes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.tracking.metrics.measures import overlaps
from evaluation.tracking.metrics.protocol import Track, frames, labels


@dataclass(frozen=True)
class GOT10k:
    """Average overlap and success rates, pooled over all frames of all sequences."""

    key = "got10k"
    label = "GOT-10k"

    def report(self, tracks: Mapping[str, Track]) -> dict[str, Any]:
        """AO, SR0.5 and SR0.75; see `Protocol.report`. A NaN box makes AO NaN, and is a failure to SR."""
        values = self.overlaps(tracks)
        counted = {"AO": values, "SR0.5": values > 0.5, "SR0.75": values > 0.75}
        with np.errstate(invalid="ignore"):
            scores = {name: float(np.divide(of.sum(), len(values))) for name, of in counted.items()}
        return {"protocol": self.label, **scores, "sequences": len(tracks), "frames": len(values)}

    def overlaps(self, tracks: Mapping[str, Track]) -> np.ndarray:
        """Of the frames that count, (n,): all but the first of each sequence in which the object is not fully covered.

        Raises:
            ValueError: not one predicted box a frame (like the toolkit, the protocol neither cuts nor pads), or no size
                of the picture.
        """
        for name, t in tracks.items():
            if len(t.predicted) != len(t.truth):
                raise ValueError(
                    f"{name} has {len(t.predicted)} predicted boxes for {len(t.truth)} annotated ones; "
                    "a result needs a box for every frame, the first one included"
                )
            if t.size is None:
                raise ValueError(
                    f"{name} needs the size of its pictures, which GOT-10k clips boxes to: Track(size=...)"
                )
        of = frames(tracks, fill=None)
        counts = labels([t.cover for t in tracks.values()], of.lengths, default=1) > 0
        counts[of.first] = False
        sizes = np.repeat([t.size for t in tracks.values()], of.lengths, axis=0)
        return overlaps(of.predicted[counts], of.truth[counts], sizes[counts])
