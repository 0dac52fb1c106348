"""Compares several trackers on one benchmark."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.sequences.attributes import Attributes
from evaluation.commands.checkpoint_kinds import size_in
from evaluation.commands.evaluated_tracker import EvaluatedTracker, makers_of, track, write_config
from evaluation.commands.setup import console, forcing_command, print_files
from evaluation.export.timing.network_latency import compare_speed
from evaluation.files import link_folder, write_bytes, write_json
from evaluation.processes.command_state import command_state
from evaluation.processes.devices import device_type
from evaluation.processes.invocation import Invocation
from evaluation.report.comparison.page import comparison_page
from evaluation.report.comparison.plots import draw_curves
from evaluation.report.comparison.tables import terminal_tables
from evaluation.report.comparison.words import Comparison, headline, notes
from evaluation.report.files_guide import show_command
from evaluation.report.pictures.shown_sequence import ShownSequence
from evaluation.study.provenance import provenance
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.comparison_result import describe_comparison, write_sequences
from evaluation.tracking.result_files import read_boxes
from evaluation.tracking.sequence_results import SEQUENCES, SequenceResults
from trackers.base import Tracker

FRAMES = 8  # of a sequence on the page


def compare(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, invocation: Invocation) -> None:
    """Scores the trackers on one benchmark, compares them with the first one, and writes what it found.

    The job's folder gets `comparison.json`, `comparison.html`, `sequences.csv`, `plots/` and `boxes/<tracker>/`.
    """
    cfg = trackers[0].cfg
    folder = Path(cfg.paths.job)
    write_config(trackers)
    boxes = {}
    results: dict[str, dict[str, Any]] = {}
    found = track(trackers, benchmark, forcing_command(cfg, invocation))
    for tracker, tracked in zip(trackers, found, strict=True):
        boxes[tracker.name] = folder / "boxes" / tracker.name / benchmark.name
        link_folder(tracked.folder / "boxes" / benchmark.name, boxes[tracker.name])
        about = {"checkpoint": str(tracker.cfg.checkpoint), "stages": makers_of(tracked)}
        results[tracker.name] = about | benchmark.scores(boxes[tracker.name])
    sequences = {name: result.pop("sequences") for name, result in results.items()}
    attributes = _attributes(benchmark)
    speeds = _measure(trackers, results, cfg.device)
    comparison = describe_comparison(results, sequences, attributes) | {"speedup": speeds} | provenance()
    write_json(folder / "comparison.json", comparison)
    write_sequences(folder / SEQUENCES, sequences, attributes)
    _write_page(folder, comparison, benchmark, boxes, sequences)
    for table in terminal_tables(comparison):
        console(120).print(table)
    for sentence in filter(None, (*headline(comparison), *notes(comparison), comparison["attributes_note"])):
        console(120).print(sentence, highlight=False, markup=False)
    checkpoints = [str(tracker.cfg.checkpoint) for tracker in trackers]
    print()
    print_files(folder, show_command(checkpoints, invocation.overrides, invocation.benchmark), invocation)


def _attributes(benchmark: Benchmark) -> Attributes | None:
    """Returns the attributes of the sequences; None if the data set has none. A file that is no use is only a note."""
    if benchmark.sequences.read_attributes is None:
        return None
    try:
        return benchmark.sequences.read_attributes(benchmark.sequences.names)
    except DataError as error:
        return Attributes({}, f"attributes cannot be read: {error}")


def _measure(
    trackers: Sequence[EvaluatedTracker], results: dict[str, dict[str, Any]], device: str
) -> dict[str, dict[str, Any]]:
    """Adds the sizes to the results, and returns the speeds relative to the first tracker, by tracker and device.

    Networks are timed, so exports and OpenCV's trackers have no speed here; action=profile times all trackers.
    """
    first: Tracker | None = None
    speeds = {}
    for number, tracker in enumerate(trackers):
        read = tracker.read()
        results[tracker.name] |= size_in(read, str(tracker.cfg.checkpoint))
        network = read if isinstance(read, Tracker) else None
        if number == 0:
            first = network
        elif first is not None and network is not None:
            latency, speed = compare_speed(network, first, device)
            results[tracker.name]["latency"] = {device_type(device): latency["child"]}
            results[trackers[0].name].setdefault("latency", {device_type(device): latency["parent"]})
            speeds[tracker.name] = {device_type(device): speed}
    return speeds


def _write_page(
    folder: Path,
    comparison: Comparison,
    benchmark: Benchmark,
    boxes: dict[str, Path],
    sequences: dict[str, SequenceResults],
) -> None:
    figures = list(draw_curves({name: benchmark.curves(of) for name, of in boxes.items()}))
    for figure in figures:
        write_bytes(folder / "plots" / f"{figure.name}.svg", figure.svg)
        write_bytes(folder / "plots" / f"{figure.name}.png", figure.png)
    sheets = dict(_sheets(comparison, benchmark, boxes))
    command = command_state.given_command()
    page = comparison_page(comparison, figures, sheets, _rows(comparison, sequences), command)
    write_bytes(folder / "comparison.html", page.encode())


def _sheets(comparison: Comparison, benchmark: Benchmark, boxes: dict[str, Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a caption and a contact sheet for the largest loss and the largest gain of any tracker."""
    changes = [(name, change) for name, found in comparison["changes"].items() for change in found]
    by_name = {video.name: video for video in benchmark.sequences} if changes else {}
    for word, chosen in (("loss", min), ("gain", max)):
        found = [item for item in changes if (item[1]["difference"] > 0) == (word == "gain")]
        if found:
            name, change = chosen(found, key=lambda item: item[1]["difference"])
            video = by_name[change["sequence"]]
            tracks = {other: read_boxes(of, video) for other, of in boxes.items()}
            caption = f"{video.name}: the largest {word}, of {name}, is {abs(change['difference']):.3f}"
            yield caption, ShownSequence(video, tracks).sheet(FRAMES)


def _rows(comparison: Comparison, sequences: dict[str, SequenceResults]) -> list[dict[str, Any]]:
    """Returns the main metric of each tracker on each sequence, see `comparison_page`."""
    report, metric, first = comparison["benchmark"], comparison["metric"], sequences[comparison["first"]]
    return [
        {
            "sequence": name,
            "frames": first.frames[i],
            "scores": {tracker: float(of.scores[report].values[metric][i]) for tracker, of in sequences.items()},
        }
        for i, name in enumerate(first.scores[report].names)
    ]
