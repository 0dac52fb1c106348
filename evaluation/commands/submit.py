"""Packs the results of a tracker for the server of a benchmark: `action=submit`."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.commands.evaluated_tracker import EvaluatedTracker, makers_of, only_tracker, track, write_config
from evaluation.commands.setup import forcing_command
from evaluation.files import write_json
from evaluation.processes.invocation import Invocation
from evaluation.report.files_guide import files_guide
from evaluation.study.provenance import provenance
from evaluation.tracking.benchmark import Benchmark


def submit(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, invocation: Invocation) -> None:
    """Packs the results of one tracker for the server of the benchmark."""
    cfg = only_tracker(trackers, "submit").cfg
    benchmark.check_packable()
    write_config(trackers)
    (tracked,) = track(trackers, benchmark, forcing_command(cfg, invocation))
    assert benchmark.pack is not None  # see `check_packable`
    archive = Path(cfg.archive).absolute()
    benchmark.pack(tracked.folder / "boxes" / benchmark.name, benchmark.sequences, archive)
    record = {"checkpoint": str(cfg.checkpoint), "benchmark": benchmark.name, "archive": str(archive)}
    write_json(Path(cfg.paths.job) / "submission.json", record | {"stages": makers_of(tracked)} | provenance())
    print(files_guide(Path(cfg.paths.job), archive=archive))
