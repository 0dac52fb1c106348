"""The cache answers for the content of data, of files and for the devices that compute, and never for their names."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from datamodules.readers import read_folder
from datamodules.scenes import bank
from datamodules.sequences.table import SequenceTable
from evaluation.processes.devices import arithmetic
from evaluation.study.job import Job
from evaluation.study.parent_source import ParentSource
from tests.conftest import CONF, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD

CPU = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), num_devices=1, num_nodes=1)
TRAINED = {"parent", "sparsity", "child"}
SCORED = {"evaluation", "parent evaluation"}


@pytest.fixture
def data(got10k: Path, tmp_path: Path) -> Path:
    """Videos of the user in `folder/train` and `folder/val`, and GOT-10k with labels, in a folder of this test."""
    for split in ("train", "val"):
        shutil.copytree(got10k / split, tmp_path / "data" / "folder" / split)
        (tmp_path / "data" / "folder" / split / "list.txt").unlink()
    shutil.copytree(got10k, tmp_path / "data" / "got10k")
    return tmp_path / "data"


def job(data: Path | str, cache: Path, *overrides: str, kind: str = "folder", trainer: SimpleNamespace = CPU) -> Job:
    given = [f"paths.data={data}", f"paths.cache={cache}", "paths.job=job", "job.tracker=ostrack", "job.method=slim"]
    small = [*SMALL_WORLD, *SMALL_NETWORK, *SHORT_STAGES]
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        cfg = compose("train", [*given, *small, "ratio=0.5", f"datamodule={kind}", *overrides])
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    return Job(resolved, ParentSource.from_checkpoint(resolved.checkpoint), trainer)


def differing(one: Job, other: Job) -> set[str]:
    """Roles of the stages that themselves depend on something else, and "job" if the jobs are not the same."""
    roles = {role for role, stage in one.graph.items() if stage.depends != other.graph[role].depends}
    return roles | ({"job"} if one.identity["config_hash"] != other.identity["config_hash"] else set())


def move_boxes(data: Path, frames: slice = slice(None)) -> None:
    for path in (data / "folder").rglob("groundtruth.txt"):
        boxes = np.loadtxt(path, delimiter=",")
        boxes[frames, :2] += 15
        np.savetxt(path, boxes, "%.4f", ",")


def move_later_boxes(data: Path) -> None:
    move_boxes(data, slice(1, None))


def delete_a_video(data: Path) -> None:
    shutil.rmtree(data / "folder" / "train" / "GOT-10k_Train_000002")


def rename_a_video(data: Path) -> None:
    folder = data / "folder" / "val" / "GOT-10k_Val_000002"
    folder.rename(folder.with_name("another"))


def blacken(data: Path) -> None:
    for path in (data / "folder").rglob("*.jpg"):
        path.write_bytes(cv2.imencode(".jpg", np.zeros((72, 96, 3), np.uint8))[1].tobytes())


def blacken_one_frame_without_a_trace(data: Path) -> None:
    """Same size in bytes, and the folder keeps its time: the file's own time is all that tells."""
    path = data / "folder" / "train" / "GOT-10k_Train_000001" / "00000007.jpg"
    path.write_bytes(bytes(path.stat().st_size))


def replace_a_video_file(data: Path) -> None:
    for split in ("train", "val"):
        os.utime(data / "folder" / split / "walk.avi", ns=(0, 10**18))


def hide_objects(data: Path) -> None:
    for path in (data / "got10k").rglob("absence.label"):
        path.write_text(path.read_text().replace("0", "1", 1))


def cover_objects(data: Path) -> None:
    for path in (data / "got10k").rglob("cover.label"):
        path.write_text("\n".join(["3"] * len(path.read_text().split())) + "\n")


@pytest.mark.parametrize(
    ("kind", "change", "other"),
    [
        ("folder", move_boxes, {*TRAINED, *SCORED, "job"}),
        ("folder", move_later_boxes, {*TRAINED, "job"}),  # scores are computed again, and the tracker sees the same
        ("folder", delete_a_video, {*TRAINED, "job"}),
        ("folder", rename_a_video, {*SCORED, "job"}),
        ("folder", blacken, {*TRAINED, *SCORED, "job"}),
        ("folder", blacken_one_frame_without_a_trace, {*TRAINED, "job"}),
        ("folder", replace_a_video_file, {*TRAINED, *SCORED, "job"}),
        ("got10k", hide_objects, {*TRAINED, "job"}),
        ("got10k", cover_objects, {*TRAINED, "job"}),
        ("got10k", lambda data: None, set()),
    ],
)
def test_other_data_under_the_same_path_are_other_data(
    data: Path, cache: Path, kind: str, change: Callable[[Path], None], other: set[str]
) -> None:
    for split in ("train", "val"):
        add_video_file(data / "folder" / split)
    before = job(data, cache, kind=kind)
    change(data)
    assert differing(before, job(data, cache, kind=kind)) == other


def add_video_file(folder: Path) -> None:
    first = next(folder.glob("*_000001"))
    boxes = np.loadtxt(first / "groundtruth.txt", delimiter=",")
    video = cv2.VideoWriter(str(folder / "walk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 72))
    for i in range(len(boxes)):
        video.write(cv2.imread(str(first / f"{i + 1:08d}.jpg")))
    video.release()
    np.savetxt(folder / "walk.txt", boxes, "%.3f", ",")


def test_a_path_has_no_meaning(data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = job(data, cache)
    for spelling in ("data", "./data", "data/../data", f"{data}/"):
        assert differing(absolute, job(spelling, cache)) == set(), spelling
    shutil.copytree(data, tmp_path / "moved")  # keeps times, as cp -a, rsync -a and tar do
    assert differing(absolute, job("moved", tmp_path / "another cache")) == set()


def test_two_projects_with_one_relative_path_and_one_cache_share_nothing(
    data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects = [tmp_path / name for name in ("first", "second")]
    found = []
    for project in projects:
        shutil.copytree(data, project / "d")
    delete_a_video(projects[1] / "d")
    move_boxes(projects[1] / "d")
    for project in projects:
        monkeypatch.chdir(project)
        found.append(job("d", cache))
    assert differing(*found) == {*TRAINED, *SCORED, "job"}


def test_frames_that_are_copied_without_their_times_are_other_frames(data: Path, tmp_path: Path) -> None:
    folder = data / "folder" / "val"
    kept, fresh = shutil.copytree(folder, tmp_path / "kept"), tmp_path / "fresh"
    shutil.copytree(folder, fresh, copy_function=shutil.copyfile)
    of = {path: read_folder(path).content() for path in (folder, kept, fresh)}
    assert of[folder] == of[kept] != of[fresh]


def test_a_missing_frame_counts_and_ends_nothing(data: Path) -> None:
    table = read_folder(data / "folder" / "val")
    whole = table.content()
    (data / "folder" / "val" / "GOT-10k_Val_000001" / "00000003.jpg").unlink()
    assert SequenceTable(table.root, table.columns).content() != whole


def test_still_pictures_of_one_folder_are_read_once_and_all_count(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(b"1")
    pictures = np.array(["a.jpg", "b.jpg", "b.jpg"])
    parts = (np.array(["1", "2", "3"]), pictures, np.ones((3, 4)), np.full((3, 2), 9, np.int32))

    def content() -> str:
        return SequenceTable.from_pictures(tmp_path, tmp_path, *parts).content()

    before = content()
    assert content() == before
    (tmp_path / "b.jpg").write_bytes(b"12")
    assert content() != before


def test_data_that_the_project_makes_are_known_by_their_specification(
    data: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = job(data, fresh_cache, kind="synthetic")
    for path in fresh_cache.rglob("*.jpg"):
        os.utime(path)  # made again, with equal bytes
    assert differing(before, job(data, fresh_cache, kind="synthetic")) == set()
    more = job(data, fresh_cache, "synthetic.val.frames=7", kind="synthetic")
    assert differing(before, more) == {*TRAINED, *SCORED, "job"}
    scenes = job(data, fresh_cache, kind="scenes")
    monkeypatch.setattr(bank, "VERSION", bank.VERSION + 1)
    assert differing(scenes, job(data, fresh_cache, kind="scenes")) == {*TRAINED, "job"}


def test_unused_sources_and_splits_are_not_read(data: Path, cache: Path) -> None:
    shutil.rmtree(data / "folder" / "val" / "GOT-10k_Val_000002")
    small = "benchmark=synthetic"
    unused = job(
        data, cache, small, "+datamodule.train.none={_target_: datamodules.sources.Source, weight: 0, read: 1}"
    )
    assert differing(job(data, cache, small), unused) == set()
    validated = ("datamodule.val_samples=2", "datamodule.sampler.min_frames=6")
    before = job(data, cache, small, *validated)
    move_boxes(data)
    assert differing(before, job(data, cache, small, *validated)) == {*TRAINED, "job"}


def on(device: str) -> SimpleNamespace:
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), num_devices=1, num_nodes=1)


def test_auto_is_the_device_that_it_chooses(data: Path, cache: Path) -> None:
    cpu = job(data, cache, "trainer.accelerator=cpu")
    auto = [job(data, cache, "trainer.accelerator=auto", trainer=on(device)) for device in ("cpu", "cuda:0", "cuda:3")]
    assert differing(cpu, auto[0]) == set()
    assert differing(cpu, auto[1]) == {*TRAINED, "job"}
    assert differing(auto[1], auto[2]) == set(), "the number of a GPU changes nothing"


@pytest.mark.parametrize(
    ("devices", "other"),
    [("[cpu,cpu]", set()), ("[cuda:1]", {*SCORED, "job"}), ("[cpu,cuda:0]", {*SCORED, "job"})],
)
def test_boxes_of_cpu_and_gpu_are_not_the_same(data: Path, cache: Path, devices: str, other: set[str]) -> None:
    assert differing(job(data, cache), job(data, cache, f"runner.devices={devices}")) == other


def test_the_precision_of_products_counts(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = job(data, cache)
    torch.set_float32_matmul_precision("high")
    try:
        assert differing(before, job(data, cache)) == {*TRAINED, *SCORED, "job"}
    finally:
        torch.set_float32_matmul_precision("highest")
    gpu = arithmetic(["cuda:1"])
    assert gpu == arithmetic(["cuda"])
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not torch.backends.cudnn.allow_tf32)
    assert arithmetic(["cuda"]) != gpu


def test_a_job_is_another_if_the_content_of_its_checkpoint_is(
    data: Path, cache: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    file = shutil.copyfile(small_checkpoint, tmp_path / "parent.safetensors")
    before = job(data, cache, f"checkpoint={file}")
    copied = job(data, cache, f"checkpoint={shutil.copyfile(file, tmp_path / 'copy.safetensors')}")
    assert differing(before, copied) == set()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert differing(before, job(data, cache, f"checkpoint={file}")) == {"parent", "job"}
