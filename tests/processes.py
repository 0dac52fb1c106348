"""New processes for tests, without the seconds that each one would spend on imports."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import context, forkserver
from pathlib import Path
from typing import Any
from unittest import mock

PRELOADED = [
    "pytorch_lightning",
    "evaluation.commands.evaluate",
    "evaluation.tracking.worker",
    "tests.pruning.training",
]


class _Fork(context.ForkServerProcess):
    """A fork of a process that has imported everything and done nothing else; it gets today's environment variables."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.environment = dict(os.environ)

    def run(self) -> None:
        os.environ.update(self.environment)
        super().run()


class _Forks(context.ForkServerContext):
    Process = _Fork


def join_two_ranks(rank: int, folder: Path) -> None:
    """Makes this process one of two that train together."""
    import torch

    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)  # so that Lightning starts no processes of its own
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    # They meet at a file: a port would have to be free, also on a machine that runs other tests.
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)


@contextmanager
def quick_spawn() -> Iterator[None]:
    """Makes processes that are to be spawned forks of a clean process: state is passed by pickling all the same."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    with mock.patch.dict(context._concrete_contexts, spawn=_Forks()):
        yield


def is_alive(process: int) -> bool:
    """Returns whether a process runs; a dead one that its parent has not asked for does not."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
