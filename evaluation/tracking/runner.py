"""Runs a tracker on a benchmark, in one process or several. An interrupted run continues where it stopped."""

import logging
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.console import Console
from rich.progress import Progress

from datamodules.exit_with_parent import exit_with_parent
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from evaluation.errors import UserError
from evaluation.processes.termination import ctrl_c_held
from evaluation.tracking.result_files import is_tracked
from evaluation.tracking.worker import Failure, Failures, track
from trackers.online import Lockstep, Openable

log = logging.getLogger(__name__)


class SequencesFailedError(UserError):
    """Tracking failed on some sequences. The results of all others are saved, and the log holds the tracebacks."""


@dataclass(frozen=True)
class Runner:
    """Runs a tracker on all sequences of a benchmark. Its settings change boxes by rounding only.

    Attributes:
        devices: torch devices; workers use them in turn.
        workers: number of processes. 1 runs everything in this process. On CPUs, workers share the threads of this
            process.
        lockstep: number of sequences that a process tracks together, frame by frame. Rules with `lockstep` process
            them in one forward pass, which is faster for small networks and on GPUs.
        ahead: number of frames of each sequence that are decoded while the tracker works.
        runtime: what runs the network, see `Lockstep`.
        threads: CPU threads of a runtime without PyTorch, shared by the workers; None leaves the number to the runtime.

    Raises:
        UserError: a number is too small, or there is no device.
    """

    devices: Several[str]
    workers: int
    lockstep: int
    ahead: int
    runtime: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("lockstep", 1), ("ahead", 0)):
            if getattr(self, name) < least:
                raise UserError(f"runner.{name}={getattr(self, name)} is too small; set runner.{name}={least} or more")
        if not self.devices:
            raise UserError("runner.devices is empty; set e.g. runner.devices=[cuda:0,cuda:1]")

    def run(self, read: Callable[[], Openable], sequences: SequenceTable, folder: Path) -> None:
        """Writes the result files of all sequences to `folder`. Sequences with complete result files are skipped.

        Args:
            read: returns the tracker. Each process calls it once; with several workers it must be picklable.
            sequences: of the benchmark.
            folder: of the result files, see `evaluation.tracking.result_files`.

        Raises:
            SequencesFailedError: tracking failed on some sequences. It is raised after all others are tracked.
        """
        missing = [s for s in sequences if not is_tracked(folder, s)]
        if len(missing) < len(sequences):
            log.info("%d of %d sequences are tracked already", len(sequences) - len(missing), len(sequences))
        # Long sequences come first, so that no worker starts one while the others have nothing left to do. Sorting also
        # puts sequences of similar length into one lockstep.
        missing.sort(key=len, reverse=True)
        jobs = [missing[i : i + self.lockstep] for i in range(0, len(missing), self.lockstep)]
        failures: Failures = {}
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("tracking", total=sum(map(len, missing)))
            for job, failed in (self._run_in_this_process if self.workers == 1 else self._run_in_workers)(
                read, jobs, folder
            ):
                _log_failures(failed, failures)
                failures |= failed
                progress.advance(task, sum(map(len, job)))
        if failures:
            reasons = "".join(f"\n  {name}: {failure.reason}" for name, failure in sorted(failures.items()))
            raise SequencesFailedError(
                f"{len(failures)} of {len(sequences)} sequences failed. The results of the others are in {folder}; run "
                f"the same command again to track only the failed ones:{reasons}"
            )

    def _run_in_this_process(
        self, read: Callable[[], Openable], jobs: list[list[Sequence]], folder: Path
    ) -> Iterator[tuple[list[Sequence], Failures]]:
        if not jobs:
            return
        loop = Lockstep(read(), self.devices[0], self.runtime, self.threads)
        for job in jobs:
            yield job, track(loop, job, folder, self.ahead)

    def _run_in_workers(
        self, read: Callable[[], Openable], jobs: list[list[Sequence]], folder: Path
    ) -> Iterator[tuple[list[Sequence], Failures]]:
        workers = min(self.workers, len(jobs))
        if not workers:
            return
        context = get_context("spawn")  # a forked process may hang if its parent has used CUDA or threads
        devices = context.SimpleQueue()
        for i in range(workers):
            devices.put(self.devices[i % len(self.devices)])
        threads = max(1, torch.get_num_threads() // workers)
        with ProcessPoolExecutor(workers, context, _start_worker, (read, devices, threads, self.runtime)) as pool:
            with ctrl_c_held():
                running = {_submitted(pool, job, folder, self.ahead): job for job in jobs}
            try:
                for done in as_completed(running):
                    yield running[done], _failures_of(done, running[done])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _submitted(pool: ProcessPoolExecutor, job: list[Sequence], folder: Path, ahead: int) -> Future:
    """Returns the future of a job. A pool of which a worker has died takes no more jobs: the future then has its error.

    A worker may die while jobs are still submitted, e.g. because it has no memory for the tracker.
    """
    try:
        return pool.submit(_track_in_worker, job, folder, ahead)
    except BrokenProcessPool as error:
        failed: Future = Future()
        failed.set_exception(error)
        return failed


def _failures_of(done: Future, job: list[Sequence]) -> Failures:
    """Returns the failures of a worker's sequences. If the worker died, e.g. out of memory, all of them failed."""
    error = done.exception()
    return done.result() if error is None else {s.name: Failure.of(error) for s in job}


def _log_failures(failed: Failures, earlier: Failures) -> None:
    """Logs failures at once, since a run may last for days: each in one line, the first from each place as a whole."""
    places = {failure.frames for failure in earlier.values()}
    for name, failure in failed.items():
        is_new = bool(failure.frames) and failure.frames not in places
        log.error("sequence %s failed: %s%s", name, failure.reason, f"\n{failure.frames}" if is_new else "")
        places.add(failure.frames)


# In a worker process

_loop: Lockstep


def _start_worker(read: Callable[[], Openable], devices: Any, threads: int, runtime: str | None) -> None:
    global _loop
    exit_with_parent()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    _loop = Lockstep(read(), devices.get(), runtime, threads)


def _track_in_worker(job: list[Sequence], folder: Path, ahead: int) -> Failures:
    return track(_loop, job, folder, ahead)
