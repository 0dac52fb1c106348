"""New processes for tests, without the seconds that each one would spend on imports."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import context, forkserver
from typing import Any
from unittest import mock

PRELOADED = ["pytorch_lightning", "evaluation.commands", "evaluation.tracking.worker", "tests.pruning.training"]


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


@contextmanager
def quick_spawn() -> Iterator[None]:
    """Makes processes that are to be spawned forks of a clean process: state is passed by pickling all the same."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    with mock.patch.dict(context._concrete_contexts, spawn=_Forks()):
        yield
