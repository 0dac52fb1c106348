"""Starts the processes that a job's trainer asks for: once, for all stages of the job."""

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from datamodules.exit_with_parent import exit_with_parent
from evaluation.errors import UserError
from evaluation.processes.held_signals import FROM_LAUNCHERS, GRACE
from evaluation.processes.invocation import Invocation
from evaluation.processes.lightning import build_trainer
from evaluation.processes.ranks import join_process_group
from evaluation.processes.termination import ctrl_c_held, ends_in_order
from evaluation.processes.user_errors import message_of

T = TypeVar("T")

USER_ERROR = f"\n{UserError.__module__}.{UserError.__qualname__}: "  # start of the last line of its traceback
TRACEBACK = "\nTraceback (most recent call last):\n"


def check_launchable(trainer: Trainer, invocation: Invocation) -> None:
    """Checks, before anything is trained, that the processes of a job can be started.

    Raises:
        UserError: every process would run the whole sweep once more.
    """
    if not invocation.is_sweep or _process_count(trainer) == 1:
        return
    strategy: Any = trainer.strategy
    if not isinstance(strategy.launcher, _SubprocessScriptLauncher):
        return
    if strategy.cluster_environment.creates_processes_externally:
        return
    overrides = [o for o in invocation.overrides if o.split("=")[0] not in ("trainer", "trainer.strategy")]
    command = shlex.join(["python", f"{invocation.script}.py", "-m", *overrides])
    raise UserError(
        f"trainer=ddp runs this command once more for each of its {_process_count(trainer)} processes, and in a sweep "
        f"(-m) each would sweep again. Let the job start them itself:\n  {command} trainer=ddp_spawn\n"
        f"or Slurm, also on several nodes:\n  {command} trainer=ddp hydra/launcher=submitit_slurm "
        f"hydra.launcher.nodes={trainer.num_nodes} hydra.launcher.tasks_per_node={trainer.num_devices} "
        f"hydra.launcher.gpus_per_node={trainer.num_devices}\n"
        f"or give each job one GPU (hydra/launcher=joblib without trainer=ddp), or leave out -m"
    )


def launch(trainer: Trainer, settings: DictConfig, invocation: Invocation, work: Callable[[], T]) -> T:
    """Calls `work` in every process that the job's trainer asks for, and returns the result of the first process.

    With `trainer=ddp_spawn` the processes are started here, and `work` is pickled. With `trainer=ddp` Lightning runs
    the command once more for each process, unless Slurm or torchrun has started them.

    Args:
        trainer: built from `settings`.
        settings: the `trainer` section of the configuration.
        invocation: how the command was started.
        work: the job.

    Raises:
        UserError: a process met an error of the user, or somebody killed it.
    """
    if _process_count(trainer) == 1:
        return work()
    launcher: Any = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        if os.environ.get("LOCAL_RANK", "0") != "0":
            exit_with_parent()
        return launcher.launch(partial(_work_in_process, trainer, work))
    port = os.environ.get("MASTER_PORT")
    try:
        with _spawned_without_ctrl_c():
            return launcher.launch(partial(_work_in_spawned_process, settings, invocation, work))
    except ProcessRaisedException as error:
        _, told, message = str(error).rpartition(USER_ERROR)
        if not told or TRACEBACK in message:  # a fault of the code, which an error of the user may have caused
            raise
        raise UserError(message.strip()) from error
    except ProcessExitedException as error:
        raise UserError(f"{error}: somebody killed it, or memory is short; the same command continues") from error
    except BaseException:
        launcher.kill(signal.SIGTERM)
        for process in launcher.procs:
            process.join(2 * GRACE)  # a training saves its state
        raise
    finally:
        if port is None:
            os.environ.pop("MASTER_PORT", None)  # the next job looks for a free port itself


def started_strategy(strategy: Any) -> Any:
    """Returns the strategy for a training whose processes are running: one that starts no others."""
    return strategy.replace("_spawn", "") if isinstance(strategy, str) else strategy


def _process_count(trainer: Trainer) -> int:
    return trainer.num_devices * trainer.num_nodes


@contextmanager
def _spawned_without_ctrl_c() -> Iterator[None]:
    """Keeps Ctrl-C from the processes that PyTorch starts in the block: this process ends them, see `launch`."""
    start = torch.multiprocessing.start_processes

    def start_processes(*args: Any, **kwargs: Any) -> Any:
        with ctrl_c_held():
            return start(*args, **kwargs)

    torch.multiprocessing.start_processes = start_processes
    try:
        yield
    finally:
        torch.multiprocessing.start_processes = start


def _work_in_process(trainer: Trainer, work: Callable[[], T]) -> T:
    trainer.strategy.setup_environment()
    join_process_group()
    return work()


def _work_in_spawned_process(settings: DictConfig, invocation: Invocation, work: Callable[[], T]) -> T:
    exit_with_parent()
    if os.environ["LOCAL_RANK"] == "0":
        configure_log(OmegaConf.create(invocation.logging), invocation.verbose)
    # Slurm, if it runs here, has started one task and does not know these processes, so Lightning must not ask Slurm.
    os.environ["SLURM_JOB_NAME"] = "interactive"
    for number in FROM_LAUNCHERS:  # Slurm sends them here, too; the process that waits for this one handles them
        signal.signal(number, signal.SIG_IGN)
    settings = settings.copy()
    settings.strategy = started_strategy(settings.strategy)
    with ends_in_order():
        try:
            return _work_in_process(build_trainer(settings), work)
        except Exception as error:
            message = message_of(error)
            if message is None:
                raise
            raise UserError(message) from error  # its name in the traceback tells `launch` whose error it is
