"""What the three scripts call."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch.multiprocessing import ProcessExitedException

from evaluation.files import write_json
from evaluation.processes.devices import assign_gpu
from evaluation.processes.launching import check_launchable, launch
from evaluation.processes.ranks import is_rank_zero
from evaluation.study.job import Job
from evaluation.study.job_result import size_of
from evaluation.study.stage import Made, Stage, ensure, identity
from evaluation.study.sweep_callbacks import BEGAN
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.metrics import scores_of
from evaluation.tracking.open_loop import PROTOCOL, open_loop
from evaluation.tracking.runner import SequencesFailedError
from trackers.checkpoints.checkpoint import Checkpoint, load_checkpoint, recipe_of

log = logging.getLogger(__name__)

BAD_INPUT = (ValueError, OSError, InstantiationException)
ACTIONS = ("score", "submit", "open_loop")


def run_job(cfg: DictConfig, train_parent: bool = True) -> float | None:
    """Runs a job in the folder that the configuration names, or says in one message why it cannot.

    Args:
        cfg: conf/train.yaml or conf/prune.yaml, composed.
        train_parent: whether the job trains its parent. If not, `cfg.checkpoint` is the parent, and its recipe becomes
            `cfg.tracker`, with the changes that this asks for.

    Returns:
        What the job is worth to a sweeper: its `cfg.objective`, if it has one.
    """
    with _one_message(*BAD_INPUT):
        _use_threads(cfg)
        assign_gpu(cfg)
        check_launchable(cfg)
        if not train_parent:
            _complete_recipe(cfg)
        job = Job(cfg, Path(cfg.paths.job), train_parent, _since(cfg))
        if not cfg.dry_run and (result := job.finished()) is not None:
            log.info("this job has finished before")
            return _conclude(job, result)
        job.check()
        _check_objective(job)
    if cfg.dry_run:
        Console(width=max(Console().width, 100)).print(job.plan())
        return None
    with _one_message(ProcessExitedException):
        return launch(cfg, partial(_make, job))


def _make(job: Job) -> float | None:
    """Runs a job that can be run, in each of its processes; the first tells of it."""
    _use_threads(job.cfg)
    with _one_message(SequencesFailedError):
        result = job.run()
    if not is_rank_zero():
        return None
    if not job.train_parent:
        Console(width=max(Console().width, 120)).print(job.group_table())
    return _conclude(job, result)


def _conclude(job: Job, result: dict[str, Any]) -> float | None:
    _print_table(result)
    log.info("results in %s", job.folder)
    report = next(iter(result["metrics"].values()))
    return None if job.cfg.objective is None else report[job.cfg.objective]


def _check_objective(job: Job) -> None:
    objective = job.cfg.objective
    if objective is not None and objective not in (known := job.maker.benchmark.metrics()):
        raise ValueError(
            f"objective={objective} is no metric of benchmark={job.maker.benchmark.name}: {', '.join(known)}"
        )


def evaluate(cfg: DictConfig) -> None:
    """Scores one checkpoint on one benchmark, or packs its results for a server, as conf/eval.yaml says."""
    with _one_message(*BAD_INPUT, SequencesFailedError):
        _use_threads(cfg)
        assign_gpu(cfg)
        if cfg.action not in ACTIONS:
            raise ValueError(f"action={cfg.action} is not known; choose one of {', '.join(ACTIONS)}")
        _complete_recipe(cfg)
        benchmark: Benchmark = instantiate(cfg.benchmark, _convert_="all")
        if cfg.action == "submit":
            benchmark.check_packable()
        else:
            benchmark.check_scorable()
        if cfg.action == "open_loop":
            _find_near_truth(cfg, benchmark)
            return
        made = _tracked(cfg, benchmark)
        boxes = made.folder / "boxes" / benchmark.name
        if cfg.action == "submit":
            benchmark.pack(boxes, benchmark.sequences, Path(cfg.archive))
            log.info("archive %s", Path(cfg.archive).absolute())
            return
    folder = Path(cfg.paths.job)
    shutil.copytree(boxes, folder / "boxes" / benchmark.name, dirs_exist_ok=True)
    result = {"checkpoint": str(cfg.checkpoint)} | benchmark.scores(boxes) | size_of(_load(cfg)())
    write_json(folder / "result.json", result)
    _print_table(result)
    log.info("results in %s", folder)


def _find_near_truth(cfg: DictConfig, benchmark: Benchmark) -> None:
    """Scores the checkpoint by the open-loop pair metric."""
    tracker = _load(cfg)().tracker.to(cfg.device)
    found = open_loop(tracker, benchmark.sequences)
    about = {"checkpoint": str(cfg.checkpoint), "benchmark": benchmark.name, "protocol": PROTOCOL}
    write_json(Path(cfg.paths.job) / "open_loop.json", about | found)
    table = Table("benchmark", *found)
    table.add_row(benchmark.name, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in found.values()))
    Console().print(table)


def _tracked(cfg: DictConfig, benchmark: Benchmark) -> Made:
    """The result files of the checkpoint's tracker on the benchmark: found, completed or made."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    depends = {key: plain[key] for key in ("tracker", "gates")} | {"checkpoint": identity(cfg.checkpoint)}
    runner = instantiate(cfg.runner)
    stage = Stage(
        "evaluation",
        depends | benchmark.tracked(),
        lambda folder: runner.run(_load(cfg), benchmark.sequences, folder / "boxes" / benchmark.name),
    )
    return ensure(stage, Path(cfg.paths.cache) / "stages", _since(cfg))


def _load(cfg: DictConfig) -> Callable[[], Checkpoint]:
    recipe = OmegaConf.to_container(cfg.tracker, resolve=True)
    return partial(load_checkpoint, cfg.checkpoint, recipe, instantiate(cfg.gates))


def _complete_recipe(cfg: DictConfig) -> None:
    """Puts the changes that `cfg.tracker` holds into the checkpoint's recipe, which takes its place."""
    recipe = OmegaConf.merge(recipe_of(cfg.checkpoint), cfg.tracker)
    OmegaConf.update(cfg, "tracker", recipe, merge=False)


def _since(cfg: DictConfig) -> float:
    """With `force`, the moment before which nothing counts as done: of a sweep its begin, so that its jobs share."""
    if not cfg.force:
        return 0.0
    began = Path(HydraConfig.get().sweep.dir) / BEGAN
    return began.stat().st_mtime if HydraConfig.get().mode == RunMode.MULTIRUN and began.is_file() else time.time()


@contextmanager
def _one_message(*errors: type[Exception]) -> Iterator[None]:
    """Such an error ends a run with one message; in a sweep it fails that job, and the others go on."""
    try:
        yield
    except errors as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise ValueError(str(cause)) from error
        raise SystemExit(f"error: {cause}") from None


def _use_threads(cfg: DictConfig) -> None:
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
        cv2.setNumThreads(cfg.threads)


def _print_table(result: dict[str, Any]) -> None:
    table = Table(caption=f"{result['params']:,} parameters, {result['macs']['total'] / 1e9:.3f} G MACs a frame")
    metrics, still = result["metrics"], result["still_box"]
    names = list(dict.fromkeys(name for report in metrics.values() for name in scores_of(report)))
    for column in ("benchmark", "protocol", *names, f"{names[0]} of a still box"):
        table.add_column(column, justify="left" if column in ("benchmark", "protocol") else "right")
    for benchmark, report in metrics.items():
        values = [report.get(name) for name in names] + [still[benchmark].get(names[0])]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        table.add_row(benchmark, report["protocol"], *cells)
    Console(width=max(Console().width, 100)).print(table)
