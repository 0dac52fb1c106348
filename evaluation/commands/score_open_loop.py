"""Scores a tracker on pairs of frames: `action=open_loop`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluation.commands.evaluated_tracker import EvaluatedTracker, only_tracker, write_config
from evaluation.errors import UserError
from evaluation.files import write_json
from evaluation.processes.invocation import Invocation
from evaluation.report.files_guide import files_guide
from evaluation.study.provenance import provenance
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.open_loop import PROTOCOL, open_loop
from trackers.opencv import is_opencv


def score_open_loop(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, invocation: Invocation) -> None:
    """Scores one tracker by the open-loop pair metric, which no stage of the cache holds."""
    tracker = only_tracker(trackers, "open_loop")
    cfg = tracker.cfg
    if is_opencv(cfg.checkpoint):
        raise UserError(f"action=open_loop asks for the target near given boxes, which {cfg.checkpoint} cannot answer")
    benchmark.check_scorable()
    write_config(trackers)
    scores = open_loop(tracker.open(), benchmark.sequences)
    name = benchmark.with_coverage(benchmark.name)
    record = {"checkpoint": str(cfg.checkpoint), "benchmark": name, "protocol": PROTOCOL}
    write_json(Path(cfg.paths.job) / "open_loop.json", record | scores | provenance())
    definitions = "\n".join(f"{name}: {words}" for name, words in PROTOCOL.items())
    table = Table("benchmark", *scores, caption=definitions, caption_justify="left")
    table.add_row(name, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in scores.values()))
    Console().print(table)
    print(files_guide(Path(cfg.paths.job)))
