"""The processes that make one job together, as `trainer=ddp` and `trainer=ddp_spawn` ask for: the first one leads.

All of them walk through the same stages. They share the trainings; what the first finds or decides holds for all, and
it alone writes results. A process that makes its job alone is the first.
"""

from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")

# Others wait while the first one scores a tracker, which may take days; a process that died is noticed at once.
PATIENCE = timedelta(days=30)

_group: dist.ProcessGroup | None = None


def join_process_group() -> None:
    """Makes this process one of several. All of them have to call it, once `torch.distributed` is initialised."""
    global _group
    # Of its own, as GPUs talk by a backend that neither waits for long nor carries objects without a device.
    _group = dist.new_group(backend="gloo", timeout=PATIENCE)


def is_rank_zero() -> bool:
    """Whether this is the first of the job's processes, or the only one."""
    return _group is None or dist.get_rank() == 0


def broadcast(value: T) -> T:
    """The first process's value, in all of them; none goes on before the first has come here.

    Args:
        value: plain data; that of the others is ignored.
    """
    if _group is None:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_group)
    return values[0]
