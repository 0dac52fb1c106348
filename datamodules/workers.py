"""Chooses the number of loader processes from the machine."""

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its import takes seconds, and light processes ask for the number of cores
    import pytorch_lightning as L

log = logging.getLogger(__name__)

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of this container (cgroup v2)
SHARED_MEMORY = Path("/dev/shm")  # loader processes pass tensors through it
SHARE = 0.5  # of the free shared memory; validation has loader processes of its own, and GPUs communicate through it
BATCHES = 3  # of a loader process in shared memory: two that are ready, and one that is being read
# Loader processes of one training. From 1080p frames, 32 load 3,000 samples a second for OSTrack, see
# benchmarks/README.md; more would only take memory.
MOST = 32


def usable_cores() -> int:
    """Returns the number of CPU cores that this process may use: its affinity and the limit of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CGROUP_LIMIT.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return cores


def choose_workers(trainer: "L.Trainer | None", jobs: int, batch_bytes: int = 0) -> int:
    """Returns the number of loader processes for one training process: its share of the cores, less one for itself.

    Args:
        trainer: tells the number of training processes on this machine; None stands for one.
        jobs: jobs that run on this machine at once; each has as many processes.
        batch_bytes: size of the tensors in a batch. Containers often have little shared memory; it bounds the number.

    Returns:
        At least 1.
    """
    processes = 1 if trainer is None or _has_own_cores(trainer) else trainer.num_devices
    workers = min(usable_cores() // (processes * jobs) - 1, MOST)
    if batch_bytes and SHARED_MEMORY.is_dir():
        room = SHARE * shutil.disk_usage(SHARED_MEMORY).free / (processes * jobs)
        fitting = max(1, int(room / (BATCHES * batch_bytes)))
        if fitting < workers:
            log.warning(
                "%s has room for the batches of %d loader processes, not of %d; give the container more of it, e.g. "
                "docker run --shm-size=8g",
                SHARED_MEMORY,
                fitting,
                workers,
            )
            workers = fitting
    return max(1, workers)


def _has_own_cores(trainer: "L.Trainer") -> bool:
    """Returns whether Slurm has bound each training process to cores of its own."""
    tasks, cores = (int(os.environ.get(f"SLURM_{name}", 1)) for name in ("NTASKS", "CPUS_PER_TASK"))
    return tasks == trainer.world_size > 1 and usable_cores() <= cores
