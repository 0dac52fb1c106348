"""What a protocol scores, and what every protocol can do."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Track:
    """What a tracker said about one sequence, beside what is true.

    Attributes:
        predicted: xywh in pixels, (m, 4), from the first frame on. Protocols differ in what they make of m != n.
        truth: xywh in pixels, (n, 4).
        size: (width, height) of the picture; only GOT-10k looks at it.
        cover: visible eighths of the object, (n,); None if all frames count.
        absent: frames in which the object is labelled as out of sight, (n,) bool: LaSOT's full_occlusion or
            out_of_view. None if nothing is labelled.

    Raises:
        ValueError: no boxes, boxes that are not four numbers, or labels that are not one a true box.
    """

    predicted: np.ndarray
    truth: np.ndarray
    size: tuple[int, int] | None = None
    cover: np.ndarray | None = None
    absent: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, boxes in (("predicted", self.predicted), ("truth", self.truth)):
            if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
                raise ValueError(f"{name} must be xywh boxes (n, 4), and at least one; its shape is {boxes.shape}")
        for name, given in (("cover", self.cover), ("absent", self.absent)):
            if given is not None and given.shape != (len(self.truth),):
                raise ValueError(f"{name} must be a label a true box, ({len(self.truth)},), not {given.shape}")


class Protocol(typing.Protocol):
    """How a benchmark turns tracks into numbers."""

    @property
    def key(self) -> str:
        """A short name, unique among the protocols of a benchmark."""
        ...

    @property
    def label(self) -> str:
        """Whose rules these are; a number is always written with it."""
        ...

    def report(self, tracks: Mapping[str, Track]) -> dict[str, Any]:
        """The scores, all in [0, 1] (the field also writes them in percent) and NaN where no frame counts.

        Args:
            tracks: by sequence.

        Returns:
            The scores by name; the label as "protocol"; how many "sequences" and "frames" count.

        Raises:
            ValueError: there are no tracks, or one that the protocol does not accept.
        """
        ...


def scores_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of a protocol's report, without the label and the counts beside them."""
    return {name: value for name, value in report.items() if isinstance(value, float)}


def average_runs(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each score over runs of one tracker on the same sequences.

    For GOT-10k this is its pooling of all frames of all runs.

    Raises:
        ValueError: the reports are not of one protocol and the same frames.
    """
    counted = ("protocol", "sequences", "frames")
    of = {tuple(report[key] for key in counted) for report in reports}
    if len(of) != 1:
        raise ValueError(f"runs must have one protocol and the same sequences and frames; these have {sorted(of)}")
    first = reports[0]
    return {key: first[key] if key in counted else float(np.mean([r[key] for r in reports])) for key in first}


@dataclass
class Frames:
    """The frames of all sequences, one after the other.

    Attributes:
        names: of the sequences.
        lengths: of the sequences, (s,).
        predicted, truth: xywh, (n, 4) float64; ours to change.
        missing: frames for which the tracker said nothing, (n,) bool.
    """

    names: list[str]
    lengths: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray
    missing: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """Where each sequence begins, (s,)."""
        return np.cumsum(self.lengths) - self.lengths

    def start_on_truth(self) -> None:
        """The first box is the one that the tracker was given."""
        self.predicted[self.first] = self.truth[self.first]

    def place(self, frame: int) -> str:
        """The sequence and the frame in it, for a message."""
        sequence = int(np.searchsorted(self.first, frame, side="right")) - 1
        return f"{self.names[sequence]}, frame {frame - self.first[sequence] + 1}"


def frames(tracks: Mapping[str, Track], fill: float | None) -> Frames:
    """Predictions beside the truth; surplus ones are cut.

    Args:
        tracks: by sequence.
        fill: stands for all four numbers of a missing prediction. None drops its frame.

    Raises:
        ValueError: there are no tracks.
    """
    if not tracks:
        raise ValueError("there are no tracks to score")
    given = np.array([min(len(t.truth), len(t.predicted)) for t in tracks.values()])
    lengths = given if fill is None else np.array([len(t.truth) for t in tracks.values()])
    predicted, truth, missing = [], [], []
    for t, n, m in zip(tracks.values(), lengths, given, strict=True):
        predicted.append(t.predicted[:m])
        if n > m:
            predicted.append(np.full((n - m, 4), fill))
        truth.append(t.truth[:n])
        missing.append(np.arange(n) >= m)
    # Columns are contiguous, as everything is computed by columns.
    boxes = [np.concatenate(of, out=np.empty((lengths.sum(), 4), order="F")) for of in (predicted, truth)]
    return Frames(list(tracks), lengths, *boxes, np.concatenate(missing))


def labels(given: Sequence[np.ndarray | None], lengths: np.ndarray, default: int) -> np.ndarray:
    """One label a frame of all sequences, (n,): `default` where a sequence has none."""
    return np.concatenate([np.full(n, default) if of is None else of for of, n in zip(given, lengths, strict=True)])
