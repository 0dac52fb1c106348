"""A benchmark: sequences, and the protocols that turn result files into scores."""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from datamodules.errors import DataError, DataSettingError
from evaluation.errors import UserError
from evaluation.tracking.metrics import Protocol, Track, scores_of, speed
from evaluation.tracking.metrics.bootstrap import INTERVAL_PROTOCOL, score_intervals
from evaluation.tracking.metrics.curves import Curve
from evaluation.tracking.metrics.lost import lost_at
from evaluation.tracking.metrics.presence import presence_report
from evaluation.tracking.metrics.sequence_scores import Scores
from evaluation.tracking.result_files import as_track, check_names, read_boxes, read_presence, read_seconds
from evaluation.tracking.sequence_results import SequenceResults

if TYPE_CHECKING:
    from datamodules.sequences.sequence import Sequence
    from datamodules.sequences.table import SequenceTable

log = logging.getLogger(__name__)

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
            "intervals": of the scores in these reports, and "interval_protocol". "still_box": the same reports for a
            box that never moves; a tracker should not score less. "speed": frames per second, by name. "presence": the
            report of `presence_report`, by name; {} if the object is never absent, or the tracker does not report its
            presence. "sequences": `SequenceResults`, the only value that is no plain data.
        """
        rates = [speed(read_seconds(folder, s)) for s in self.sequences]
        tracks = {s.name: as_track(s, read_boxes(folder, s)) for s in self.sequences}
        scores = self._scores(tracks)
        sequences = SequenceResults(
            frames=[len(s) for s in self.sequences],
            fps=rates,
            lost_at=[lost_at(tracks[s.name].predicted, s.boxes, s.visible) for s in self.sequences],
            scores={name: found.sequences for name, found in scores.items()},
        )
        return {
            "metrics": {name: found.report for name, found in scores.items()},
            "intervals": {name: score_intervals(found.sequences) for name, found in scores.items()},
            "interval_protocol": INTERVAL_PROTOCOL,
            "still_box": self._still_box_reports(),
            "speed": {self.name: {"fps": float(np.nanmean(rates)), "protocol": SPEED}},
            "presence": self._presence_reports(folder),
            "sequences": sequences,
        }

    def curves(self, folder: Path) -> list[Curve]:
        """Returns the curves of the tracker whose result files are in `folder`, by the main protocol."""
        return self.protocols[0].curves({s.name: as_track(s, read_boxes(folder, s)) for s in self.sequences})

    def check_scorable(self) -> None:
        """Checks before anything is tracked that the results can be scored. Warns if sequences are missing.

        Raises:
            UserError: the benchmark has no protocol, or a protocol refuses the annotation or counts no frame of it.
        """
        unannotated = next((s.name for s in self.sequences if not s.annotated), None)
        if self.protocols and unannotated is None:
            self._check_frames()
            if part := self.sequences.coverage:
                log.warning("benchmark=%s scores %s; scores of a part are not those of the whole", self.name, part)
            return
        why = f"only the first frame of {unannotated} is annotated" if unannotated else "its protocols list is empty"
        remedy = (
            "annotate every frame, by a line x,y,w,h each, or look at the boxes: action=show"
            if self.pack is None
            else "pack results for its server: action=submit"
        )
        raise UserError(f"benchmark={self.name} cannot be scored: {why}; {remedy}")

    def with_coverage(self, name: str) -> str:
        """Returns a name with the number of sequences if these are only a part of the benchmark."""
        return ", ".join(filter(None, (name, self.sequences.coverage)))

    def metric_names(self) -> list[str]:
        """Returns the names of the main protocol's scores."""
        return list(scores_of(next(iter(self._still_box_reports().values()))))

    def check_packable(self) -> None:
        """Raises UserError if no server takes results of this benchmark."""
        if self.pack is None:
            raise UserError(
                f"benchmark={self.name} has no server that takes results; action=submit is for benchmark=got10k_test "
                "and benchmark=trackingnet_test"
            )
        if part := self.sequences.coverage:
            raise UserError(f"benchmark={self.name}: its server takes results of all sequences, and {part} are there")

    def _check_frames(self) -> None:
        """Raises UserError if no frame of any sequence counts."""
        empty = next((report for report in self._still_box_reports().values() if not report["frames"]), None)
        if empty is not None:
            raise UserError(
                f"benchmark={self.name} cannot be scored: the {empty['protocol']} protocol counts no frame of its "
                f"{len(self.sequences)} videos; the object must be visible after the first frame of one of them"
            )

    def _presence_reports(self, folder: Path) -> dict[str, Any]:
        found = [read_presence(folder, s) for s in self.sequences]
        reported = [track for track in found if track is not None]
        report = presence_report(reported) if len(reported) == len(found) else None
        return {} if report is None else {self.name: report}

    def _still_box_reports(self) -> dict[str, Any]:
        tracks = {s.name: as_track(s, _still_boxes(s)) for s in self.sequences}
        return {name: scores.report for name, scores in self._scores(tracks).items()}

    def _scores(self, tracks: dict[str, Track]) -> dict[str, Scores]:
        """Scores the tracks by each protocol, by the name of its report."""
        one = len(self.protocols) == 1
        found = {self.name if one else f"{self.name}/{p.key}": p.score(tracks) for p in self.protocols}
        for scores in found.values():
            scores.report["protocol"] = self.with_coverage(scores.report["protocol"])
        return found


def build_benchmark(settings: DictConfig) -> Benchmark:
    """Builds the benchmark that the configuration key `benchmark` describes.

    Raises:
        DataError: its data are missing, incomplete or damaged.
        hydra.errors.InstantiationException: the settings do not fit, or the code of a class fails.
    """
    try:
        return instantiate(settings, _convert_="all")
    except InstantiationException as error:
        reason = error.__cause__
        if not isinstance(reason, DataSettingError):
            raise
        if reason.setting.partition("=")[0] not in settings.sequences:  # a server takes no results of a part
            raise DataError(f"{reason.problem}. Finish the copy") from error
        raise reason.at("benchmark.sequences") from error


def _still_boxes(sequence: "Sequence") -> np.ndarray:
    """Returns the first box, repeated for every frame, (n, 4)."""
    return np.repeat(sequence.boxes[:1], len(sequence), 0)
