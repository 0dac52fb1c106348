"""Measures trackers in runtimes: `action=profile`."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from evaluation.commands.evaluated_tracker import EvaluatedTracker, evaluated_trackers, write_config
from evaluation.commands.profile_scores import scores_at_hand
from evaluation.commands.runtimes import runtimes_of
from evaluation.export.timing.frame_times import CallClock, profile_video, protocol, time_frames, warmed_up
from evaluation.export.timing.matrix_product import fastest_product
from evaluation.export.timing.peak_memory import peak_memories
from evaluation.files import write_bytes, write_csv, write_json
from evaluation.processes.command_state import command_state
from evaluation.processes.invocation import Invocation
from evaluation.processes.processor import instruction_sets, processor_name
from evaluation.report.files_guide import files_guide
from evaluation.report.formatting import wrapped
from evaluation.report.profile_plot import ProfilePoint, draw_profile
from evaluation.report.profile_tables import csv_rows, markdown, notes, terminal_tables
from evaluation.study.provenance import provenance
from evaluation.tracking.metrics.bootstrap import Interval
from trackers.exported import ExportedTracker
from trackers.loading import load_tracker
from trackers.online import OnlineTracker
from trackers.opencv import RUNTIME as OPENCV
from trackers.opencv import OpenCVRuntime, OpenCVTracker

log = logging.getLogger(__name__)

DEFAULT = "eager"  # runtime of a checkpoint
# Types of numbers that products are computed in, by the precision of weights; fp32 for all others.
COMPUTED_IN = {"bf16": "bf16", "int8": "int8"}
NO_SIZE = {"params": None, "macs": None, "bytes": None}


def profile(cfg: DictConfig, invocation: Invocation) -> None:
    """Measures size, memory and speed of each tracker of `cfg.checkpoint` in each runtime of `cfg.runtime`.

    The job's folder gets `profile.json`, `profile.csv` and `profile.md`, and a picture of latency against accuracy if
    scores are at hand.
    """
    runtimes = runtimes_of(cfg.runtime)
    trackers = evaluated_trackers(cfg, invocation)
    cfg = trackers[0].cfg
    checkpoints = {tracker.name: str(tracker.cfg.checkpoint) for tracker in trackers}
    scores = scores_at_hand(checkpoints, cfg.profile.scores)
    folder = Path(cfg.paths.job)
    write_config(trackers)
    command_state.can_go_on = False  # times of two runs cannot be compared, so nothing of a stopped one is kept
    content = provenance() | _measure(trackers, runtimes, cfg) | {"scores": scores}
    write_json(folder / "profile.json", content)
    rows = csv_rows(content)
    write_csv(folder / "profile.csv", list(dict.fromkeys(name for row in rows for name in row)), rows)
    write_bytes(folder / "profile.md", markdown(content).encode())
    if points := _points(content):
        (score, *_) = scores.values()
        figure = draw_profile(points, score["metric"], score["benchmark"], score["still_box"])
        write_bytes(folder / "plots" / f"{figure.name}.svg", figure.svg)
        write_bytes(folder / "plots" / f"{figure.name}.png", figure.png)
    for table in terminal_tables(content):
        Console(width=80).print(table)
    print("\n".join(map(wrapped, notes(content))), end="\n\n")
    print(files_guide(folder))


def _measure(trackers: Sequence[EvaluatedTracker], runtimes: Sequence[str], cfg: DictConfig) -> dict[str, Any]:
    """Returns the content of the profile, without scores."""
    video, threads, device = profile_video(), torch.get_num_threads(), str(cfg.device)
    cv2.setNumThreads(threads)
    rows = [(tracker.name, *row) for tracker in trackers for row in _rows(tracker, runtimes)]
    loads = [
        partial(load_tracker, **reading, device=device, runtime=runtime, threads=threads)
        for _, reading, runtime, _ in rows
    ]
    sizes = {tracker.name: NO_SIZE | tracker.size() for tracker in trackers}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("opening", total=len(loads))
        opened: list[OnlineTracker] = []
        for load in loads:
            opened.append(warmed_up(load(), video))
            progress.advance(bar)
    height, width = video.frames[0].shape[:2]
    memories = peak_memories(loads, (width, height), device, threads) if cfg.profile.memory else [None] * len(loads)
    clocks = {i: CallClock.around_network(tracker, device) for i, tracker in enumerate(opened) if _has_network(tracker)}
    log.info("timing %d rows in %d rounds, at most %g s", len(rows), cfg.profile.rounds, cfg.profile.seconds)
    computed = [COMPUTED_IN.get(precision or "", "fp32") for _, _, _, precision in rows]
    products = {precision: fastest_product(device, precision) for precision in dict.fromkeys(computed)}
    times, rates = time_frames(
        dict(enumerate(opened)), clocks, products, video, device, cfg.profile.rounds, cfg.profile.seconds
    )
    return {
        "trackers": {
            tracker.name: {"checkpoint": str(tracker.cfg.checkpoint)} | sizes[tracker.name] for tracker in trackers
        },
        "rows": [
            {"tracker": name, "runtime": runtime, "precision": precision}
            | times[i].describe(times[0], rates[computed[i]], (sizes[name]["macs"] or {}).get("total"))
            | {"memory": memories[i]}
            for i, (name, _, runtime, precision) in enumerate(rows)
        ],
        "peaks": {
            precision: {
                "gflops": 2e-9 * float(np.median(rate)),
                "best": 2e-9 * float(rate.max()),
                "product": products[precision].words,
            }
            for precision, rate in rates.items()
        },
        "protocol": protocol(video, len(times[0].whole)),
        "machine": {
            "cpu": processor_name(),
            "instruction_sets": instruction_sets(),
            "threads": threads,
            "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        },
    }


def _rows(tracker: EvaluatedTracker, runtimes: Sequence[str]) -> Iterator[tuple[dict[str, Any], str, str | None]]:
    """Yields how the tracker is read, the runtime and the precision of each row of a tracker.

    An export has those runtimes that read it, or else its own. OpenCV's trackers run in OpenCV.
    """
    reading, read = tracker.reading, tracker.read()
    if isinstance(read, OpenCVTracker):
        yield reading, OPENCV, None
    elif isinstance(read, ExportedTracker):
        for runtime in [runtime for runtime in runtimes if runtime in read.readers] or [read.runtime]:
            yield reading, runtime, read.precision
    else:
        for runtime in runtimes or [DEFAULT]:
            yield reading, runtime, "fp32"


def _has_network(tracker: OnlineTracker) -> bool:
    """Returns whether a tracker's network can be timed alone. OpenCV does not tell the time of its networks."""
    return not isinstance(tracker.loop.runtime, OpenCVRuntime)


def _points(content: dict[str, Any]) -> list[ProfilePoint]:
    """Returns the rows whose trackers have a score."""
    points = []
    for row in content["rows"]:
        if score := content["scores"].get(row["tracker"]):
            interval = Interval(score["interval"]["low"], score["interval"]["high"]) if score["interval"] else None
            ms, p95 = row["frame"]["median"], row["frame"]["p95"]
            points.append(ProfilePoint(row["tracker"], row["runtime"], ms, p95, score["score"], interval))
    return points
