"""Tracks a benchmark into the folder of an evaluation, and reuses tracks of interrupted evaluations.

If somebody repairs a broken frame, the benchmark has another content, and so the evaluation gets another folder. The
tracks of all other sequences in the old folder are still right.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.files import link_or_copy, write_json
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.result_files import is_tracked, result_paths
from evaluation.tracking.runner import Runner
from trackers.online import Openable

INPUTS = "inputs.json"  # file that says which sequences an evaluation tracks, and with which tracker


def run_benchmark(
    runner: Runner, read: Callable[[], Openable], benchmark: Benchmark, folder: Path, tracker: Any, reuse: bool
) -> None:
    """Writes the result files of all sequences to `folder/boxes/<benchmark>`.

    Args:
        runner: runs the tracker.
        read: returns the tracker; with several workers it must be picklable.
        benchmark: the benchmark.
        folder: of the evaluation. Other evaluations lie beside it.
        tracker: plain data: all that boxes depend on besides the sequences.
        reuse: whether result files of interrupted evaluations are reused.

    Raises:
        SequencesFailedError: tracking failed on some sequences.
    """
    boxes = folder / "boxes" / benchmark.name
    inputs = {"tracker": tracker, "sequences": benchmark.sequences.tracker_inputs()}
    write_json(folder / INPUTS, inputs)
    for note in folder.parent.glob(f"evaluation-*.unfinished/{INPUTS}") if reuse else ():
        try:
            other = json.loads(note.read_text())
            if note.parent != folder and other["tracker"] == inputs["tracker"]:
                same = {name for name, seen in inputs["sequences"].items() if other["sequences"].get(name) == seen}
                _take_tracks(note.parent / "boxes" / benchmark.name, boxes, benchmark, same)
        except FileNotFoundError:
            continue  # another job has just finished that evaluation
    runner.run(read, benchmark.sequences, boxes)


def _take_tracks(found: Path, boxes: Path, benchmark: Benchmark, names: set[str]) -> None:
    """Links the complete result files of some sequences from one folder into another that lacks them."""
    for sequence in benchmark.sequences:
        if sequence.name in names and is_tracked(found, sequence) and not is_tracked(boxes, sequence):
            for source, target in zip(result_paths(found, sequence), result_paths(boxes, sequence), strict=True):
                if source.exists():  # there may be no presence
                    link_or_copy(source, target)
