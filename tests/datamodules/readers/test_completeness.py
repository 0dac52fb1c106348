"""Incomplete copies of all data sets: what the message says, and that the setting which it names really works."""

import shutil
import zipfile
from functools import partial
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from datamodules.errors import DataError, DataSettingError
from datamodules.readers import (
    read_coco,
    read_got10k,
    read_lasot,
    read_nfs,
    read_otb,
    read_trackingnet,
    read_uav123,
)
from tests.datamodules.readers.test_readers import LAYOUTS, coco, frames, lines, trackingnet, write

# By data set: a reader of more sequences than are there, the number of sequences in its official part, and its layout.
PARTS = {
    "lasot": (partial(read_lasot, split="extension"), 150, "atv-1"),
    "otb": (partial(read_otb, version="otb50"), 50, "Deer"),
    "uav123": (read_uav123, 123, "uav6"),
    "nfs": (partial(read_nfs, fps=240), 100, "bee"),
    "got10k": (partial(read_got10k, split="val"), 3, "A"),
    "trackingnet": (partial(read_trackingnet, split="train", chunks=[3]), 2511, "A"),
}


def write_part(data_set: str, root: Path) -> Path:
    """Writes one complete sequence of a data set that lists more."""
    LAYOUTS[data_set].write(root)
    if data_set == "got10k":
        write(root / "val" / "list.txt", "A\nB\nC\n")
    if data_set == "trackingnet":
        write(root / "TRAIN_3" / "anno" / "B.txt", lines(0, 4))
    return root


each_part = pytest.mark.parametrize(
    ("data_set", "read", "whole", "name"), [(key, *part) for key, part in PARTS.items()], ids=PARTS
)


def follow(read, root: Path, **settings):
    """Reads a data set that is not complete as its message advises; returns the table and the message."""
    with pytest.raises(DataSettingError) as error:
        read(root, **settings)
    (override,) = OverridesParser.create().parse_overrides([error.value.at("place").setting])
    assert str(error.value).endswith(f": {error.value.setting}")
    advised = settings | {override.get_key_element().removeprefix("place."): override.value()}
    return read(advised.pop("root", root), **advised), str(error.value)


@each_part
def test_missing_sequences(data_set, read, whole, name, tmp_path):
    root = write_part(data_set, tmp_path)
    table, told = follow(read, root)
    assert (table.names, table.coverage) == ([name], f"1 of {whole:,} sequences")
    assert f"at {root} is incomplete: 1 of its " in told
    assert " sequences are there, " in told


def test_the_first_missing_names_are_listed(tmp_path):
    LAYOUTS["lasot"].write(tmp_path)
    told = follow(partial(read_lasot, split="extension"), tmp_path)[1]
    assert "LaSOT's extension split" in told
    assert "1 of its 150 sequences are there, 149 are missing, e.g. atv-2, atv-3, atv-4." in told


@each_part
def test_a_sequence_without_all_its_frames(data_set, read, whole, name, tmp_path):
    root = write_part(data_set, tmp_path / "data")
    lost = sorted(root.rglob("*.jpg"))[1:3]  # NfS has sequences with one frame too few
    only = partial(read, root, only_complete=True, cache=tmp_path / "cache")
    assert only().names == [name]
    for frame in lost:
        frame.rename(tmp_path / frame.name)
    with pytest.raises(DataError, match=r"no sequence of .* is complete"):
        only()
    for frame in lost:
        (tmp_path / frame.name).rename(frame)
    assert only().names == [name]


def test_sequences_with_fewer_frames_or_without_annotation_are_left_out(tmp_path):
    for name in ("A", "B", "C"):
        frames(tmp_path / "val" / name, 1, 4)
        write(tmp_path / "val" / name / "groundtruth.txt", lines(0, 4))
    write(tmp_path / "val" / "list.txt", "A\nB\nC\n")
    read = partial(read_got10k, split="val", cache=tmp_path / "cache")
    assert len(read(tmp_path)) == 3
    (tmp_path / "val" / "A" / "00000002.jpg").unlink()
    (tmp_path / "val" / "B" / "groundtruth.txt").unlink()
    for _ in range(2):  # the second time, the table comes from the cache
        table, told = follow(read, tmp_path)
        assert (table.names, table.coverage) == (["C"], "1 of 3 sequences")
        assert "3 frames and 4 annotated boxes: the copy is incomplete" in told
    write(tmp_path / "val" / "C" / "groundtruth.txt", "1,2,3,x\n" * 4)
    with pytest.raises(DataError, match="must hold 4"):  # damage is no incomplete copy
        read(tmp_path, only_complete=True)


def test_a_complete_copy_has_no_remark(tmp_path):
    LAYOUTS["got10k"].write(tmp_path)
    for only_complete in (False, True):
        assert read_got10k(tmp_path, "val", only_complete=only_complete).coverage == ""


def test_names_of_the_user_are_a_part_too(tmp_path):
    LAYOUTS["lasot"].write(tmp_path)
    assert LAYOUTS["lasot"].read(tmp_path).coverage == "1 of 150 sequences"


def test_missing_chunks(tmp_path):
    for i in (0, 4):
        trackingnet(tmp_path, f"TRAIN_{i}", [f"a{i}"])
    table, told = follow(partial(read_trackingnet, split="train"), tmp_path)
    assert table.names == ["a0", "a4"]
    assert "2 of the 12 chunks are there; missing: TRAIN_1/anno, TRAIN_2/anno" in told
    assert told.endswith("chunks=[0,4]")
    assert read_trackingnet(tmp_path, "train", only_complete=True).coverage == "2 of 30,132 sequences"
    assert follow(partial(read_trackingnet, split="train"), tmp_path, chunks=[11])[0].names == ["a0", "a4"]


def test_missing_pictures(tmp_path):
    coco(tmp_path)
    (tmp_path / "images" / "train2017" / "b.jpg").unlink()
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        table, told = follow(read_coco, tmp_path, cache=cache)
        assert (table.names, table.coverage) == (["1038967", "77"], "2 of 3 sequences")
        assert "1 of its 2 annotated pictures are there, 1 is missing: b.jpg." in told


def test_missing_parts_of_coco_are_told_apart(tmp_path):
    coco(tmp_path)
    (tmp_path / "train2017.zip").touch()
    shutil.move(tmp_path / "images", tmp_path / "pictures")
    with pytest.raises(DataError, match=r"neither images/train2017 nor .*; not unpacked is .*/train2017\.zip"):
        read_coco(tmp_path)
    shutil.rmtree(tmp_path / "annotations")
    with pytest.raises(DataError, match=r"annotations/instances_train2017\.json is missing"):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    ("data_set", "archives"),
    [
        ("lasot", ["atv.zip", "badminton.zip"]),
        ("trackingnet", ["TRAIN_3/zips/A.zip", "TRAIN_3/zips/B.zip"]),
        ("got10k", ["val/A.zip", "val/GOT-10k_Val.tar.gz"]),
    ],
)
def test_archives_that_nobody_has_unpacked(data_set, archives, tmp_path):
    root = write_part(data_set, tmp_path)
    for archive in archives:  # the first one is unpacked, and lies beside its folder
        write(root / archive, "")
    assert f"; not unpacked is {root / archives[1]}. Finish" in follow(PARTS[data_set][0], root)[1]


def test_archives_alone(tmp_path):
    with zipfile.ZipFile(tmp_path / "airplane.zip", "w") as file:
        file.writestr("airplane/airplane-1/groundtruth.txt", lines(0, 2))
    with pytest.raises(DataError, match=r"not unpacked is .*/airplane\.zip\. Set paths\.data"):
        read_lasot(tmp_path, "train")


@pytest.mark.parametrize("where", ["LaSOT", "lasot/LaSOTBenchmark", "lasot/a/b", "."])
@pytest.mark.parametrize("data_set", PARTS)
def test_another_level_of_folders(data_set, tmp_path, where):
    moved = write_part(data_set, tmp_path / "all" / where).resolve()
    table, told = follow(partial(PARTS[data_set][0], only_complete=True), tmp_path / "all" / "lasot")
    assert table.names == [PARTS[data_set][2]]
    assert told.endswith(f", but {moved} has such data. Use that folder: root={moved}")


def test_a_home_and_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    LAYOUTS["got10k"].write(tmp_path / "set")
    for root in ("~/set", "set", "./set"):
        assert read_got10k(root, "val").root == tmp_path / "set"
    (tmp_path / "first.txt").write_text("0\n")
    assert read_got10k("~/set", "val", "~/first.txt").names == ["A"]
