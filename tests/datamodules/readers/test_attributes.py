"""Attributes of sequences: read when asked for, from the official layouts, and no part of the content."""

import pickle

import pytest

from datamodules.errors import DataError
from datamodules.readers import read_got10k, read_lasot, read_otb, read_uav123
from datamodules.readers.attribute_files import read_attribute_files
from tests.datamodules.readers.test_readers import frames, lines, write


def attributes(table):
    return table.read_attributes(table.names)


def test_otb_reads_the_files_of_the_toolkit_however_they_spell_a_name(tmp_path):
    for name, last in (("Deer", 71), ("Matrix", 100)):
        frames(tmp_path / name / "img", 1, last, digits=4)
        write(tmp_path / name / "groundtruth_rect.txt", lines(1, last))
    table = read_otb(tmp_path, names=["Deer", "Matrix"])
    content = table.content(), table.tracker_inputs()
    assert (
        f"put anno/att of the authors' toolkit (tracker_benchmark_v1.0) into {tmp_path}/att" in attributes(table).note
    )
    write(tmp_path / "att" / "deer.txt", "\n0,0,0,0,0,1,1,1,0,1,1\n")  # some copies have an empty first line
    found = attributes(table)
    assert found.groups.keys() == {
        "motion blur",
        "fast motion",
        "in-plane rotation",
        "background clutter",
        "low resolution",
    }
    assert set(found.groups.values()) == {frozenset({"Deer"})}
    assert "1 is missing: Matrix" in found.note
    write(tmp_path / "att" / "Matrix.txt", "1 1 1 1 0 0 1 1 0 1 0")
    assert attributes(table).groups["fast motion"] == {"Deer", "Matrix"}
    assert attributes(table).note == ""
    assert (table.content(), table.tracker_inputs()) == content
    assert pickle.loads(pickle.dumps(table)).read_attributes(["Deer"]).groups["motion blur"] == {"Deer"}


def test_two_objects_of_one_video_have_files_of_their_own(tmp_path):
    for name in ("Jogging-1", "jogging_2", "human4-2"):
        write(tmp_path / f"{name}.txt", "1")
    names = ("Jogging.1", "Jogging.2", "Human4")
    found = read_attribute_files(names, ["fast"], [tmp_path], "files", {"Human4": "Human4-2"})
    assert found.groups == {"fast": set(names)}


def test_uav123_has_attributes_beside_its_boxes(tmp_path):
    frames(tmp_path / "data_seq" / "UAV123" / "uav5", 1, 139, digits=6)
    write(tmp_path / "anno" / "UAV123" / "uav5.txt", lines(1, 139))
    table = read_uav123(tmp_path, names=["uav5"])
    assert "anno/UAV123/att of the official archive" in attributes(table).note
    write(tmp_path / "anno" / "UAV123" / "att" / "uav5.txt", "1,0,0,0,0,0,0,0,0,0,0,1\n")
    assert attributes(table).groups.keys() == {"scale variation", "similar object"}


def test_lasot_without_the_files_of_its_toolkit_has_what_labels_tell(tmp_path):
    folder = tmp_path / "airplane" / "airplane-1"
    frames(folder / "img", 1, 3)
    write(folder / "groundtruth.txt", lines(1, 3))
    write(folder / "full_occlusion.txt", "0,1,0\n")
    write(folder / "out_of_view.txt", "0,0,0\n")
    table = read_lasot(tmp_path, "test", names=["airplane-1"])
    assert attributes(table).groups == {"full occlusion": {"airplane-1"}}
    assert f"HengLan/LaSOT_Evaluation_Toolkit into {tmp_path}/att" in attributes(table).note
    write(tmp_path / "att" / "airplane-1.txt", "0,1,0,0,0,1,0,0,1,0,0,0,1,0\n")
    found = attributes(table)
    assert found.groups.keys() == {"partial occlusion", "rotation", "scale variation", "low resolution"}
    assert found.note == ""


def test_got10k_has_classes_of_object_and_motion(tmp_path):
    for i, motion in ((1, "running"), (2, "swimming ")):
        folder = tmp_path / "val" / f"GOT-10k_Val_{i:06d}"
        frames(folder, 1, 2)
        write(folder / "groundtruth.txt", lines(1, 2))
        write(
            folder / "meta_info.ini",
            f"[METAINFO]\nurl: \nobject_class: bear\nmotion_class: {motion}\r\nresolution: (9, 9)\n",
        )
    write(tmp_path / "val" / "list.txt", "GOT-10k_Val_000001\nGOT-10k_Val_000002\n")
    table = read_got10k(tmp_path, "val")
    groups = {name: len(members) for name, members in attributes(table).groups.items()}
    assert groups == {"motion_class: running": 1, "motion_class: swimming": 1, "object_class: bear": 2}
    write(tmp_path / "val" / "GOT-10k_Val_000001" / "meta_info.ini", "")
    write(tmp_path / "val" / "GOT-10k_Val_000002" / "meta_info.ini", "resolution: (9, 9)")
    assert "meta_info.ini name no classes" in attributes(table).note


@pytest.mark.parametrize("text", ["", "1,0", "1,0,2", "1,0,yes", "1,0,nan"])
def test_a_file_of_another_data_set_is_refused(tmp_path, text):
    write(tmp_path / "a.txt", text)
    with pytest.raises(DataError, match=r"a\.txt must hold 3 numbers that are 0 or 1"):
        read_attribute_files(["a"], ["one", "two", "three"], [tmp_path], "files")
