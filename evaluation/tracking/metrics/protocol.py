"""The interface of all protocols."""

import typing
from collections.abc import Mapping
from typing import Any

from evaluation.tracking.metrics.track import Track


class Protocol(typing.Protocol):
    """Rules that turn tracks into scores."""

    @property
    def key(self) -> str:
        """A short name, unique among the protocols of a benchmark."""
        ...

    @property
    def label(self) -> str:
        """The name of the protocol that is written beside every score."""
        ...

    def report(self, tracks: Mapping[str, Track]) -> dict[str, Any]:
        """Computes the scores, all in [0, 1] (papers also write them in percent) and NaN where no frame counts.

        Args:
            tracks: by sequence.

        Returns:
            The scores by name; the label as "protocol"; the numbers of "sequences" and "frames" that count.

        Raises:
            UserError: there are no tracks, or the protocol refuses one of them.
        """
        ...


def scores_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of a protocol's report, without the label and the counts beside them."""
    return {name: value for name, value in report.items() if isinstance(value, float)}
