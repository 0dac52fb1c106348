"""The interface of all protocols."""

import typing
from collections.abc import Mapping
from typing import Any

from evaluation.tracking.metrics.curves import Curve
from evaluation.tracking.metrics.sequence_scores import Scores
from evaluation.tracking.metrics.track import Track


class Protocol(typing.Protocol):
    """Rules that turn tracks into scores. A protocol is a subclass with a key, a label and `score`."""

    @property
    def key(self) -> str:
        """A short name, unique among the protocols of a benchmark."""
        ...

    @property
    def label(self) -> str:
        """The name of the protocol that is written beside every score."""
        ...

    def score(self, tracks: Mapping[str, Track]) -> Scores:
        """Computes the scores of all sequences together and of each one.

        Those of a sequence are without numbers that are no score, such as TrackingNet's coverage.

        Args:
            tracks: by sequence.

        Raises:
            UserError: there are no tracks, or the protocol refuses one of them.
        """
        ...

    def curves(self, tracks: Mapping[str, Track]) -> list[Curve]:
        """Computes the curves by overlap and by centre error: success, precision and, if scored, normalised precision.

        Raises:
            UserError: see `score`.
        """
        ...

    def report(self, tracks: Mapping[str, Track]) -> dict[str, Any]:
        """Computes the scores, all in [0, 1] (papers also write them in percent) and NaN where no frame counts.

        Returns:
            The scores by name; the label as "protocol"; the numbers of "sequences" and "frames" that count.

        Raises:
            UserError: see `score`.
        """
        return self.score(tracks).report


def scores_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of a protocol's report, without the label and the counts beside them."""
    return {name: value for name, value in report.items() if isinstance(value, float)}
