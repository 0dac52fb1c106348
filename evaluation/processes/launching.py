"""Starts the processes that a job's trainer asks for: once, for all stages of the job."""

import os
import shlex
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from evaluation.processes.lightning import build_trainer
from evaluation.processes.ranks import join_process_group

T = TypeVar("T")


def check_launchable(cfg: DictConfig) -> None:
    """Finds out before anything is trained whether the processes can be started.

    Raises:
        ValueError: they would run the command of a sweep once more each.
    """
    trainer, hydra = build_trainer(cfg.trainer), HydraConfig.get()
    processes = trainer.num_devices * trainer.num_nodes
    if hydra.mode != RunMode.MULTIRUN or processes == 1:
        return
    strategy = trainer.strategy
    if isinstance(strategy.launcher, _SubprocessScriptLauncher):
        if strategy.cluster_environment.creates_processes_externally:
            return
        asked = [o for o in hydra.overrides.task if o.split("=")[0] not in ("trainer", "trainer.strategy")]
        command = shlex.join(["python", f"{hydra.job.name}.py", "-m", *asked])
        raise ValueError(
            f"trainer=ddp runs this command once more for each of its {processes} processes, and in a sweep (-m) each "
            f"would sweep again. Let the job start them itself:\n  {command} trainer=ddp_spawn\n"
            f"or Slurm, also on several nodes:\n  {command} trainer=ddp hydra/launcher=submitit_slurm "
            f"hydra.launcher.nodes={trainer.num_nodes} hydra.launcher.tasks_per_node={trainer.num_devices} "
            f"hydra.launcher.gpus_per_node={trainer.num_devices}\n"
            f"or give each job one GPU (hydra/launcher=joblib without trainer=ddp), or leave out -m"
        )


def launch(cfg: DictConfig, work: Callable[[], T]) -> T:
    """Calls `work` in every process that the job's trainer asks for, and returns what it returned in the first.

    With `trainer=ddp_spawn` they are started here, and `work` is pickled; with `trainer=ddp` Lightning runs the command
    once more for each, or Slurm or torchrun has done so.

    Args:
        cfg: the job's configuration, the same object as `work` has, if it has one.
        work: the job.
    """
    trainer = build_trainer(cfg.trainer)
    if trainer.num_devices * trainer.num_nodes == 1:
        return work()
    port = os.environ.get("MASTER_PORT")
    try:
        return trainer.strategy.launcher.launch(partial(_take_part, cfg, HydraConfig.instance().cfg, work))
    finally:
        if port is None and not isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
            os.environ.pop("MASTER_PORT", None)  # the next job looks for a free one itself


def _take_part(cfg: DictConfig, hydra: DictConfig, work: Callable[[], T]) -> T:
    """What each process does."""
    if not HydraConfig.initialized():
        restore_hydra(hydra)
    if isinstance(cfg.trainer.strategy, str):  # the processes are there; the stages start no others
        cfg.trainer.strategy = cfg.trainer.strategy.replace("_spawn", "")
    build_trainer(cfg.trainer).strategy.setup_environment()
    join_process_group()
    return work()


def restore_hydra(hydra: DictConfig) -> None:
    """Tells a spawned process what Hydra has told the one that started it."""
    setup_globals()
    HydraConfig.instance().set_config(hydra)
    if os.environ["LOCAL_RANK"] == "0":
        configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
    # Slurm, if it runs here, has started one task and knows nothing of these; so Lightning is told not to ask it.
    os.environ["SLURM_JOB_NAME"] = "interactive"
