"""The processes of one job, as `trainer=ddp` and `trainer=ddp_spawn` start them.

All processes go through the same stages and share the trainings. Only rank 0 decides and writes results. A process
that works alone is rank 0.
"""

from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# The other processes wait while rank 0 scores a tracker, which may take days. A process that dies is noticed at once.
TIMEOUT = timedelta(days=30)

_group: Any = None  # the process group; None in a job of one process


def join_process_group() -> None:
    """Joins this process to the others of its job. All must call this after `torch.distributed` is initialised."""
    global _group
    # A gloo group of its own: NCCL neither waits for long nor sends objects without a device.
    _group = dist.new_group(backend="gloo", timeout=TIMEOUT)


def is_rank_zero() -> bool:
    """Returns whether this is the first process of the job, or the only one."""
    return _group is None or dist.get_rank() == 0


def broadcast(value: T) -> T:
    """Returns the value of rank 0 in all processes. Each process waits until rank 0 has called this function.

    Args:
        value: plain data; the values of the other ranks are ignored.
    """
    if _group is None:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_group)
    return values[0]


def largest(value: int) -> int:
    """Returns the largest of the values of all processes, in all of them. Each process waits until all have called."""
    if _group is None:
        return value
    shared = torch.tensor(value, device="cpu")
    dist.all_reduce(shared, dist.ReduceOp.MAX, group=_group)
    return int(shared)
