"""What one process of a runner does: follows a few sequences at once, and leaves their result files."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datamodules.sequences.sequence import Sequence
from evaluation.tracking.result_files import save_track
from trackers.online import Lockstep

Failures = dict[str, str]  # reasons, by sequence


def track(loop: Lockstep, sequences: list[Sequence], folder: Path, ahead: int) -> Failures:
    """Tracks sequences in lockstep (one pass, started on the first box) and saves each as it ends.

    Args:
        loop: with the tracker.
        sequences: when one fails, the others go on.
        folder: gets the result files. Their seconds are the tracker's alone, without decoding; of a step of several
            sequences each has its share.
        ahead: frames of each that are decoded while the tracker works.

    Returns:
        Why sequences failed.
    """
    failures: Failures = {}
    running: list[_Run] = []
    for sequence in sequences:
        with _noting(failures, sequence):
            running.append(_Run(loop, sequence, ahead))
    while running := _save_ended(running, folder):
        pictures = {}
        for run in running:
            with _noting(failures, run.sequence):
                pictures[run] = next(run.frames)
        running = list(pictures)
        try:
            _advance(loop, pictures)
        except Exception as error:
            if len(running) == 1:
                return failures | {running[0].sequence.name: _reason(error)}
            for run in running:  # whose fault it was, shows when each goes alone
                failures |= track(loop, [run.sequence], folder, ahead)
            return failures
    return failures


def frames_ahead(sequence: Sequence, count: int) -> Iterator[np.ndarray]:
    """The frames in order, up to `count` of them decoded ahead by a thread.

    Raises:
        UnreadableFrameError: when the frame that cannot be read is asked for.
    """
    thread, waiting = ThreadPoolExecutor(1), deque()
    try:
        for i in range(len(sequence) + count):
            if i < len(sequence):
                waiting.append(thread.submit(sequence.image, i))
            if i >= count:
                yield waiting.popleft().result()
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class _Run:
    """A sequence on its way."""

    def __init__(self, loop: Lockstep, sequence: Sequence, ahead: int):
        self.sequence, self.frames = sequence, frames_ahead(sequence, ahead)
        self.boxes, self.seconds, self.done = np.empty((len(sequence), 4)), np.empty(len(sequence)), 0
        first, start = next(self.frames), time.perf_counter()
        self.target = loop.begin(first, tuple(sequence.boxes[0]))
        self.note(sequence.boxes[0], time.perf_counter() - start)

    def note(self, box: tuple[float, ...] | np.ndarray, seconds: float) -> None:
        self.boxes[self.done], self.seconds[self.done] = box, seconds
        self.done += 1


def _advance(loop: Lockstep, pictures: dict[_Run, np.ndarray]) -> None:
    start = time.perf_counter()
    found = loop.advance([run.target for run in pictures], list(pictures.values()))
    seconds = (time.perf_counter() - start) / max(len(pictures), 1)
    for run, (box, _) in zip(pictures, found, strict=True):
        if not np.isfinite(box).all():
            raise ValueError(f"the tracker says {box} in frame {run.done + 1}")
        run.note(box, seconds)


def _save_ended(runs: list[_Run], folder: Path) -> list[_Run]:
    """Those that go on."""
    ended = [run for run in runs if run.done == len(run.sequence)]
    for run in ended:
        save_track(folder, run.sequence, run.boxes, run.seconds)
    return [run for run in runs if run not in ended]


@contextmanager
def _noting(failures: Failures, sequence: Sequence) -> Iterator[None]:
    """An error fails the sequence, and nothing else."""
    try:
        yield
    except Exception as error:
        failures[sequence.name] = _reason(error)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
