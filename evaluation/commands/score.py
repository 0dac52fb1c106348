"""Scores one tracker on a benchmark, or compares several: `action=score`."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.commands.compare import compare
from evaluation.commands.evaluated_tracker import EvaluatedTracker, makers_of, track, write_config
from evaluation.commands.setup import forcing_command, print_files
from evaluation.files import link_folder, write_json
from evaluation.processes.invocation import Invocation
from evaluation.report.files_guide import show_command
from evaluation.report.result_table import result_table
from evaluation.study.provenance import provenance
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.sequence_results import SEQUENCES


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
    result = {"checkpoint": str(cfg.checkpoint)} | scores | tracker.size()
    result |= {"stages": makers_of(tracked)} | provenance()
    write_json(folder / "result.json", result)
    print(f"\n{result_table(result)}\n")
    print_files(folder, show_command([cfg.checkpoint], invocation.overrides, invocation.benchmark), invocation)
    return None
