"""The command behind eval.py: scores a checkpoint on a benchmark, or packs its results for a server."""

import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from evaluation.commands import (
    forcing_command,
    invocation_of_hydra,
    reported,
    resolve,
    write_fake_data,
)
from evaluation.errors import UserError
from evaluation.files import link_or_copy, write_json
from evaluation.processes.devices import arithmetic
from evaluation.processes.last_words import course
from evaluation.report.files_guide import files_guide, show_command
from evaluation.report.result_table import result_table
from evaluation.study.job_records import record_job
from evaluation.study.job_result import size_of
from evaluation.study.parent_source import ParentSource
from evaluation.study.provenance import provenance
from evaluation.study.stage import FinishedStage, Stage, ensure, position
from evaluation.tracking.benchmark import Benchmark, build_benchmark
from evaluation.tracking.benchmark_run import run_benchmark
from evaluation.tracking.open_loop import PROTOCOL, open_loop
from evaluation.tracking.result_files import tracking_progress
from evaluation.tracking.sequence_results import SEQUENCES
from trackers.checkpoints.checkpoint import Checkpoint, load_checkpoint

log = logging.getLogger(__name__)

ACTIONS = ("score", "submit", "open_loop")


def evaluate(cfg: DictConfig) -> None:
    """Scores one checkpoint on one benchmark, or packs its results for a server, as conf/eval.yaml says."""
    invocation = invocation_of_hydra()
    with reported(invocation):
        cfg, source = resolve(cfg, invocation, completes_recipe=True)
        if cfg.action not in ACTIONS:
            raise UserError(f"action={cfg.action} is not known; choose one of {', '.join(ACTIONS)}")
        write_fake_data(cfg)
        benchmark = build_benchmark(cfg.benchmark)
        if cfg.action == "submit":
            benchmark.check_packable()
        else:
            benchmark.check_scorable()
        folder = Path(cfg.paths.job)
        OmegaConf.save(cfg, folder / "config.yaml")
        if cfg.action == "open_loop":
            _score_open_loop(cfg, benchmark)
            return
        tracked = _track(cfg, source, benchmark, forcing_command(cfg, invocation))
        boxes = tracked.folder / "boxes" / benchmark.name
        if cfg.action == "submit":
            assert benchmark.pack is not None  # see `check_packable`
            archive = Path(cfg.archive).absolute()
            benchmark.pack(boxes, benchmark.sequences, archive)
            record = {"checkpoint": str(cfg.checkpoint), "benchmark": benchmark.name, "archive": str(archive)}
            write_json(folder / "submission.json", record | {"stages": _makers(tracked)} | provenance())
            print(files_guide(folder, archive=archive))
            return
        shutil.copytree(boxes, folder / "boxes" / benchmark.name, copy_function=link_or_copy, dirs_exist_ok=True)
        scores = benchmark.scores(boxes)
        scores.pop("sequences").write(folder / SEQUENCES)
        result = {"checkpoint": str(cfg.checkpoint)} | scores | size_of(_loader(cfg)(), Path(cfg.checkpoint))
        result |= {"stages": _makers(tracked)} | provenance()
        write_json(folder / "result.json", result)
        print(f"\n{result_table(result)}\n")
        if invocation.is_sweep:  # the last lines of the sweep tell about the files
            log.info("results in %s", folder)
        else:
            print(files_guide(folder, show_command([cfg.checkpoint], invocation.overrides, invocation.benchmark)))


def _makers(tracked: FinishedStage) -> dict[str, Any]:
    """Returns which stage has the boxes, and what made it; that may be another commit on another machine."""
    return {"evaluation": {"key": tracked.folder.name} | tracked.provenance}


def _score_open_loop(cfg: DictConfig, benchmark: Benchmark) -> None:
    """Scores the checkpoint by the open-loop pair metric."""
    tracker = _loader(cfg)().tracker.to(cfg.device)
    scores = open_loop(tracker, benchmark.sequences)
    name = benchmark.with_coverage(benchmark.name)
    record = {"checkpoint": str(cfg.checkpoint), "benchmark": name, "protocol": PROTOCOL}
    write_json(Path(cfg.paths.job) / "open_loop.json", record | scores | provenance())
    table = Table("benchmark", *scores)
    table.add_row(name, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in scores.values()))
    Console().print(table)
    print(files_guide(Path(cfg.paths.job)))


def _track(cfg: DictConfig, source: ParentSource, benchmark: Benchmark, command: str) -> FinishedStage:
    """Tracks the benchmark with the checkpoint, unless the cache has its result files."""
    settings: Any = OmegaConf.to_container(cfg)
    keys = {key: settings[key] for key in ("tracker", "gates")} | {"checkpoint": source.identity}
    keys["arithmetic"] = arithmetic(cfg.runner.devices)
    runner, stages = instantiate(cfg.runner), Path(cfg.paths.cache) / "stages"

    def make(folder: Path) -> None:
        run_benchmark(runner, _loader(cfg), benchmark, folder, tracker=keys, reuse=not command)

    def progress(folder: Path) -> str:
        return tracking_progress(folder / "boxes" / benchmark.name, benchmark.sequences)

    stage = Stage("evaluation", keys | benchmark.tracking_inputs(), make, progress=progress)
    record_job(stages, Path(cfg.paths.job), [stage.key])
    course.begin_job(partial(position, [stage], stages, command))
    return ensure(stage, stages, command)


def _loader(cfg: DictConfig) -> Callable[[], Checkpoint]:
    """Returns a function that loads the checkpoint. It can be pickled, so other processes can call it."""
    recipe: Any = OmegaConf.to_container(cfg.tracker)
    return partial(load_checkpoint, cfg.checkpoint, recipe, instantiate(cfg.gates))
