"""A benchmark: sequences, and the protocols that turn result files into numbers."""

from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from evaluation.tracking.metrics import Protocol, scores_of, speed
from evaluation.tracking.result_files import as_track, read_boxes, read_seconds

SPEED = (
    "mean over sequences of the mean of 1 / seconds a frame, as the got10k toolkit has it; decoding not counted, "
    "workers and lockstep as they were when it ran"
)


@dataclass(frozen=True)
class Benchmark:
    """What trackers are scored on.

    Attributes:
        name: of the benchmark, also of the folder with its result files.
        sequences: are tracked from their first box on.
        protocols: the first is the one that is looked at first; none if only a server can score it.
        pack: writes an archive for that server: of a folder of result files, the sequences, and to which file; None for
            no server.
    """

    name: str
    sequences: SequenceTable
    protocols: Several[Protocol]
    pack: Callable[[Path, SequenceTable, Path], None] | None = None

    def tracked(self) -> dict[str, str]:
        """What result files of one tracker depend on."""
        return {"benchmark": self.name, "sequences": self.sequences.digest()}

    def scores(self, folder: Path) -> dict[str, Any]:
        """What the tracker reaches whose result files lie in `folder`.

        Returns:
            "metrics": a report by "<name>/<protocol>", or by the name alone if there is one protocol; empty if there is
            none. "still_box": the same for a box that never moves, the floor under every tracker. "speed": frames a
            second, by name.
        """
        rates = [speed(read_seconds(folder, s)) for s in self.sequences]
        return {
            "metrics": self._reports(lambda s: read_boxes(folder, s)),
            "still_box": self._reports(_still),
            "speed": {self.name: {"fps": float(np.nanmean(rates)), "protocol": SPEED}},
        }

    def check_scorable(self) -> None:
        """Finds out before anything is tracked what could not be scored.

        Raises:
            ValueError: there is nothing to score with, or a protocol does not accept the annotation.
        """
        bare = next((s.name for s in self.sequences if not s.annotated), None)
        if self.protocols and bare is None:
            self._reports(_still)
            return
        why = f"of {bare} only the first frame is annotated" if bare else "no protocol of it is computed here"
        remedy = "annotate every frame" if self.pack is None else "pack results for its server: action=submit"
        raise ValueError(f"benchmark={self.name} cannot be scored: {why}; {remedy}")

    def metrics(self) -> list[str]:
        """Names of the numbers of the protocol that is looked at first."""
        return list(scores_of(next(iter(self._reports(_still).values()))))

    def check_packable(self) -> None:
        """Raises ValueError if there is no server for it."""
        if self.pack is None:
            raise ValueError(
                f"benchmark={self.name} has no server that takes results; action=submit is for benchmark=got10k_test "
                "and benchmark=trackingnet_test"
            )

    def _reports(self, boxes: Callable[[Sequence], np.ndarray]) -> dict[str, Any]:
        tracks = {s.name: as_track(s, boxes(s)) for s in self.sequences}
        one = len(self.protocols) == 1
        return {self.name if one else f"{self.name}/{p.key}": p.report(tracks) for p in self.protocols}


def _still(sequence: Sequence) -> np.ndarray:
    return np.repeat(sequence.boxes[:1], len(sequence), 0)
