"""The command behind eval.py: scores trackers on a benchmark, compares or draws them, or packs results for a server."""

from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from evaluation.commands.compare import compare
from evaluation.commands.evaluated_tracker import EvaluatedTracker, evaluated_trackers, makers_of, track, write_config
from evaluation.commands.setup import forcing_command, invocation_of_hydra, print_files, reported, write_fake_data
from evaluation.commands.show import show
from evaluation.errors import UserError
from evaluation.files import link_folder, write_json
from evaluation.processes.invocation import Invocation
from evaluation.report.files_guide import files_guide, show_command
from evaluation.report.result_table import result_table
from evaluation.study.job_result import size_of
from evaluation.study.provenance import provenance
from evaluation.tracking.benchmark import Benchmark, build_benchmark
from evaluation.tracking.open_loop import PROTOCOL, open_loop
from evaluation.tracking.sequence_results import SEQUENCES
from trackers.online import Lockstep


def evaluate(cfg: DictConfig) -> None:
    """Does with one checkpoint or several what `cfg.action` says, see conf/eval.yaml."""
    invocation = invocation_of_hydra()
    with reported(invocation):
        if cfg.action not in ACTIONS:
            raise UserError(f"action={cfg.action} is not known; choose one of {', '.join(ACTIONS)}")
        trackers = evaluated_trackers(cfg, invocation)
        cfg = trackers[0].cfg
        write_fake_data(cfg)
        benchmark = build_benchmark(cfg.benchmark)
        ACTIONS[cfg.action](trackers, benchmark, invocation)


def score(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, invocation: Invocation) -> None:
    """Scores one tracker, or compares several."""
    benchmark.check_scorable()
    if len(trackers) > 1:
        return compare(trackers, benchmark, invocation)
    (tracker,) = trackers
    cfg = tracker.cfg
    write_config(trackers)
    (tracked,) = track(trackers, benchmark, forcing_command(cfg, invocation))
    boxes, folder = tracked.folder / "boxes" / benchmark.name, Path(cfg.paths.job)
    link_folder(boxes, folder / "boxes" / benchmark.name)
    scores = benchmark.scores(boxes)
    scores.pop("sequences").write(folder / SEQUENCES)
    result = {"checkpoint": str(cfg.checkpoint)} | scores | size_of(tracker.loader()(), Path(cfg.checkpoint))
    result |= {"stages": makers_of(tracked)} | provenance()
    write_json(folder / "result.json", result)
    print(f"\n{result_table(result)}\n")
    print_files(folder, show_command([cfg.checkpoint], invocation.overrides, invocation.benchmark), invocation)
    return None


def submit(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, invocation: Invocation) -> None:
    """Packs the results of one tracker for the server of the benchmark."""
    cfg = _only(trackers, "submit").cfg
    benchmark.check_packable()
    write_config(trackers)
    (tracked,) = track(trackers, benchmark, forcing_command(cfg, invocation))
    assert benchmark.pack is not None  # see `check_packable`
    archive = Path(cfg.archive).absolute()
    benchmark.pack(tracked.folder / "boxes" / benchmark.name, benchmark.sequences, archive)
    record = {"checkpoint": str(cfg.checkpoint), "benchmark": benchmark.name, "archive": str(archive)}
    write_json(Path(cfg.paths.job) / "submission.json", record | {"stages": makers_of(tracked)} | provenance())
    print(files_guide(Path(cfg.paths.job), archive=archive))


def score_open_loop(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, invocation: Invocation) -> None:
    """Scores one tracker by the open-loop pair metric, which no stage of the cache holds."""
    tracker = _only(trackers, "open_loop")
    cfg = tracker.cfg
    benchmark.check_scorable()
    write_config(trackers)
    scores = open_loop(Lockstep(tracker.loader()().tracker, cfg.device), benchmark.sequences)
    name = benchmark.with_coverage(benchmark.name)
    record = {"checkpoint": str(cfg.checkpoint), "benchmark": name, "protocol": PROTOCOL}
    write_json(Path(cfg.paths.job) / "open_loop.json", record | scores | provenance())
    definitions = "\n".join(f"{name}: {words}" for name, words in PROTOCOL.items())
    table = Table("benchmark", *scores, caption=definitions, caption_justify="left")
    table.add_row(name, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in scores.values()))
    Console().print(table)
    print(files_guide(Path(cfg.paths.job)))


def _only(trackers: Sequence[EvaluatedTracker], action: str) -> EvaluatedTracker:
    """Returns the only tracker.

    Raises:
        UserError: there are several.
    """
    if len(trackers) > 1:
        paths = ",".join(str(tracker.cfg.checkpoint) for tracker in trackers)
        raise UserError(f"action={action} takes one checkpoint; for one after the other, give -m checkpoint={paths}")
    return trackers[0]


ACTIONS: dict[str, Callable[[Sequence[EvaluatedTracker], Benchmark, Invocation], None]] = {
    "score": score,
    "submit": submit,
    "open_loop": score_open_loop,
    "show": show,
}
