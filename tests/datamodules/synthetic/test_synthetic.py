"""The synthetic set: GOT-10k layout, determinism, disjoint splits, boxes that fit the pictures, atomic writing."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.synthetic import SplitSpec, SyntheticSet, ensure_synthetic, writer
from datamodules.synthetic.reader import read_synthetic
from datamodules.synthetic.scene import Scene
from datamodules.synthetic.writer import sequence_rng

SPEC = SyntheticSet(seed=0, width=96, height=72, train=SplitSpec(3, 6, 3), val=SplitSpec(2, 8, 1))
ROOT = Path(__file__).parents[3]
LABELS = ["absence.label", "cover.label", "cut_by_image.label", "groundtruth.txt", "meta_info.ini"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return ensure_synthetic(SPEC, tmp_path_factory.mktemp("cache"), workers=1)


def content(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scenes(split: str, count: int) -> list[Scene]:
    return [Scene(sequence_rng(SPEC, split, i), SPEC.width, SPEC.height, 16) for i in range(count)]


@pytest.mark.parametrize(("split", "title"), [("train", "Train"), ("val", "Val")])
def test_layout_is_that_of_got10k(made, split, title):
    size = getattr(SPEC, split)
    root = made / "got10k" / split
    names = [f"GOT-10k_{title}_{i + 1:06d}" for i in range(size.sequences)]
    assert (root / "list.txt").read_text().splitlines() == names
    assert sorted(path.name for path in root.iterdir()) == sorted([*names, "list.txt"])
    for name in names:
        pictures = [f"{i + 1:08d}.jpg" for i in range(size.frames)]
        assert sorted(path.name for path in (root / name).iterdir()) == sorted(pictures + LABELS)
        assert cv2.imread(str(root / name / pictures[-1])).shape == (SPEC.height, SPEC.width, 3)
        lines = (root / name / "groundtruth.txt").read_text().splitlines()
        assert len(lines) == size.frames
        assert all(len(number.split(".")[1]) == 4 for line in lines for number in line.split(","))
        for label, values in (("absence", {0, 1}), ("cover", set(range(9))), ("cut_by_image", {0, 1})):
            found = [int(line) for line in (root / name / f"{label}.label").read_text().splitlines()]
            assert len(found) == size.frames
            assert set(found) <= values
        assert "resolution: (96, 72)" in (root / name / "meta_info.ini").read_text()


def test_bytes_do_not_depend_on_the_number_of_workers(made, tmp_path):
    assert content(ensure_synthetic(SPEC, tmp_path, workers=2)) == content(made)


def test_its_processes_import_nothing_heavy():
    heavy = {"torch", "pytorch_lightning", "pycocotools", "matplotlib"}
    modules = "datamodules.readers, datamodules.synthetic.writer, datamodules.synthetic.bank_pictures"
    script = f"import sys, {modules}; print({heavy} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "set()\n"


def test_another_seed_is_another_set(made, tmp_path):
    other = SyntheticSet(seed=1, width=96, height=72, train=SplitSpec(1, 2, 1), val=SplitSpec(1, 2, 1))
    folder = ensure_synthetic(other, tmp_path, workers=0)
    assert folder.name != made.name
    pictures = {digest for name, digest in content(folder).items() if name.endswith(".jpg")}
    assert not pictures & set(content(made).values())


def test_train_and_val_share_no_background_and_no_object():
    seen = {}
    for split in ("train", "val"):
        arrays = []
        for scene in scenes(split, 6):
            sprites = [mover.sprite for mover in (scene.target, *scene.behind, *scene.front)]
            arrays += [scene.camera.canvas, *(pose for sprite in sprites for pose in sprite.poses)]
        seen[split] = {hashlib.sha256(array.tobytes()).hexdigest() for array in arrays}
        assert len(seen[split]) >= 6
    assert not seen["train"] & seen["val"]


def test_boxes_are_finite_and_in_the_picture(made):
    for path in made.rglob("groundtruth.txt"):
        boxes = np.loadtxt(path, delimiter=",", ndmin=2)
        assert np.isfinite(boxes).all()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] > 1).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= (SPEC.width + 1e-3, SPEC.height + 1e-3)).all()


def test_boxes_enclose_what_is_drawn():
    """Drawn alone on black, the pixels at least half covered reach the box on all sides, to a pixel."""
    for scene in scenes("train", 12):
        mover = scene.target
        for t in (0, 7, 15):
            low, high = mover.extent(t)
            large = int(np.ceil(high - low).max()) + 8
            mover.centre[t] += 4 - low  # into a picture that holds it whole
            stamp = mover.draw(t, np.zeros((large, large, 3), np.uint8), np.zeros(2))
            rows, columns = np.nonzero(stamp.alpha >= 128)
            drawn = [[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]
            found = np.array(drawn) + (stamp.left, stamp.top)
            assert np.abs(found - mover.extent(t)).max() < 2
            assert stamp.alpha.sum() / 255 == pytest.approx(mover.area(t), rel=0.1)


def test_visible_share_counts_edges_and_what_stands_in_front():
    scene = scenes("train", 1)[0]
    scene.front.clear()
    scene.target.centre[3] = (SPEC.width / 2, SPEC.height / 2)
    alone = scene.render(3)[1]
    assert alone.visible > 0.9
    scene.front.append(replace(scene.target, size=4 * scene.target.size))  # a larger double hides it
    assert scene.render(3)[1].visible < 0.15
    scene.front.clear()
    scene.target.centre[3] = (0, SPEC.height / 2)
    halved = scene.render(3)[1]
    assert halved.cut
    assert 0.1 < halved.visible < 0.9


def test_second_call_generates_nothing(made, monkeypatch):
    def fail(*_):
        raise AssertionError("generated again")

    monkeypatch.setattr(writer, "_write_set", fail)
    assert ensure_synthetic(SPEC, made.parent, workers=2) == made


def test_interrupted_run_leaves_nothing_that_looks_complete(made, tmp_path, monkeypatch):
    write, calls = writer._write_sequence, []

    def interrupt(*job):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(job)
        write(*job)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_write_sequence", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ensure_synthetic(SPEC, tmp_path, workers=1)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    # A killed run cannot clean up; what it leaves is replaced.
    stale = tmp_path / (SPEC.folder_name + ".tmp") / "got10k"
    stale.mkdir(parents=True)
    (stale / "rest").touch()
    assert content(ensure_synthetic(SPEC, tmp_path, workers=1)) == content(made)


@pytest.mark.parametrize("field", ["sequences", "frames", "stride"])
@pytest.mark.parametrize("value", [0, -3])
def test_bad_split_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}={value}"):
        SplitSpec(**{"sequences": 2, "frames": 2, "stride": 1, field: value})


@pytest.mark.parametrize(("field", "value"), [("width", 0), ("height", -1), ("seed", -1), ("train", None)])
def test_bad_set_is_refused(field, value):
    good = {"seed": 0, "width": 96, "height": 72, "train": SplitSpec(1, 1, 1), "val": SplitSpec(1, 1, 1)}
    with pytest.raises(ValueError, match=f"{field}={value}"):
        SyntheticSet(**{**good, field: value})


def test_bad_cache_and_workers_are_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="is a file"):
        ensure_synthetic(SPEC, file, workers=1)
    with pytest.raises(ValueError, match="workers=-1"):
        ensure_synthetic(SPEC, tmp_path, workers=-1)


def test_an_object_that_leaves_is_absent_in_the_middle_and_returns(tmp_path):
    spec = replace(SPEC, train=SplitSpec(1, 1, 1), val=SplitSpec(2, 40, 1, leaves=True))
    table = read_synthetic(spec, tmp_path, "val")
    for sequence in table:
        hidden = np.flatnonzero(~sequence.visible)
        assert 6 <= len(hidden) <= 20
        assert (np.diff(hidden) == 1).all()
        assert 10 <= hidden[0] < hidden[-1] <= 34
        outside = sequence.boxes[hidden, 2:].min(1) == 0
        assert outside.sum() >= 6  # all of the object is beyond an edge


def test_sets_without_the_option_keep_their_names_and_their_pictures():
    assert SyntheticSet(0, 320, 240, SplitSpec(300, 20, 3), SplitSpec(20, 60, 1)).folder_name == "synthetic-bf113218e3"
    leaving = replace(SPEC, val=replace(SPEC.val, leaves=True))
    assert leaving.folder_name != SPEC.folder_name
    with pytest.raises(DataError, match="leaves=1 must be true or false"):
        SplitSpec(1, 1, 1, leaves=1)
