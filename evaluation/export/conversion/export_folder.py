"""Writing of an exported tracker: graphs and `tracker.json` in a folder that appears only when it is complete."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from evaluation.errors import UserError
from evaluation.export.conversion.onnx_precision import Sample, quantised, with_half_weights
from evaluation.export.conversion.openvino_model import write_openvino
from evaluation.export.conversion.parity import TOLERANCES, Parity, compare, track
from evaluation.export.conversion.watched_runtimes import RecordingRuntime
from evaluation.export.rendered_video import render_trial
from evaluation.files import write_json
from trackers.base import Tracker
from trackers.errors import CheckpointError
from trackers.exported import ABOUT, ENDINGS, FORMAT, ExportedTracker, graph_data, graph_files
from trackers.recipe_data.plain import plain
from trackers.runtimes.conversion import converted
from trackers.runtimes.graph_spec import GraphSpec

PIXELS = "pixels"  # input of the graphs that read pictures
CALIBRATION = (1, 3, 5, 6)  # seeds of the videos; parity is measured on another one
PARITY_SEED, FRAMES = 2, 24


@dataclass(frozen=True)
class Export:
    """A complete export.

    Attributes:
        folder: the folder.
        sizes: bytes of each graph.
        quantised: graphs that compute with integers.
        parity: differences from PyTorch.
    """

    folder: Path
    sizes: Mapping[str, int]
    quantised: tuple[str, ...]
    parity: Parity


def write_export(
    tracker: Tracker, folder: Path, runtime: str, precision: str, about: Mapping[str, Any], frames: int = FRAMES
) -> Export:
    """Converts a tracker, compares the result with PyTorch, and writes it.

    Args:
        tracker: the tracker, which is put into evaluation mode on the CPU.
        folder: where the export is written. An export that is there already is replaced, if nothing else lies with it.
        runtime: "onnx" or "openvino".
        precision: one of `trackers.exported.PRECISIONS` of the runtime.
        about: further entries of `tracker.json`, e.g. the provenance.
        frames: number of frames of each video for calibration and comparison.

    Raises:
        UserError: the folder holds something else, or the export differs from PyTorch by more than `TOLERANCES`. No
            folder is left.
        TrackerError: a package for the conversion is not installed.
    """
    tracker.to("cpu").eval()
    with _new_folder(folder) as unfinished:
        models, specs = converted(tracker.graphs())
        samples = _calibration(tracker, specs, frames) if precision == "int8" else {}
        files = {}
        for name, model in models.items():
            files[name] = f"{name}{ENDINGS[runtime]}"
            _write_graph(model, specs[name], unfinished / files[name], runtime, precision, samples.get(name, []))
        data = {
            "version": FORMAT,
            "format": runtime,
            "precision": precision,
            "rules": plain(tracker.rules()),
            "graphs": {name: graph_data(spec, unfinished / files[name]) for name, spec in specs.items()},
            "quantised": list(samples),
        }
        write_json(unfinished / ABOUT, data)
        parity = compare(tracker, ExportedTracker.read(unfinished), render_trial(frames, PARITY_SEED))
        if fault := parity.fault(TOLERANCES[precision]):
            raise UserError(
                f"the export in {precision} is not written, because it differs from PyTorch: {fault}; "
                + ("use precision=fp32" if precision != "fp32" else "use the other format, or runtime=eager")
            )
        write_json(unfinished / ABOUT, data | {"parity": parity.to_dict()} | dict(about))
        sizes = {name: _size(unfinished / file) for name, file in files.items()}
    return Export(folder, sizes, tuple(samples), parity)


def _write_graph(
    model: bytes, spec: GraphSpec, file: Path, runtime: str, precision: str, samples: list[Sample]
) -> None:
    if runtime == "openvino":
        write_openvino(model, spec, file, precision == "fp16", samples)
    elif samples:
        file.write_bytes(quantised(model, samples))
    else:
        file.write_bytes(with_half_weights(model) if precision == "fp16" else model)


def _calibration(tracker: Tracker, specs: Mapping[str, GraphSpec], frames: int) -> dict[str, list[Sample]]:
    """Returns inputs of the graphs that compute with integers, from tracks of rendered videos.

    These are the graphs that read the pixels of every frame. Other graphs would gain nothing: they run once, or refine
    a box or a filter in steps, which need the precision.
    """
    rules, eager = tracker.open("eager", "cpu", None)
    recording = RecordingRuntime(eager)
    for seed in CALIBRATION:
        track(rules, recording, render_trial(frames, seed))
    return {
        name: [specs[name].arrays(sample) for sample in found]
        for name, found in recording.inputs.items()
        if PIXELS in specs[name].inputs and len(found) == len(CALIBRATION) * (frames - 1)
    }


def _size(file: Path) -> int:
    """Returns the bytes of a graph's files."""
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.stem}.*"))


def _no_part_of_an_export(folder: Path) -> str:
    """Returns the name of something that no export has, in a folder or in place of it; "" if there is nothing."""
    if not folder.is_dir():
        return "a file"
    paths = sorted(folder.iterdir())
    try:
        export = ExportedTracker.read(folder) if paths else None
    except CheckpointError:  # the file of another program may have the same name
        return ABOUT if (folder / ABOUT).exists() else paths[0].name
    known = {ABOUT, *(part.name for file in export.files.values() for part in graph_files(file))} if export else set()
    return next((path.name for path in paths if path.name not in known), "")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder that gets the name `folder` when the block ends, and is deleted after an error."""
    folder = folder.resolve()  # "." has no name, and a link stays where it is
    if folder.exists() and (other := _no_part_of_an_export(folder)):
        raise UserError(
            f"folder={folder} holds something that is no export ({other}), and all in it would be replaced; choose a "
            "folder that is not there yet"
        )
    unfinished, old = (folder.with_name(f".{folder.name}.{uuid4().hex}") for _ in range(2))
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:  # a file in the place of a folder, no rights, a name that is too long
        raise UserError(f"folder={folder} cannot be made ({error.strerror}); choose another folder") from error
    try:
        yield unfinished
        if folder.exists():
            folder.rename(old)
        unfinished.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (unfinished, old):
            shutil.rmtree(rest, ignore_errors=True)
