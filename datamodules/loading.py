"""Loads samples in processes: which process loads which numbers, and what a loader process is."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import pytorch_lightning as L
import torch
from torch.utils.data import Dataset, Sampler

from datamodules.exit_with_parent import exit_with_parent, stay_until_parent_ends_it
from datamodules.freed_memory import keep_freed_memory
from datamodules.wait_meter import MeasuredLoader


class EpochSampler(Sampler):
    """Yields sample numbers that continue from epoch to epoch. Every epoch is new; a resumed epoch repeats its numbers.

    Processes take the numbers in turn. Together, their batches hold the samples of one larger batch of one process.

    Args:
        samples: samples in an epoch.
        next_number: returns the first number, when an epoch begins or resumes. After a resume, the numbers run past the
            end of the epoch; the trainer counts batches and stops in time.
        rank, world_size: number of this process, from 0, and number of processes.
    """

    def __init__(self, samples: int, next_number: Callable[[], int], rank: int = 0, world_size: int = 1):
        self.samples, self.next_number, self.rank, self.world_size = samples, next_number, rank, world_size

    def __iter__(self) -> Iterator[int]:
        first = self.next_number() + self.rank
        return iter(range(first, first + len(self) * self.world_size, self.world_size))

    def __len__(self) -> int:
        return self.samples // self.world_size


def count_trained_batches(trainer: L.Trainer | None) -> int:
    """Returns the number of training batches of all processes, including those before a resume."""
    return 0 if trainer is None else (trainer.fit_loop.total_batch_idx + 1) * trainer.world_size


def rank_and_world_size(trainer: L.Trainer | None) -> tuple[int, int]:
    """Returns the rank of this process and the number of processes that train together."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def build_loader(
    samples: Dataset, sampler: EpochSampler, workers: int, persistent: bool, **options: Any
) -> MeasuredLoader:
    """Returns a loader of numbered samples.

    Args:
        samples: the samples by number.
        sampler: chooses the numbers of an epoch.
        workers: loader processes; 0 loads in this process.
        persistent: whether loader processes stay from epoch to epoch.
        options: further arguments of `DataLoader`.
    """
    return MeasuredLoader(
        samples,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=start_worker,
        # In a joblib worker the default would be spawn, which costs seconds in each stage.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        persistent_workers=persistent and workers > 0,
        # Otherwise each epoch draws a number from the global generator, except a resumed epoch, which would differ.
        generator=torch.Generator(),
        **options,
    )


def start_worker(worker: int) -> None:
    """Prepares a loader worker: it ends with its parent, and keeps freed memory for the next pictures.

    OpenCV uses one thread, as the workers use all cores.
    """
    stay_until_parent_ends_it()
    exit_with_parent()
    keep_freed_memory()
    cv2.setNumThreads(0)
