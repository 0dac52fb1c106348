"""Runs a tracker over a benchmark's sequences and leaves one file of boxes, and one of times, a sequence."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track as progress_bar

from datamodules.sequences import Sequence
from evaluation.files import replacing
from evaluation.metrics import Track, got10k_report
from trackers.online import OnlineTracker


def run_benchmark(tracker: OnlineTracker, sequences: list[Sequence], folder: Path) -> dict[str, Any]:
    """Tracks every sequence once (one pass, started on the first box) and scores it by the GOT-10k protocol.

    Args:
        tracker: what to score.
        sequences: the benchmark.
        folder: gets `<sequence>.txt`, xywh with 3 decimals, and `<sequence>_time.txt`, seconds a frame (no decoding).

    Returns:
        The report of `metrics.got10k_report`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tracks = []
    for sequence in progress_bar(sequences, description="evaluating"):
        boxes, times, size = _run_sequence(tracker, sequence)
        _save(folder / f"{sequence.name}.txt", boxes, "%.3f")
        _save(folder / f"{sequence.name}_time.txt", times[:, None], "%.6f")
        tracks.append(Track(boxes, sequence.boxes, sequence.cover, size))
    return got10k_report(tracks)


def still_box(sequences: list[Sequence]) -> dict[str, Any]:
    """The score of a box that never moves: the floor under every tracker."""
    tracks = []
    for sequence in sequences:
        height, width = sequence.image(0).shape[:2]
        predicted = np.repeat(sequence.boxes[:1], len(sequence), 0)
        tracks.append(Track(predicted, sequence.boxes, sequence.cover, (width, height)))
    return got10k_report(tracks)


def _run_sequence(tracker: OnlineTracker, sequence: Sequence) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    boxes, times = np.empty((len(sequence), 4)), np.empty(len(sequence))
    for i in range(len(sequence)):
        image = sequence.image(i)
        start = time.perf_counter()
        if i == 0:
            tracker.init(image, tuple(sequence.boxes[0]))
            boxes[0] = sequence.boxes[0]
        else:
            boxes[i], _ = tracker.update(image)
        times[i] = time.perf_counter() - start
    return boxes, times, (image.shape[1], image.shape[0])


def _save(path: Path, rows: np.ndarray, fmt: str) -> None:
    with replacing(path) as unfinished:
        np.savetxt(unfinished, rows, fmt=fmt, delimiter=",")
