"""The commands behind train.py and prune.py, and the setup that eval.py shares with them."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from datamodules.workers import usable_cores
from evaluation.errors import UserError
from evaluation.processes.devices import assign_gpu, check_devices, plan_without_gpu
from evaluation.processes.invocation import Invocation
from evaluation.processes.joblib_process import in_joblib_process
from evaluation.processes.last_words import course
from evaluation.processes.launching import check_launchable, launch
from evaluation.processes.lightning import build_trainer
from evaluation.processes.ranks import is_rank_zero
from evaluation.processes.repeated_command import logged_once
from evaluation.processes.termination import ends_in_order
from evaluation.processes.user_errors import fault_in, log_traceback, message_of, shows_all_tracebacks
from evaluation.report.files_guide import files_guide, prune_command, show_command
from evaluation.report.result_table import result_table
from evaluation.study.job import Job
from evaluation.study.parent_source import ParentSource
from evaluation.study.settings import check_settings
from evaluation.study.stage_maker import CHECKPOINT
from evaluation.study.sweep_callbacks import STARTED
from evaluation.study.words import spell_out
from trackers.checkpoints.reading import recipe_in

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, trains_parent: bool = True) -> float | None:
    """Runs a job in the folder `cfg.paths.job`. If it cannot run, one message says why.

    Args:
        cfg: conf/train.yaml or conf/prune.yaml, composed.
        trains_parent: whether the job trains its parent. If not, `cfg.checkpoint` is the parent, and its recipe becomes
            `cfg.tracker`, with the changes that `cfg.tracker` holds.

    Returns:
        The metric `cfg.objective` for a sweeper, if the configuration names one.
    """
    invocation = invocation_of_hydra()
    with reported(invocation):
        with logged_once():
            cfg, source = resolve(cfg, invocation, completes_recipe=not trains_parent)
            write_fake_data(cfg)
            trainer = build_trainer(cfg.trainer)
            check_launchable(trainer, invocation)
            job = Job(cfg, source, trainer, trains_parent, forcing_command(cfg, invocation))
            if not cfg.dry_run and (result := job.finished_result()) is not None:
                log.info("this job is finished already; force=true runs it again")
                return _conclude(job, invocation, result)
            job.check()
            _check_objective(job)
        if cfg.dry_run:
            console(120).print(job.plan_table())
            job.note_plan()
            return None
        course.begin_job(partial(_position, job, invocation.is_sweep))
        return launch(trainer, cfg.trainer, invocation, partial(_run_in_process, job, invocation))


# Setup of all commands


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
    source = ParentSource.from_checkpoint(cfg.checkpoint)
    if completes_recipe:
        if source.header is None:
            raise UserError(
                f"checkpoint={cfg.checkpoint} is no tracker; give a file of train.py or prune.py, or an official one"
            )
        recipe = OmegaConf.merge(recipe_in(source.header, cfg.checkpoint), cfg.tracker)
        OmegaConf.update(cfg, "tracker", recipe, merge=False)
        if "job" in cfg:
            OmegaConf.update(cfg, "job.tracker", recipe._target_.rsplit(".", 1)[1].lower())
    if source.header is not None and source.header.note:
        log.info(source.header.note)
    spell_out(cfg)
    try:
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        check_settings(settings)
        _create_cache(Path(settings["paths"]["cache"]))
        _use_threads(cfg)
        if cfg.get("dry_run"):
            plan_without_gpu(cfg)
        check_devices(cfg)
        if invocation.is_sweep:
            assign_gpu(cfg, invocation.job_number)
        if "jobs_at_once" in cfg.get("datamodule", {}):
            cfg.datamodule.jobs_at_once = max(cfg.datamodule.jobs_at_once, invocation.jobs_at_once)
        return DictConfig(OmegaConf.to_container(cfg, resolve=True)), source
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


def _use_threads(cfg: DictConfig) -> None:
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
    course.begin_job()
    with in_joblib_process(invocation.sweep_folder), ends_in_order():
        try:
            yield
        except Exception as error:
            message = message_of(error)
            if invocation.is_sweep:
                course.begin_job()
                raise
            if shows_all_tracebacks():
                raise
            if message is None:
                raise fault_in(error)  # noqa: B904 (it is the cause of `error`, if it is not `error` itself)
            log_traceback(error)
            raise SystemExit(f"error: {message}") from None
        course.begin_job()


# Jobs


def _check_objective(job: Job) -> None:
    objective, benchmark = job.cfg.objective, job.maker.benchmark
    if objective is not None and objective not in (known := benchmark.metric_names()):
        raise UserError(f"objective={objective} is no metric of benchmark={benchmark.name}: {', '.join(known)}")


def _position(job: Job, is_sweep: bool) -> str:
    return f"{job.folder.name} {job.position()}" if is_sweep else job.position()


def _run_in_process(job: Job, invocation: Invocation) -> float | None:
    """Runs a job that has been checked. Each process of the job calls it; rank 0 prints the results."""
    _use_threads(job.cfg)
    result = job.run()
    if not is_rank_zero():
        return None
    if not job.trains_parent:
        console(120).print(job.group_table())
    return _conclude(job, invocation, result)


def _conclude(job: Job, invocation: Invocation, result: dict[str, Any]) -> float | None:
    """Prints the result of a job, and returns the metric that `cfg.objective` names."""
    print(f"\n{result_table(result)}\n")
    if invocation.is_sweep:  # the last lines of the sweep tell about the files
        log.info("results in %s", job.folder)
    else:
        print(files_guide(job.folder, _next_command(job, invocation)))
    report = next(iter(result["metrics"].values()))
    return None if job.cfg.objective is None else report[job.cfg.objective]


def _next_command(job: Job, invocation: Invocation) -> str:
    """Returns the command that is useful after a job: for a child to see it beside its parent, else to prune it."""
    tracker = job.folder / CHECKPOINT
    if job.cfg.ratio == 1:
        return prune_command(tracker)
    parent = job.parent_checkpoint if job.trains_parent else job.cfg.checkpoint
    return show_command((parent, tracker), invocation.overrides, invocation.benchmark)


def console(width: int) -> Console:
    """Returns a console of at least `width` characters, so that tables in log files are not cut."""
    return Console(width=max(Console().width, width))
