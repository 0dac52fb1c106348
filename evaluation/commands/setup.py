"""What all commands do before and after their work: settings, devices, folders and errors."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError, OmegaConfBaseException
from rich.console import Console

from datamodules.workers import usable_cores
from evaluation.errors import UserError
from evaluation.processes.command_state import command_state
from evaluation.processes.devices import assign_gpu, check_devices, plan_without_gpu
from evaluation.processes.invocation import Invocation
from evaluation.processes.joblib_process import in_joblib_process
from evaluation.processes.termination import ends_in_order
from evaluation.processes.user_errors import fault_in, log_traceback, message_of, shows_all_tracebacks
from evaluation.report.files_guide import files_guide
from evaluation.study.parent_source import ParentSource
from evaluation.study.settings import check_settings
from evaluation.study.shorthands import expand_shorthands
from evaluation.study.sweep_callbacks import STARTED
from trackers.checkpoints.reading import recipe_in
from trackers.checkpoints.shared_folder import checkpoint_file

log = logging.getLogger(__name__)


def invocation_of_hydra() -> Invocation:
    """Returns how Hydra started this job. No other function reads Hydra's global state."""
    hydra = HydraConfig.get()
    is_sweep = hydra.mode == RunMode.MULTIRUN
    return Invocation(
        script=hydra.job.name,
        overrides=tuple(hydra.overrides.task),
        is_sweep=is_sweep,
        job_number=hydra.job.num if is_sweep else 0,
        sweep_folder=Path(hydra.sweep.dir),
        jobs_at_once=_jobs_at_once(hydra.launcher) if is_sweep else 1,
        logging=OmegaConf.to_container(hydra.job_logging, resolve=True),
        verbose=hydra.verbose,
        benchmark=hydra.runtime.choices.get("benchmark", ""),
    )


def _jobs_at_once(launcher: DictConfig) -> int:
    """Returns how many jobs a launcher runs on this machine at once. Only joblib's does; -1 means one for each core."""
    jobs = launcher.get("n_jobs") or 1
    return jobs if jobs > 0 else max(1, usable_cores() + 1 + jobs)


def resolve(cfg: DictConfig, invocation: Invocation, completes_recipe: bool) -> tuple[DictConfig, ParentSource]:
    """Returns the configuration of the job without any interpolation, and the source of its parent.

    All later code sees the same values, also in processes that Hydra did not start.

    Args:
        cfg: the composed configuration.
        invocation: how the command was started.
        completes_recipe: whether `cfg.tracker` holds only changes of the recipe in the checkpoint.
    """
    if isinstance(cfg.checkpoint, str):
        cfg.checkpoint = str(checkpoint_file(cfg.checkpoint))
    source = ParentSource.from_checkpoint(cfg.checkpoint)
    if completes_recipe:
        if source.header is None:
            raise UserError(
                f"checkpoint={cfg.checkpoint} is no tracker; give a file of train.py or prune.py, or an official one"
            )
        try:
            recipe = OmegaConf.merge(recipe_in(source.header, cfg.checkpoint), cfg.tracker)
        except ConfigTypeError as error:  # a list in the place of a mapping
            reason = str(error).partition("\n")[0]
            raise UserError(f"tracker={cfg.tracker} does not fit the recipe of {cfg.checkpoint} ({reason})") from error
        OmegaConf.update(cfg, "tracker", recipe, merge=False)
        if "job" in cfg:
            OmegaConf.update(cfg, "job.tracker", recipe._target_.rsplit(".", 1)[1].lower())
    if source.header is not None and source.header.note:
        log.info(source.header.note)
    return settle(cfg, invocation), source


def settle(cfg: DictConfig, invocation: Invocation) -> DictConfig:
    """Returns a checked configuration without any interpolation, and gives the libraries their threads.

    Args:
        cfg: the composed configuration.
        invocation: how the command was started.

    Raises:
        UserError: a value is not allowed, refers to something that is not there, or names a device that is not there.
    """
    expand_shorthands(cfg)
    try:
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        check_settings(settings)
        _create_cache(Path(settings["paths"]["cache"]))
        use_threads(cfg)
        if cfg.get("dry_run"):
            plan_without_gpu(cfg)
        check_devices(cfg)
        if invocation.is_sweep:
            assign_gpu(cfg, invocation.job_number)
        if "jobs_at_once" in cfg.get("datamodule", {}):
            cfg.datamodule.jobs_at_once = max(cfg.datamodule.jobs_at_once, invocation.jobs_at_once)
        return DictConfig(OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        place = error.full_key or "a value of the configuration"
        if lacking := re.search(r"Interpolation key '(tracker\.[\w.]+)' not found", reason):
            raise UserError(
                f"the recipe of the tracker has no {lacking[1]}, which {place} reads; write it into the tracker's file "
                "in conf/tracker/, see docs/adding-a-tracker.md"
            ) from error
        raise UserError(f"{place} refers to something that is not there: {reason}") from error


def _create_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"paths.cache={folder} cannot be created ({error.strerror}); choose another folder, e.g. paths.cache=cache"
        ) from error


def use_threads(cfg: DictConfig) -> None:
    """Gives PyTorch and OpenCV the CPU threads of `cfg.threads`, if it names a number."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
        cv2.setNumThreads(cfg.threads)


def write_fake_data(cfg: DictConfig) -> None:
    """Writes the fake data sets of the configuration, if it has any, and says that scores on them mean nothing."""
    if cfg.fake_data is None:
        return
    instantiate(cfg.fake_data, _convert_="all").write()
    weights = "" if cfg.checkpoint else " and the parent starts from random weights"
    log.warning("data in %s are fake%s: the numbers of this run are no results", cfg.fake_data.folder, weights)


def forcing_command(cfg: DictConfig, invocation: Invocation) -> str:
    """Returns a name of this command, whose jobs reuse no stage of another command; "" without `force`.

    All jobs of a sweep have one name, so that they still share their stages.
    """
    if not cfg.force:
        return ""
    started = invocation.sweep_folder / STARTED
    return started.read_text() if invocation.is_sweep and started.is_file() else uuid4().hex


@contextmanager
def reported(invocation: Invocation) -> Iterator[None]:
    """Ends the run with one message after an error of the user. Faults of the code keep their tracebacks.

    In a sweep an error ends this job alone, see `evaluation.study.sweep_callbacks.FailureCallback`. A signal ends the
    whole sweep.
    """
    command_state.begin_job()
    with in_joblib_process(invocation.sweep_folder), ends_in_order():
        try:
            yield
        except Exception as error:
            message = message_of(error)
            if invocation.is_sweep:
                command_state.begin_job()
                raise
            if shows_all_tracebacks():
                raise
            if message is None:
                raise fault_in(error)  # noqa: B904 (it is the cause of `error`, if it is not `error` itself)
            log_traceback(error)
            raise SystemExit(f"error: {message}") from None
        command_state.begin_job()


def print_files(folder: Path, following: str, invocation: Invocation) -> None:
    """Prints which file answers what, and the next command; in a sweep the folder alone, as its last lines tell more.

    Args:
        folder: of the job.
        following: the command that is useful next.
        invocation: how the command was started.
    """
    if invocation.is_sweep:
        log.info("results in %s", folder)
    else:
        print(files_guide(folder, following))


def console(width: int) -> Console:
    """Returns a console of at least `width` characters, so that tables in log files are not cut."""
    return Console(width=max(Console().width, width))
