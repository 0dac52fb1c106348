"""Exports of all trackers: parity with PyTorch, tracking without it, and folders that are complete or not there."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from evaluation.errors import UserError
from evaluation.export.conversion import export_folder
from evaluation.export.conversion.export_folder import Export, _new_folder, write_export
from evaluation.export.conversion.parity import TOLERANCES, Parity
from evaluation.export.rendered_video import RenderedVideo, render_trial
from tests.trackers.networks import small_ostrack
from tests.trackers.stark.test_tracker import small_stark
from trackers import load_checkpoint, load_tracker
from trackers.base import Tracker
from trackers.errors import TrackerError
from trackers.exported import ABOUT, ExportedTracker, graph_data
from trackers.online import Box, Lockstep, OnlineTracker
from trackers.runtimes import conversion

pytestmark = pytest.mark.attack  # a conversion takes seconds
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
FRAMES = 5
WEIGHTS = Path(__file__).parents[4] / "weights"


def dimp() -> Tracker:
    """Returns the tracker of this repository, with few iterations, which are all alike."""
    tracker = load_checkpoint(WEIGHTS / "dimp_tiny.safetensors").tracker
    few = dict.fromkeys(tracker.online.iterations, 1) | {"hard_negative": 0}
    tracker.online = replace(tracker.online, iterations=few, update_interval=2)
    tracker.network.refinement["steps"] = 1
    return tracker


MAKE: dict[str, Callable[[], Tracker]] = {"ostrack": small_ostrack, "stark": small_stark, "dimp": dimp}
each_tracker = pytest.mark.parametrize("name", MAKE)


@cache
def tracker(name: str) -> Tracker:
    return MAKE[name]().eval()


@cache
def models_of(name: str) -> Any:
    return conversion.converted(tracker(name).graphs())


@cache
def video() -> RenderedVideo:
    return render_trial(FRAMES, seed=2)


def write(name: str, folder: Path, runtime: str, precision: str, about: dict[str, str] | None = None) -> Export:
    """Writes an export. Each tracker is converted once for all of them."""
    with mock.patch.object(export_folder, "converted", return_value=models_of(name)):
        return write_export(tracker(name), folder, runtime, precision, about or {}, FRAMES)


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`exports(name)` returns the folder of a tracker's export for ONNX Runtime. No test may change it."""
    root = tmp_path_factory.mktemp("exports")

    @cache
    def made(name: str) -> Path:
        return write(name, root / name, "onnx", "fp32", {"by": "a test"}).folder

    return made


def tracked(online: OnlineTracker) -> np.ndarray:
    online.init(video().frames[0], video().box)
    return np.array([online.update(frame)[0] for frame in video().frames[1:]])


@each_tracker
def test_an_export_tracks_as_pytorch_does(name: str, exports: Callable[[str], Path]) -> None:
    folder = exports(name)
    about = json.loads((folder / ABOUT).read_text())
    assert about["by"] == "a test"
    assert about["parity"]["boxes"]["largest_pixels"] < TOLERANCES["fp32"].pixels
    assert {*about["parity"]["outputs"]} <= {*about["graphs"]}
    assert str(folder.parent) not in "".join(file.read_bytes().decode("latin") for file in folder.iterdir())
    original, exported = OnlineTracker(tracker(name)), load_tracker(folder)
    eager = tracked(original)
    np.testing.assert_allclose(tracked(exported), eager, atol=0.05)
    assert exported.loop.calibration == original.loop.calibration
    assert exported.presence == pytest.approx(original.presence, abs=0.01)
    assert np.ptp(eager, axis=0).max() > 0


@each_tracker
def test_openvino_reads_the_same_export(name: str, exports: Callable[[str], Path]) -> None:
    pytest.importorskip("openvino")
    found = tracked(load_tracker(exports(name), runtime="openvino", threads=1))
    np.testing.assert_allclose(found, tracked(OnlineTracker(tracker(name))), atol=0.05)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_type_that_is_not_the_models_is_refused(runtime: str, exports: Callable[[str], Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    shutil.copytree(exports("ostrack"), made)
    about = json.loads((made / "tracker.json").read_text())
    about["graphs"]["search"]["inputs"]["template"]["type"] = "uint8"  # tokens would lose their fractions
    (made / "tracker.json").write_text(json.dumps(about))
    with pytest.raises(TrackerError, match=r"graph search has the inputs .*'template': 'float32'.* are expected"):
        load_tracker(made, runtime=runtime)


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "pytorch_lightning"):
    sys.modules[name] = None
import numpy as np
from trackers import load_tracker
folder, file = sys.argv[1:]
frames = np.load(file)
tracker = load_tracker(folder, threads=1)
tracker.init(frames[0], np.load(file + ".box.npy"))
np.save(file + ".boxes.npy", np.array([tracker.update(frame)[0] for frame in frames[1:]]))
assert sys.modules["torch"] is None
"""


@each_tracker
def test_a_machine_without_pytorch_tracks(name: str, exports: Callable[[str], Path], tmp_path: Path) -> None:
    file = tmp_path / "frames.npy"
    np.save(file, np.stack(video().frames))
    np.save(f"{file}.box.npy", np.array(video().box))
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(exports(name)), str(file)], check=True, timeout=600)
    np.testing.assert_allclose(np.load(f"{file}.boxes.npy"), tracked(OnlineTracker(tracker(name))), atol=0.05)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_targets_in_lockstep_get_the_boxes_of_one(runtime: str, exports: Callable[[str], Path]) -> None:
    pytest.importorskip(runtime.replace("onnx", "onnxruntime"))
    loop = Lockstep(ExportedTracker.read(exports("stark")), runtime=runtime, threads=1)
    x, y, w, h = video().box
    boxes: list[Box] = [video().box, (x / 2, y / 2, w, h), (x, y, w / 2, h / 2)]
    targets = [loop.begin(video().frames[0], box) for box in boxes]
    together = [found[0] for found in loop.advance(targets, [video().frames[1]] * 3)]
    for box, found in zip(boxes, together, strict=True):
        [(alone, _)] = loop.advance([loop.begin(video().frames[0], box)], [video().frames[1]])
        np.testing.assert_allclose(found, alone, atol=1e-3)


def test_a_tracker_in_memory_runs_in_another_runtime() -> None:
    before = {name: value.clone() for name, value in tracker("ostrack").network.state_dict().items()}
    with mock.patch.object(conversion, "converted", return_value=models_of("ostrack")):
        found = tracked(OnlineTracker(tracker("ostrack"), runtime="onnx", threads=1))
    np.testing.assert_allclose(found, tracked(OnlineTracker(tracker("ostrack"))), atol=0.05)
    assert all(value.equal(before[name]) for name, value in tracker("ostrack").network.state_dict().items())
    assert all(p.requires_grad for p in tracker("ostrack").network.parameters())


@pytest.mark.parametrize(
    ("runtime", "precision", "share"),
    [("onnx", "fp16", 0.6), ("openvino", "fp16", 0.7), ("onnx", "int8", 0.6), ("openvino", "int8", 0.7)],
)
def test_fewer_bits_make_a_smaller_file(
    runtime: str,
    precision: str,
    share: float,
    exports: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, "nncf" if precision == "int8" else "openvino"))
    # Random weights have many responses of almost the same height, so boxes may jump.
    monkeypatch.setitem(TOLERANCES, precision, replace(TOLERANCES[precision], overlap=0.0))
    made = write("ostrack", tmp_path / "made", runtime, precision)
    assert made.quantised == (("search",) if precision == "int8" else ())
    assert made.sizes["search"] < share * (exports("ostrack") / "search.onnx").stat().st_size
    assert 0 < max(made.parity.outputs["search"].values()) < 0.5
    assert np.isfinite(tracked(load_tracker(tmp_path / "made", threads=1))).all()


def test_an_export_that_differs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOLERANCES, "fp32", replace(TOLERANCES["fp32"], outputs=1e-12))
    with pytest.raises(UserError, match=r"differs from PyTorch: output \w+ of graph \w+ differs by"):
        write("ostrack", tmp_path / "made", "onnx", "fp32")
    assert not [*tmp_path.iterdir()]


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_folder, "converted", lambda graphs: pytest.fail("converted too early"))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something that is no export"):
        write_export(tracker("ostrack"), tmp_path, "onnx", "fp32", {}, FRAMES)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["../weights.bin", "/etc/hostname"])
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_weights_outside_of_the_folder_are_not_read(
    runtime: str, place: str, exports: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip(runtime.replace("onnx", "onnxruntime"))
    onnx = pytest.importorskip("onnx")
    made = tmp_path / "made"
    made.mkdir()
    for file in exports("ostrack").iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    model = onnx.load(made / "template.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    length = len(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", str(length))):
        weights.external_data.add(key=key, value=value)
    (made / "template.onnx").write_bytes(model.SerializeToString())
    about = json.loads((made / ABOUT).read_text())  # a stranger knows the hash of his file
    about["graphs"]["template"] = graph_data(ExportedTracker.read(made).graphs["template"], made / "template.onnx")
    (made / ABOUT).write_text(json.dumps(about))
    with pytest.raises(TrackerError, match="cannot read the model of graph template"):
        load_tracker(made, runtime=runtime)


def test_a_fault_names_the_largest_difference() -> None:
    fine = Parity(5, {"search": {"box": 1e-5}}, 1e-3, 1.0, 0.0, 1.0)
    assert fine.fault(TOLERANCES["fp32"]) == ""
    assert "output box of graph search differs by 0.1" in replace(fine, outputs={"search": {"box": 0.1}}).fault(
        TOLERANCES["fp32"]
    )
    assert "nan" in replace(fine, outputs={"search": {"box": float("nan")}}).fault(TOLERANCES["fp32"])
    assert "a box differs by 3 pixels" in replace(fine, pixels=3.0).fault(TOLERANCES["fp32"])
    assert "overlap by 0.50" in replace(fine, overlap=0.5).fault(TOLERANCES["int8"])


def test_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    for by in ("first", "second"):
        write("ostrack", tmp_path / "made", "onnx", "fp32", {"by": by})
    assert json.loads((tmp_path / "made" / ABOUT).read_text())["by"] == "second"
    assert sorted(file.suffix for file in (tmp_path / "made").iterdir()) == [".json", ".onnx", ".onnx"]
    assert [*tmp_path.iterdir()] == [tmp_path / "made"]


@pytest.mark.parametrize("name", ["notes.txt", "videos", ".git"])
def test_an_export_with_other_things_is_left_alone(name: str, exports: Callable[[str], Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    shutil.copytree(exports("ostrack"), made)
    (made / name).mkdir()
    with pytest.raises(UserError, match=rf"no export \({name}\), and all in it would be replaced"), _new_folder(made):
        pass
    assert (made / name).is_dir()


def test_an_export_is_put_back_if_it_cannot_be_replaced(
    exports: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    shutil.copytree(exports("ostrack"), made)
    monkeypatch.chdir(made)
    with suppress(FileNotFoundError), _new_folder(Path()) as unfinished:  # "." has no name of its own
        assert unfinished.parent == tmp_path
        unfinished.rmdir()
    assert ExportedTracker.read(made).runtime == "onnx"
    assert [*tmp_path.iterdir()] == [made]


def test_the_file_of_another_program_with_the_same_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ABOUT).write_text('{"torrents": []}')
    with pytest.raises(UserError, match="holds something that is no export"), _new_folder(tmp_path):
        pass
    assert (tmp_path / ABOUT).read_text() == '{"torrents": []}'
