"""The command behind train.py and prune.py: runs a job of a study."""

import logging
from functools import partial
from typing import Any

from omegaconf import DictConfig

from evaluation.commands.setup import (
    console,
    forcing_command,
    invocation_of_hydra,
    print_files,
    reported,
    resolve,
    use_threads,
    write_fake_data,
)
from evaluation.errors import UserError
from evaluation.processes.command_state import command_state
from evaluation.processes.invocation import Invocation
from evaluation.processes.launching import check_launchable, launch
from evaluation.processes.lightning import build_trainer
from evaluation.processes.ranks import is_rank_zero
from evaluation.processes.repeated_command import logged_once
from evaluation.report.files_guide import prune_command, show_command
from evaluation.report.result_table import result_table
from evaluation.study.job import Job
from evaluation.study.job_plan import plan_table, save_plan
from evaluation.study.stage_maker import CHECKPOINT

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
            console(120).print(plan_table(job))
            save_plan(job)
            return None
        command_state.begin_job(partial(_position, job, invocation.is_sweep))
        return launch(trainer, cfg.trainer, invocation, partial(_run_in_process, job, invocation))


def _check_objective(job: Job) -> None:
    objective, benchmark = job.cfg.objective, job.maker.benchmark
    if objective is not None and objective not in (known := benchmark.metric_names()):
        raise UserError(f"objective={objective} is no metric of benchmark={benchmark.name}: {', '.join(known)}")


def _position(job: Job, is_sweep: bool) -> str:
    return f"{job.folder.name} {job.position()}" if is_sweep else job.position()


def _run_in_process(job: Job, invocation: Invocation) -> float | None:
    """Runs a job that has been checked. Each process of the job calls it; rank 0 prints the results."""
    use_threads(job.cfg)
    result = job.run()
    if not is_rank_zero():
        return None
    if not job.trains_parent:
        console(120).print(job.group_table())
    return _conclude(job, invocation, result)


def _conclude(job: Job, invocation: Invocation, result: dict[str, Any]) -> float | None:
    """Prints the result of a job, and returns the metric that `cfg.objective` names."""
    print(f"\n{result_table(result)}\n")
    print_files(job.folder, _next_command(job, invocation), invocation)
    report = next(iter(result["metrics"].values()))
    return None if job.cfg.objective is None else report[job.cfg.objective]


def _next_command(job: Job, invocation: Invocation) -> str:
    """Returns the command that is useful after a job: for a child to see it beside its parent, else to prune it."""
    tracker = job.folder / CHECKPOINT
    if job.cfg.ratio == 1:
        return prune_command(tracker)
    parent = job.parent_checkpoint if job.trains_parent else job.cfg.checkpoint
    return show_command((parent, tracker), invocation.overrides, invocation.benchmark)
