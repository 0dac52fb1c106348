"""eval.py with several checkpoints: comparisons, and pictures of what the trackers found."""

import csv
import json
import shutil

import av
import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from datamodules.official_layouts import write_got10k
from datamodules.readers import read_got10k
from evaluation.commands.evaluated_tracker import tracker_names
from trackers import load_checkpoint
from trackers.checkpoints.checkpoint import Checkpoint, build_tracker


@pytest.fixture(scope="module")
def other(small_checkpoint, tmp_path_factory):
    """The file of a job with a tracker like `small_checkpoint`, with other weights."""
    recipe = load_checkpoint(small_checkpoint).recipe
    torch.manual_seed(1)
    return Checkpoint(build_tracker(recipe), recipe).save(tmp_path_factory.mktemp("job") / "checkpoint.safetensors")


@pytest.fixture(scope="module")
def data(got10k, tmp_path_factory):
    """The small world below a folder of its own. Each of its two videos has a class of motion."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(got10k, folder / "got10k")
    for name, motion in (("GOT-10k_Val_000001", "running"), ("GOT-10k_Val_000002", "swimming")):
        about = f"motion_class: {motion}\nresolution: (96, 72)\n"
        (folder / "got10k" / "val" / name / "meta_info.ini").write_text(about)
    return folder


@pytest.mark.slow  # whole commands, figures and a video
def test_trackers_are_compared_on_the_same_sequences_and_drawn(run, small_checkpoint, other, data, tmp_path, capsys):
    cache = tmp_path / "cache"
    where = ("benchmark=got10k", f"paths.data={data}", f"paths.cache={cache}")
    run("eval", f"checkpoint={small_checkpoint}", *where)
    (stage,) = cache.glob("stages/evaluation-*/")
    tracked = (stage / "boxes" / "got10k" / "GOT-10k_Val_000001.txt").stat().st_mtime_ns
    (alone,) = json.loads(next(tmp_path.rglob("result.json")).read_text())["metrics"].values()
    shutil.rmtree(tmp_path / "outputs")

    outputs = run("eval", f"checkpoint=[{small_checkpoint},{other}]", *where)
    assert (stage / "boxes" / "got10k" / "GOT-10k_Val_000001.txt").stat().st_mtime_ns == tracked, "found in the cache"
    (folder,) = (path.parent for path in outputs.rglob("comparison.json"))
    comparison = json.loads((folder / "comparison.json").read_text())
    first, second = comparison["trackers"]
    assert comparison["first"] == first == small_checkpoint.parent.name
    assert second == other.parent.name
    assert comparison["trackers"][first]["metrics"]["got10k"]["AO"] == pytest.approx(alone["AO"])
    values = [comparison["trackers"][name]["metrics"]["got10k"]["AO"] for name in (first, second)]
    difference = comparison["differences"]["got10k"][second]["AO"]
    assert difference["value"] == pytest.approx(values[1] - values[0], abs=1e-9)
    assert difference["interval"]["low"] <= difference["value"] <= difference["interval"]["high"]
    assert difference["verdict"] == "too few sequences for evidence of a difference"
    assert comparison["speedup"][second]["cpu"]["ratio"] > 0
    assert [row["attribute"] for row in comparison["attributes"]] == ["motion_class: running", "motion_class: swimming"]
    with (folder / "sequences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["attributes"] for row in rows] == ["motion_class: running", "motion_class: swimming"]
    for name, value in zip((first, second), values, strict=True):
        weights = [float(row["weight"]) for row in rows]
        assert np.average([float(row[f"{name} AO"]) for row in rows], weights=weights) == pytest.approx(value)
        assert len(list((folder / "boxes" / name / "got10k").glob("*.txt"))) == 6
    assert {path.name for path in (folder / "plots").iterdir()} == {
        *("success.png", "success.svg", "precision.png", "precision.svg")
    }
    page = (folder / "comparison.html").read_text()
    assert "https:" not in page
    assert page.count("data:image/jpeg") == len({change["difference"] > 0 for change in comparison["changes"][second]})
    assert "2 sequences are too few" in page
    told = " ".join(capsys.readouterr().out.split())
    assert f"Too few sequences for evidence of a difference between {second} and {first}: AO" in told

    run("eval", f"checkpoint=[{small_checkpoint},{other}]", *where, "action=show", "show.frames=3")
    (sheet,), (film,) = outputs.rglob("show/*.jpg"), outputs.rglob("show/*.mp4")
    spread = {row["sequence"]: abs(float(row[f"{first} AO"]) - float(row[f"{second} AO"])) for row in rows}
    assert sheet.stem == film.stem == max(spread, key=spread.__getitem__)
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] > 3 * 400
    assert len({tuple(colour // 64) for colour in picture.reshape(-1, 3)}) > 3
    with av.open(str(film)) as file:
        assert len(list(file.decode(video=0))) == 6


def test_a_named_sequence_is_tracked_alone_also_without_annotation(run, small_checkpoint, other, got10k, tmp_path):
    videos = {video.name: video for video in read_got10k(got10k, "val")}
    write_got10k(tmp_path / "data" / "got10k" / "test", videos, first_box_only=True)
    cache = tmp_path / "cache"
    call = (f"checkpoint=[{small_checkpoint},{other}]", "benchmark=got10k_test", "action=show", "show.video=false")
    call = ("eval", *call, f"paths.data={tmp_path / 'data'}", f"paths.cache={cache}")
    with pytest.raises(SystemExit, match=r"show\.sequence=GOT-10k_Val_00002 is no .* mean GOT-10k_Val_000002 or"):
        run(*call, "show.sequence=GOT-10k_Val_00002")
    assert not list(cache.glob("stages/*"))
    outputs = run(*call, "show.sequence=GOT-10k_Val_000002", "+tracker.online.min_size=20")
    config = OmegaConf.load(next(outputs.rglob("show")).parent / "config.yaml")
    assert config.checkpoint == [str(small_checkpoint), str(other)]
    assert config.tracker == {"online": {"min_size": 20}}
    inputs = [json.loads(path.read_text()) for path in cache.rglob("stage.json")]
    assert [stage["depends"]["tracker"]["online"]["min_size"] for stage in inputs] == [20, 20]
    assert [path.name for path in outputs.rglob("show/*")] == ["GOT-10k_Val_000002.jpg"]
    names = {f"GOT-10k_Val_000002{end}.txt" for end in ("", "_time", "_presence")}
    assert {path.name for path in cache.rglob("GOT*.txt")} == names


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["checkpoint=[{a},{a}]"], ("more than once", "checkpoint=[weights/ostrack_tiny.safetensors,")),
        (["checkpoint=[]"], ("checkpoint=[] names no tracker", "checkpoint=[weights/")),
        (["checkpoint=[{a},{b}]", "action=submit"], ("action=submit takes one checkpoint", "-m checkpoint={a},{b}")),
        (["checkpoint=[{a},{b}]", "action=open_loop"], ("action=open_loop takes one checkpoint",)),
        (["checkpoint=[{a},{b}]", "action=show", "show.frames=0"], ("show.frames=0", "show.frames=1")),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(run, small_checkpoint, other, overrides, words):
    names = {"a": small_checkpoint, "b": other}
    with pytest.raises(SystemExit) as stop:
        run("eval", *(override.format(**names) for override in overrides))
    for word in words:
        assert word.format(**names) in stop.value.code


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["weights/a.safetensors", "b/OSTrack_ep0300.pth.tar"], ["a", "OSTrack_ep0300"]),
        (["x/0_dimp/checkpoint.safetensors", "x/1_dimp/checkpoint.safetensors"], ["0_dimp", "1_dimp"]),
        (["x/0/checkpoint.safetensors", "y/0/checkpoint.safetensors", "y/1.safetensors"], ["x/0", "y/0", "1"]),
        (["x/dimp/model.safetensors", "y/dimp/model.safetensors", "ostrack"], ["x/dimp", "y/dimp", "ostrack"]),
        (["a.pth", "a.pth.tar", "b.pth"], ["a.pth", "a.pth.tar", "b"]),  # no folders tell them apart
        (["/w/a b.pth", "/w/a-b.pth", "/w/a;b.pth"], ["a-b.pth_1", "a-b.pth_2", "a-b.pth_3"]),
        (["x/../a.pth", "y/a.pth", "y/x y/a.pth"], ["unnamed/a", "y/a", "x-y/a"]),  # folders below that of the job
    ],
)
def test_trackers_have_short_names_of_their_own(paths, names):
    assert tracker_names(paths) == names
