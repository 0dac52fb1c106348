"""Runs a tracker over a benchmark: in one process or several, and from where an earlier run was interrupted."""

import logging
import os
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import torch
from rich.console import Console
from rich.progress import Progress

from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from evaluation.tracking.result_files import is_tracked
from evaluation.tracking.worker import Failures, track
from trackers.checkpoints.checkpoint import Checkpoint
from trackers.online import Lockstep

log = logging.getLogger(__name__)


class SequencesFailedError(RuntimeError):
    """Some sequences could not be tracked; the others were."""


@dataclass(frozen=True)
class Runner:
    """How a benchmark is run. Nothing here changes boxes by more than rounding.

    Attributes:
        devices: of torch; workers take them in turn.
        workers: processes. With one, everything happens in this process. On CPUs they share its threads.
        lockstep: sequences that a process advances together. Trackers that can (`Tracker.lockstep`) look for all of
            them in one forward, which pays for small networks and on GPUs.
        ahead: frames of each sequence that are decoded while the tracker works.

    Raises:
        ValueError: a number is too small, or there is no device.
    """

    devices: Several[str]
    workers: int
    lockstep: int
    ahead: int

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("lockstep", 1), ("ahead", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"runner.{name}={getattr(self, name)} is too small; set runner.{name}={least} or more")
        if not self.devices:
            raise ValueError("runner.devices is empty; set e.g. runner.devices=[cuda:0,cuda:1]")

    def run(self, load: Callable[[], Checkpoint], sequences: SequenceTable, folder: Path) -> None:
        """Leaves the result files of all sequences in `folder`; those that are there are not tracked again.

        Args:
            load: gives the tracker; each process calls it once, and with several workers it must be picklable.
            sequences: of the benchmark.
            folder: of the result files, see `evaluation.tracking.result_files`.

        Raises:
            SequencesFailedError: some failed, after all others are done.
        """
        missing = [s for s in sequences if not is_tracked(folder, s)]
        if len(missing) < len(sequences):
            log.info("%d of %d sequences are tracked already", len(sequences) - len(missing), len(sequences))
        # Long ones first, so that no worker begins one when the others are done; and together with their like.
        missing.sort(key=len, reverse=True)
        jobs = [missing[i : i + self.lockstep] for i in range(0, len(missing), self.lockstep)]
        failures: Failures = {}
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("tracking", total=sum(map(len, missing)))
            for job, failed in (self._here if self.workers == 1 else self._spread)(load, jobs, folder):
                failures |= failed
                progress.advance(task, sum(map(len, job)))
        if failures:
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in sorted(failures.items()))
            raise SequencesFailedError(
                f"{len(failures)} of {len(sequences)} sequences failed. The others are done and kept in {folder}; run "
                f"the same command again to try only these once more:{reasons}"
            )

    def _here(
        self, load: Callable[[], Checkpoint], jobs: list[list[Sequence]], folder: Path
    ) -> Iterator[tuple[list[Sequence], Failures]]:
        loop = Lockstep(load().tracker, self.devices[0]) if jobs else None
        for job in jobs:
            yield job, track(loop, job, folder, self.ahead)

    def _spread(
        self, load: Callable[[], Checkpoint], jobs: list[list[Sequence]], folder: Path
    ) -> Iterator[tuple[list[Sequence], Failures]]:
        workers = min(self.workers, len(jobs))
        if not workers:
            return
        context = get_context("spawn")  # a fork of a process that has used CUDA or threads may hang
        devices = context.SimpleQueue()
        for i in range(workers):
            devices.put(self.devices[i % len(self.devices)])
        threads = max(1, torch.get_num_threads() // workers)
        with ProcessPoolExecutor(workers, context, _prepare, (load, devices, threads)) as pool:
            running: dict[Future, list[Sequence]] = {pool.submit(_work, job, folder, self.ahead): job for job in jobs}
            try:
                for done in as_completed(running):
                    yield running[done], _failures_of(done, running[done])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _failures_of(done: Future, job: list[Sequence]) -> Failures:
    """What a worker says of its sequences; a worker that died (of too little memory, say) says nothing."""
    error = done.exception()
    return done.result() if error is None else {s.name: f"{type(error).__name__}: {error}" for s in job}


# A worker process

_loop: Lockstep


def _prepare(load: Callable[[], Checkpoint], devices: Any, threads: int) -> None:
    global _loop
    Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    _loop = Lockstep(load().tracker, devices.get())


def _leave_with_parent() -> None:
    """A worker whose parent was killed would else wait for work for ever, and hold on to its GPU."""
    parent_process().join()
    os._exit(1)


def _work(job: list[Sequence], folder: Path, ahead: int) -> Failures:
    return track(_loop, job, folder, ahead)
