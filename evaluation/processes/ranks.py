"""The processes of one job, as `trainer=ddp` and `trainer=ddp_spawn` start them.

All processes walk through the same stages and share the trainings. Rank 0 decides for all and alone writes results. A
process that works alone is rank 0.
"""

from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")

# The other processes wait while rank 0 scores a tracker, which may take days. A process that dies is noticed at once.
TIMEOUT = timedelta(days=30)

_group: dist.ProcessGroup | None = None


def join_process_group() -> None:
    """Makes this process one of several; all of them must call this once `torch.distributed` is initialised."""
    global _group
    # A gloo group of its own: NCCL neither waits for long nor sends objects without a device.
    _group = dist.new_group(backend="gloo", timeout=TIMEOUT)


def is_rank_zero() -> bool:
    """Returns whether this is the first process of the job, or the only one."""
    return _group is None or dist.get_rank() == 0


def broadcast(value: T) -> T:
    """Returns the value of rank 0 in all processes; each process waits here until rank 0 has come.

    Args:
        value: plain data; the values of the other ranks are ignored.
    """
    if _group is None:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_group)
    return values[0]
