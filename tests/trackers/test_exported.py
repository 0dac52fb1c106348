"""Folders of exports from strangers: `tracker.json` builds online rules alone, and names files of its folder alone."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trackers import load_tracker
from trackers.crops import CropSpec
from trackers.errors import CheckpointError, TrackerError
from trackers.exported import ABOUT, FORMAT, ExportedTracker, graph_data
from trackers.ostrack.following import OSTrackRules
from trackers.recipe_data.plain import plain
from trackers.rules import Online
from trackers.runtimes.graph_spec import GraphSpec, InputSpec, spec_in

RULES = OSTrackRules(CropSpec(32, 2.0), CropSpec(64, 4.0), Online(4.0, 0.5), reads_last_size=False)
SPEC = GraphSpec({"pixels": InputSpec("uint8", (1, 32, 32, 3), True)}, ("tokens",))


def about(folder: Path) -> dict[str, Any]:
    graphs = {"template": graph_data(SPEC, folder / "template.onnx")}
    return {"version": FORMAT, "format": "onnx", "precision": "fp32", "rules": plain(RULES), "graphs": graphs}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export whose graph is no model."""
    made = tmp_path / "export"
    made.mkdir()
    (made / "template.onnx").write_bytes(b"no model")
    (tmp_path / "outside.onnx").write_bytes(b"")
    (made / ABOUT).write_text(json.dumps(about(made)))
    return made


def test_rules_and_graphs_are_those_that_were_written(folder: Path) -> None:
    found = ExportedTracker.read(folder)
    assert found.rules == RULES
    assert found.graphs == {"template": SPEC}
    assert (found.runtime, found.precision) == ("onnx", "fp32")


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Returns a change of the data: the last of `path` is the value, the others are its place."""

    def change(data: dict[str, Any]) -> None:
        *places, name, value = path
        for place in places:
            data = data[place]
        data[name] = value

    return change


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


GRAPH, INPUT = ("graphs", "template"), ("graphs", "template", "inputs", "pixels")
MIL = {"_target_": "trackers.opencv.OpenCVTracker", "name": "opencv_mil"}
CROPS = {name: plain(value) for name, value in vars(RULES).items() if name in ("template", "search", "online")}
HOSTILE = {
    "another version": (put("version", "9"), "version='9'"),
    "another format": (put("format", "pickle"), "format='pickle'"),
    "a format that is a list": (put("format", ["onnx"]), "format="),
    "another precision": (put("precision", "fp1"), "precision='fp1'"),
    "a precision of the other format": (put("precision", "bf16"), "precision='bf16'"),
    "no rules": (put("rules", None), "rules=None"),
    "a function of the system": (put("rules", "_target_", "os.system"), "may only build classes"),
    "a library of a module of ours": (put("rules", "_target_", "trackers.crops.np.load"), "may only build classes"),
    "a class that is no rules": (put("rules", plain(CropSpec(8, 2.0))), "no class of online rules"),
    "abstract rules": (put("rules", "_target_", "trackers.rules.OnlineRules"), "rules"),
    "a tracker": (put("rules", {"_target_": "trackers.ostrack.OSTrack"}), "rules"),
    "an argument that is not known": (put("rules", "template", "code", "x"), "code"),
    "a tracker of OpenCV, which may name any file": (
        put("rules", {"_target_": "trackers.opencv.OpenCVRules", "tracker": MIL} | CROPS),
        "no class of online rules",
    ),
    "a box that takes all memory": (put("rules", "online", "min_size", 99_999), "min_size=99999"),
    "boxes that follow nothing": (put("rules", "online", "size_smoothing", 5), "size_smoothing=5"),
    "no hashes": (put(*GRAPH, "sha256", None), "sha256=None"),
    "a crop that takes all memory": (put("rules", "search", "size", 99_999), "size=99999"),
    "a number that is none": (put("rules", "search", "factor", float("nan")), "factor"),
    "text in the place of a number": (put("rules", "search", "size", "64"), "size"),
    "an interpolation": (put("rules", "online", "min_size", "${oc.env:HOME}"), "oc.env"),
    "endless nesting": (put("rules", "online", "min_size", nested(40)), "nested"),
    "no graphs": (put("graphs", {}), "graphs={}"),
    "a thousand graphs": (put("graphs", {str(i): {} for i in range(1000)}), "graphs="),
    "a graph outside": (put(*GRAPH, "file", "../outside.onnx"), "must be the name"),
    "an absolute path": (put(*GRAPH, "file", "/etc/passwd"), "must be the name"),
    "another kind of file": (put(*GRAPH, "file", ABOUT), "must be the name"),
    "a graph that is not there": (put(*GRAPH, "file", "other.onnx"), "lacks other.onnx"),
    "a graph that is a number": (put(*GRAPH, "file", 1), "must be the name"),
    "an input of terabytes": (put(*INPUT, "shape", [1, 2**20, 2**20]), "too large"),
    "a negative shape": (put(*INPUT, "shape", [1, -1]), "positive numbers"),
    "an input of objects": (put(*INPUT, "type", "object"), "type='object'"),
    "a batch of several": (put(*INPUT, "shape", [2, 32, 32, 3]), "batched"),
    "no outputs": (put(*GRAPH, "outputs", []), "outputs"),
    "outputs that are no names": (put(*GRAPH, "outputs", [None]), "outputs"),
}


@pytest.mark.parametrize(("change", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_description_is_refused(change: Callable[[Any], None], words: str, folder: Path) -> None:
    data = copy.deepcopy(about(folder))
    change(data)
    (folder / ABOUT).write_text(json.dumps(data))
    with pytest.raises(CheckpointError) as error:
        load_tracker(folder)
    assert words in str(error.value)
    assert ABOUT in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000, "{}" + " " * 2**20], ids=len)
def test_a_description_that_is_none_is_refused(text: str, folder: Path) -> None:
    (folder / ABOUT).write_text(text)
    with pytest.raises(CheckpointError, match=ABOUT):
        load_tracker(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "template.onnx").unlink()
    (folder / "template.onnx").symlink_to(folder.parent / "outside.onnx")
    with pytest.raises(CheckpointError, match="links to a file outside"):
        load_tracker(folder)


def test_a_damaged_graph_is_named(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(TrackerError, match=r"cannot read the model of graph template in .*template\.onnx"):
        load_tracker(folder)


def test_a_file_of_another_export_is_named(folder: Path) -> None:
    """Weights that a copy has damaged would track with other boxes, and nobody would notice."""
    (folder / "template.onnx").write_bytes(b"no modem")
    with pytest.raises(CheckpointError, match=r"template\.onnx, a file of graph template, is not the one that was exp"):
        load_tracker(folder)


def test_a_graph_that_the_rules_need_is_named() -> None:
    with pytest.raises(TrackerError, match="no graph search, but its rules need it"):
        spec_in({"template": SPEC}, "search")


@pytest.mark.parametrize("runtime", ["eager", "compile", "tensorrt"])
def test_a_runtime_that_cannot_open_an_export_is_named(runtime: str, folder: Path) -> None:
    with pytest.raises(TrackerError, match=f"runtime={runtime} cannot open .* use runtime=onnx or openvino"):
        load_tracker(folder, runtime=runtime)


@pytest.mark.parametrize(("library", "runtime"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_library_that_is_not_installed_is_named(
    library: str, runtime: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    words = rf"{library}.*light-weight-trackers\[runtime\]'.* without PyTorch: pip install {library}$"
    with pytest.raises(TrackerError, match=words):
        load_tracker(folder, runtime=runtime)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:1", "cannot use device=cuda:1: its CUDAExecutionProvider does not start"),
        ("cuda:x", "does not run on device=cuda:x"),
        ("mps", "does not run on device=mps"),
    ],
)
def test_onnx_runtime_never_takes_the_cpu_in_the_place_of_another_device(
    device: str, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself goes on with the CPU if a library of CUDA is missing."""
    given = []

    def session(model: str, options: Any, providers: list[Any]) -> SimpleNamespace:
        given.append(providers)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    library = SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        SessionOptions=SimpleNamespace,
        InferenceSession=session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", library)
    with pytest.raises(TrackerError, match=words):
        load_tracker(folder, device)
    assert given in ([], [[("CUDAExecutionProvider", {"device_id": 1}), ("CPUExecutionProvider", {})]])


def test_openvino_runs_on_the_cpu_alone(folder: Path) -> None:
    with pytest.raises(TrackerError, match="not on device=cuda"):
        load_tracker(folder, "cuda", runtime="openvino")


def test_reading_an_export_imports_no_pytorch(folder: Path) -> None:
    code = f"""
import sys
from trackers.exported import ExportedTracker
ExportedTracker.read({str(folder)!r})
found = {{"torch", "timm", "pytorch_lightning", "torchvision", "onnxruntime"}} & {{*sys.modules}}
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
