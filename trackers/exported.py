"""Exported trackers: a folder of graphs and `tracker.json`, which holds the online rules as plain data.

An export is read and run without PyTorch. It may come from a stranger: `tracker.json` builds classes of `trackers`
alone, and names files of its own folder alone. Graphs are data of ONNX Runtime or OpenVINO, and hold no code.
"""

import hashlib
import json
import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackers.errors import CheckpointError, TrackerError
from trackers.recipe_data.building import build
from trackers.recipe_data.classes import TARGET
from trackers.recipe_data.values import check_value
from trackers.rules import OnlineRules
from trackers.runtimes.graph_spec import TYPES, GraphSpec, InputSpec
from trackers.runtimes.runtime import Runtime

ABOUT = "tracker.json"  # the file that makes a folder an export
FORMAT = "light-weight-trackers/export-1"
ENDINGS = {"onnx": ".onnx", "openvino": ".xml"}  # of graphs, by the runtime that an export is made for
PRECISIONS = {"onnx": ("fp32", "fp16", "int8"), "openvino": ("fp32", "fp16", "bf16", "int8")}  # by the same names
# Bounds on what a file may ask for. Our exports have 3 kB, 4 graphs, 7 inputs, 5 dims and a million numbers an input.
MAX_BYTES = 2**20
MAX_ENTRIES = 100
MAX_NUMBERS = 2**28
AGAIN = "export the tracker again, into a new folder: python eval.py action=export checkpoint=FILE folder=NEW"


@dataclass(frozen=True)
class ExportedTracker:
    """Tracker in a folder of an export, which is not opened yet.

    Attributes:
        folder: the folder.
        rules: what the tracker does in each frame.
        graphs: inputs and outputs of each graph.
        files: file of each graph.
        hashes: SHA-256 of each file of a graph, by its name.
        runtime: runtime that the export is made for.
        precision: "fp32", "fp16", "bf16" or "int8".
        about: everything that `tracker.json` says, e.g. provenance and parity.
    """

    folder: Path
    rules: OnlineRules
    graphs: Mapping[str, GraphSpec]
    files: Mapping[str, Path]
    hashes: Mapping[str, str]
    runtime: str
    precision: str
    about: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> "ExportedTracker":
        """Reads `tracker.json` in a folder.

        Raises:
            CheckpointError: there is no such file, it is damaged, asks for other classes than the online rules of
                `trackers`, or names a graph that is not in the folder.
        """
        folder = Path(folder)
        about = _read_json(folder / ABOUT)
        try:
            _check_format(about)
            runtime = _one_of("format", about.get("format"), ENDINGS)
            precision = _one_of("precision", about.get("precision"), PRECISIONS[runtime])
            graphs = _mapping("graphs", about.get("graphs"))
            files = {name: _file(folder, name, node, ENDINGS[runtime]) for name, node in graphs.items()}
            specs = {name: _spec(name, node) for name, node in graphs.items()}
            hashes = {
                file: value
                for name, node in graphs.items()
                for file, value in _mapping(f"graphs.{name}.sha256", node.get("sha256")).items()
            }
            return cls(folder, _rules(about.get("rules")), specs, files, hashes, runtime, precision, about)
        except TrackerError as error:
            raise CheckpointError(f"{folder / ABOUT} cannot be used: {error}") from None

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of the runtimes that read the graphs."""
        return ("onnx", "openvino") if self.runtime == "onnx" else ("openvino",)

    def open(
        self, runtime: str | None = None, device: Any = "cpu", threads: int | None = None
    ) -> tuple[OnlineRules, Runtime]:
        """Returns the rules, and what runs the graphs.

        Args:
            runtime: "onnx" or "openvino"; None for the one that the export is made for. OpenVINO also reads ONNX.
            device: "cpu"; also "cuda" with the GPU build of ONNX Runtime.
            threads: CPU threads; None leaves the number to the runtime.

        Raises:
            TrackerError: the runtime is not installed, does not read these graphs, or does not run on the device.
            CheckpointError: a file of a graph is not the one that was exported.
        """
        runtime = runtime or self.runtime
        self.check_reader(runtime)
        self._check_files()
        if runtime == "onnx":
            from trackers.runtimes.onnx_runtime import ONNXRuntime

            return self.rules, ONNXRuntime(self.files, self.graphs, device, threads)
        from trackers.runtimes.openvino_runtime import OpenVINORuntime

        return self.rules, OpenVINORuntime(self.files, self.graphs, device, threads, self.precision)

    def check_reader(self, runtime: str) -> None:
        """Checks that a runtime reads the graphs.

        Raises:
            TrackerError: it does not.
        """
        if runtime not in self.readers:
            raise TrackerError(
                f"runtime={runtime} cannot open {self.folder}, an export for {self.runtime}; use runtime="
                f"{' or '.join(self.readers)}, or give the checkpoint that was exported"
            )

    def _check_files(self) -> None:
        """Compares the files of the graphs with those that were exported: runtimes read damaged weights as others."""
        for graph, file in self.files.items():
            for part in graph_files(file):
                try:
                    found = _hash(part)
                except OSError as error:
                    raise CheckpointError(f"{part} cannot be read ({error.strerror}); copy the whole folder") from error
                if self.hashes.get(part.name) != found:
                    raise CheckpointError(
                        f"{part}, a file of graph {graph}, is not the one that was exported: it is damaged, or of "
                        f"another export; copy the whole folder again, or {AGAIN}"
                    )


def is_export(path: str | Path) -> bool:
    """Returns whether a path is a folder with `tracker.json`."""
    # Unlike pathlib, these functions take names that are too long, and folders that this user may not read.
    return os.path.isfile(os.path.join(path, ABOUT))  # noqa: PTH113, PTH118


def graph_files(file: Path) -> list[Path]:
    """Returns the files of a graph: OpenVINO has the weights in a file of their own."""
    return [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]


def graph_data(spec: GraphSpec, file: Path) -> dict[str, Any]:
    """Returns the entry of a graph in `tracker.json`.

    Args:
        spec: inputs and outputs of the graph.
        file: of the graph, complete.
    """
    inputs = {
        name: {"type": of.type, "shape": list(of.shape), "batched": of.batched} for name, of in spec.inputs.items()
    }
    hashes = {part.name: _hash(part) for part in graph_files(file)}
    return {"file": file.name, "sha256": hashes, "inputs": inputs, "outputs": list(spec.outputs)}


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{file} has more than {MAX_BYTES:,} bytes, so it is no export; {AGAIN}")
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}); {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no JSON ({str(error)[:100]}); {AGAIN}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds no mapping; {AGAIN}")
    return found


def _check_format(about: Mapping[str, Any]) -> None:
    if about.get("version") != FORMAT:
        raise TrackerError(f"version={reprlib.repr(about.get('version'))} is not {FORMAT}; {AGAIN}")


def _rules(data: Any) -> OnlineRules:
    """Returns the rules that plain data describe."""
    if not isinstance(data, Mapping) or TARGET not in data:
        raise TrackerError(f"rules={reprlib.repr(data)} name no class; {AGAIN}")
    try:
        check_value(data, "rules")
        rules = build(data, "rules")
    except TrackerError:
        raise
    except ImportError as error:  # a class of ours that needs PyTorch is none of the rules
        raise TrackerError(f"rules need the module {error.name}, which exports do without; {AGAIN}") from error
    except Exception as error:  # arbitrary arguments in a file cause arbitrary exceptions of constructors
        raise TrackerError(f"rules cannot be built ({type(error).__name__}: {str(error)[:200]}); {AGAIN}") from error
    if not isinstance(rules, OnlineRules) or not rules.exportable:
        raise TrackerError(f"rules.{TARGET}={reprlib.repr(data[TARGET])} is no class of online rules; {AGAIN}")
    return rules


def _file(folder: Path, graph: str, node: Any, ending: str) -> Path:
    """Returns the file of a graph, which lies in the folder itself."""
    name = _mapping(f"graphs.{graph}", node).get("file")
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(ending) or not name.isprintable():
        raise TrackerError(
            f"graphs.{graph}.file={reprlib.repr(name)} must be the name of a {ending} file in the folder; {AGAIN}"
        )
    for part in (path.name for path in graph_files(folder / name)):
        if not (folder / part).is_file():
            raise TrackerError(f"the folder lacks {part}, the graph {graph}; copy the whole folder, or {AGAIN}")
        if (folder / part).resolve().parent != folder.resolve():
            raise TrackerError(f"{part} of graph {graph} links to a file outside of the folder; copy the file itself")
    return folder / name


def _spec(graph: str, node: Mapping[str, Any]) -> GraphSpec:
    place = f"graphs.{graph}"
    inputs = {}
    for name, of in _mapping(f"{place}.inputs", node.get("inputs")).items():
        of = _mapping(f"{place}.inputs.{name}", of)
        kind = _one_of(f"{place}.inputs.{name}.type", of.get("type"), TYPES)
        shape, batched = of.get("shape"), of.get("batched")
        if not isinstance(shape, list) or not all(type(n) is int and 0 < n <= MAX_NUMBERS for n in shape[:9]):
            raise TrackerError(f"{place}.inputs.{name}.shape={reprlib.repr(shape)} must be a list of positive numbers")
        if len(shape) > 8 or math.prod(shape) > MAX_NUMBERS:
            raise TrackerError(f"{place}.inputs.{name}.shape={reprlib.repr(shape)} is too large")
        if not isinstance(batched, bool) or (batched and shape[:1] != [1]):
            raise TrackerError(
                f"{place}.inputs.{name}.batched={reprlib.repr(batched)} must be true or false, and with "
                f"true the shape starts with 1"
            )
        inputs[name] = InputSpec(kind, tuple(shape), batched)
    outputs = node.get("outputs")
    if not isinstance(outputs, list) or not 0 < len(outputs) <= MAX_ENTRIES or not all(map(_is_name, outputs)):
        raise TrackerError(f"{place}.outputs={reprlib.repr(outputs)} must be a list of names")
    return GraphSpec(inputs, tuple(outputs))


def _mapping(place: str, value: Any) -> Mapping[str, Any]:
    """Returns a mapping of few names."""
    if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_ENTRIES or not all(map(_is_name, value)):
        raise TrackerError(f"{place}={reprlib.repr(value)} must be a mapping of 1 to {MAX_ENTRIES} names; {AGAIN}")
    return value


def _one_of(place: str, value: Any, known: Any) -> str:
    if not isinstance(value, str) or value not in known:
        raise TrackerError(f"{place}={reprlib.repr(value)} is not known; choose one of {', '.join(known)}")
    return value


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text) <= 100 and text.isprintable()
