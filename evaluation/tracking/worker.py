"""Tracks a few sequences together in one process of a runner, and saves their result files."""

import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluation.errors import USER_ERRORS, UserError
from evaluation.tracking.result_files import save_track
from trackers.presence import STATES

if TYPE_CHECKING:
    from datamodules.sequences.sequence import Sequence
    from trackers.online import Lockstep


class Failure(NamedTuple):
    """Reason why a sequence failed, and where in the code: its traceback, "" if the user can correct it."""

    reason: str
    frames: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Returns the failure that an error means."""
        frames = "" if isinstance(error, USER_ERRORS) else "".join(traceback.format_tb(error.__traceback__))
        return cls(f"{type(error).__name__}: {error}", frames)


Failures = dict[str, Failure]  # by name of the sequence


def track(loop: "Lockstep", sequences: "list[Sequence]", folder: Path, ahead: int) -> Failures:
    """Tracks sequences in lockstep (one pass, started on the first box) and saves each one at its end.

    Args:
        loop: the online loop with the tracker.
        sequences: to track. A failure of one does not stop the others.
        folder: of the result files. Times are those of the tracker, without decoding. The time of a step is divided
            equally between its sequences.
        ahead: number of frames of each sequence that are decoded while the tracker works.

    Returns:
        The failures by sequence.
    """
    failures: Failures = {}
    running: list[_RunningSequence] = []
    with ExitStack() as files:
        for sequence in sequences:
            frames = files.enter_context(closing(frames_ahead(sequence, ahead)))
            with _recording_failure(failures, sequence):
                running.append(_RunningSequence(loop, sequence, frames))
        while running := _save_ended(running, folder):
            pictures = {}
            for run in running:
                with _recording_failure(failures, run.sequence):
                    pictures[run] = next(run.frames)
            running = list(pictures)
            try:
                _advance(loop, pictures)
            except Exception as error:
                if len(running) == 1:
                    return failures | {running[0].sequence.name: Failure.of(error)}
                break
    for run in running:  # if they are tracked one by one, only the cause of the error fails again
        failures |= track(loop, [run.sequence], folder, ahead)
    return failures


def frames_ahead(sequence: "Sequence", count: int) -> Generator[np.ndarray]:
    """Yields the frames in order. A thread decodes up to `count` of them ahead.

    When the iterator ends or is closed, it first waits for the thread, and then closes the files that the thread read.

    Raises:
        UnreadableFrameError: the next frame cannot be read.
    """
    images, thread, waiting = sequence.images(), ThreadPoolExecutor(1), deque()
    try:
        for i in range(len(sequence) + count):
            if i < len(sequence):
                waiting.append(thread.submit(next, images))
            if i >= count:
                yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
        images.close()


class _RunningSequence:
    """A sequence that is being tracked, with its results so far."""

    def __init__(self, loop: "Lockstep", sequence: "Sequence", frames: Generator[np.ndarray]):
        self.sequence, self.frames = sequence, frames
        self.boxes, self.seconds, self.done = np.empty((len(sequence), 4)), np.empty(len(sequence)), 0
        self.presence = np.empty((len(sequence), 2))
        first, start = next(self.frames), time.perf_counter()
        self.target = loop.begin(first, tuple(sequence.boxes[0]))
        self.record(sequence.boxes[0], time.perf_counter() - start)

    def record(self, box: tuple[float, ...] | np.ndarray, seconds: float) -> None:
        """Stores the box, the time, and the target's presence and state of the next frame."""
        self.boxes[self.done], self.seconds[self.done] = box, seconds
        self.presence[self.done] = self.target.presence, STATES.index(self.target.state)
        self.done += 1


def _advance(loop: "Lockstep", pictures: dict[_RunningSequence, np.ndarray]) -> None:
    start = time.perf_counter()
    found = loop.advance([run.target for run in pictures], list(pictures.values()))
    seconds = (time.perf_counter() - start) / max(len(pictures), 1)
    for run, (box, _) in zip(pictures, found, strict=True):
        if not np.isfinite(box).all():
            raise UserError(f"the tracker returned the box {box} in frame {run.done + 1}")
        run.record(box, seconds)


def _save_ended(runs: list[_RunningSequence], folder: Path) -> list[_RunningSequence]:
    """Saves finished sequences and returns the unfinished ones."""
    ended = [run for run in runs if run.done == len(run.sequence)]
    for run in ended:
        run.frames.close()
        save_track(folder, run.sequence, run.boxes, run.seconds, run.presence)
    return [run for run in runs if run not in ended]


@contextmanager
def _recording_failure(failures: Failures, sequence: "Sequence") -> Iterator[None]:
    """Turns an error in the block into a failure of the sequence."""
    try:
        yield
    except Exception as error:
        failures[sequence.name] = Failure.of(error)
