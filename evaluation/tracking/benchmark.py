"""A benchmark: sequences, and the protocols that turn result files into scores."""

from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.errors import UserError
from evaluation.tracking.metrics import Protocol, scores_of, speed
from evaluation.tracking.result_files import as_track, check_names, read_boxes, read_seconds

if TYPE_CHECKING:
    from datamodules.sequences.sequence import Sequence
    from datamodules.sequences.table import SequenceTable

SPEED = (
    "mean over sequences of the mean of 1 / seconds per frame, like in the got10k toolkit; without decoding; with the "
    "workers and the lockstep of the run"
)


@dataclass(frozen=True)
class Benchmark:
    """Sequences to track, and protocols to score the tracks with.

    Attributes:
        name: of the benchmark and of the folder with its result files.
        sequences: the videos; a tracker starts on the first box of each.
        protocols: the first one is the main one. Empty if only a server can score the benchmark.
        pack: writes an archive for that server. Its arguments are the folder of result files, the sequences and the
            archive. None if there is no server.

    Raises:
        DataError: two sequences would write the same result file.
    """

    name: str
    sequences: "SequenceTable"
    protocols: Several[Protocol]
    pack: "Callable[[Path, SequenceTable, Path], None] | None" = None

    def __post_init__(self) -> None:
        check_names(self.sequences.names)

    def tracking_inputs(self) -> dict[str, Any]:
        """Returns all properties of the benchmark that result files depend on, as plain data for a cache key."""
        return {"benchmark": self.name, "sequences": self.sequences.tracker_inputs()}

    def scores(self, folder: Path) -> dict[str, Any]:
        """Scores the tracker whose result files are in `folder`.

        Returns:
            "metrics": the report of each protocol by "<name>/<protocol>", or by "<name>" if there is one protocol.
            "still_box": the same reports for a box that never moves; a tracker should not score less. "speed": frames
            per second, by name.
        """
        rates = [speed(read_seconds(folder, s)) for s in self.sequences]
        return {
            "metrics": self._reports(lambda s: read_boxes(folder, s)),
            "still_box": self._reports(_still_boxes),
            "speed": {self.name: {"fps": float(np.nanmean(rates)), "protocol": SPEED}},
        }

    def check_scorable(self) -> None:
        """Checks before anything is tracked that the results can be scored.

        Raises:
            UserError: the benchmark has no protocol, or a protocol refuses the annotation.
        """
        unannotated = next((s.name for s in self.sequences if not s.annotated), None)
        if self.protocols and unannotated is None:
            self._reports(_still_boxes)
            return
        why = f"only the first frame of {unannotated} is annotated" if unannotated else "its protocols list is empty"
        remedy = "annotate every frame" if self.pack is None else "pack results for its server: action=submit"
        raise UserError(f"benchmark={self.name} cannot be scored: {why}; {remedy}")

    def metric_names(self) -> list[str]:
        """Returns the names of the main protocol's scores."""
        return list(scores_of(next(iter(self._reports(_still_boxes).values()))))

    def check_packable(self) -> None:
        """Raises UserError if no server takes results of this benchmark."""
        if self.pack is None:
            raise UserError(
                f"benchmark={self.name} has no server that takes results; action=submit is for benchmark=got10k_test "
                "and benchmark=trackingnet_test"
            )

    def _reports(self, boxes: "Callable[[Sequence], np.ndarray]") -> dict[str, Any]:
        tracks = {s.name: as_track(s, boxes(s)) for s in self.sequences}
        one = len(self.protocols) == 1
        return {self.name if one else f"{self.name}/{p.key}": p.report(tracks) for p in self.protocols}


def _still_boxes(sequence: "Sequence") -> np.ndarray:
    """Returns the first box, repeated for every frame, (n, 4)."""
    return np.repeat(sequence.boxes[:1], len(sequence), 0)
