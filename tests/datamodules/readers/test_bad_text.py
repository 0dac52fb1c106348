"""Text that people and tools write: read as it is meant, or refused in one line that names the file and the place."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.readers import read_coco, read_folder, read_got10k, read_lasot, read_nfs, read_otb, read_trackingnet
from tests.datamodules.readers.test_readers import LAYOUTS, coco, frames, lines, write

BOXES = [[1, 2, 30, 40], [5, 6, 7, 8]]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A folder of two frames; tests write its annotation."""
    frames(tmp_path / "walk", 1, 2)
    return tmp_path / "walk"


def refused(read, *words: str | Path) -> None:
    with pytest.raises(DataError) as error:
        read()
    for word in words:
        assert str(word) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


# Numbers


@pytest.mark.parametrize(
    "text",
    [
        "1,2,30,40\n5,6,7,8\n",
        "1,2,30,40\n5,6,7,8",
        "1,2,30,40\r\n5,6,7,8\r\n",
        "1,2,30,40\r5,6,7,8\r",
        "1\t2\t30\t40\n5\t6\t7\t8\n",
        "1 2 30 40\n5  6  7  8\n",
        "  1 , 2, 30 ,40\t\n5,6,7,8  \n",
        "1.0,2.00,3e1,4.0E+1\n+5,6.,7,8\n",
        "1,2,30,40\n5,6,7,8\n\n\n \n",
        "\ufeff1,2,30,40\n5,6,7,8\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_spellings_of_boxes(video, text, encoding):
    (video / "groundtruth.txt").write_bytes(
        text.encode(encoding) if encoding == "utf-8" else text.lstrip("\ufeff").encode(encoding)
    )
    assert read_folder(video)[0].boxes.tolist() == BOXES


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_boxes_in_either_order_of_bytes(video, encoding):
    (video / "groundtruth.txt").write_bytes(("\ufeff" + lines(0, 2)).encode(encoding))
    assert read_folder(video)[0].boxes.shape == (2, 4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"1,2,30\n5,6,7,8\n", "line 1 is '1,2,30'"),
        (b"1,2,30,40\n5,6,7\n", "line 2"),
        (b"1,2,30,40,1\n5,6,7,8,1\n", "line 1"),
        (b"1,2,30,40,\n5,6,7,8,\n", "line 1 is '1,2,30,40,'"),
        (b"1,234,5,30,40\n", "line 1"),
        (b"1;2;30;40\n", "line 1"),
        (b"1,5 2,5 30,0 40,0\n", "line 1"),
        (b"x,y,w,h\n1,2,30,40\n", "line 1 is 'x,y,w,h'"),
        (b"# boxes\n1,2,30,40\n", "line 1"),
        (b"1,2,30,40\n\n5,6,7,8\n", "line 2 is ''"),
        (b"\n1,2,30,40\n5,6,7,8\n", "line 1 is ''"),
        (b"1,2,30,40\nnan,nan,nan,nan\n", "line 2 is 'nan,nan,nan,nan'"),
        (b"1,2,30,40\n1,2,inf,4\n", "line 2"),
        (b"1,2,30,40\n1,2,1e999,4\n", "line 2"),
        (b"1,2,30,40\n1,2,None,4\n", "line 2"),
        (b"1,2,30,40\n1,2,,4\n", "line 2 is '1,2,,4'"),
        (b"1,2,30,40\n1,2,3,4\0\n", "line 2 is '1,2,3,4\\x00'"),
        (b"1,2,30,40\n\0\0\0\0\0\0\n", "line 2"),
        (b"[1,2,30,40]\n[5,6,7,8]\n", "line 1"),
        (b"1,2,30,40\n0x10,6,7,8\n", "line 2"),
        (b"1,2,30,40\n1_0,6,7,8\n", "line 2"),
        (b"1,2,30,40\n5,6,7,8 px\n", "line 2"),
        ("1,2,30,40\n5,6,7,\u0668\n".encode(), "line 2"),
        ("1,2,30,40\n\u22125,6,7,8\n".encode(), "line 2"),
        ("1\u00a02\u00a030\u00a040\n".encode("latin-1"), "line 1"),
        (b"1,2,30,40\n" + 100_000 * b"7", "line 2 is '7777"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1"),
        (b"\xff\xfe1", "line 1"),
        ("1,2,30,40\n5,6,7,8\n".encode("utf-16-le"), "line 1"),
    ],
)
def test_other_text_names_its_line(video, text, line):
    (video / "groundtruth.txt").write_bytes(text)
    refused(lambda: read_folder(video), video / "groundtruth.txt", line)


def test_an_annotation_that_is_no_file(video):
    (video / "groundtruth.txt").mkdir()
    refused(lambda: read_folder(video), video / "groundtruth.txt")
    layout = LAYOUTS["otb"]
    layout.write(video)
    (video / layout.annotation).unlink()
    (video / layout.annotation).mkdir()
    refused(lambda: layout.read(video), layout.annotation, "cannot be read")


@pytest.mark.parametrize("name", ["got10k", "lasot", "otb", "uav123", "nfs"])
def test_a_name_that_differs_in_case_is_named(tmp_path, name):
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    path = tmp_path / layout.annotation
    path.rename(path.with_name(path.name.upper()))
    refused(lambda: layout.read(tmp_path), path, f"there is {path.name.upper()}")


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "folder"])
def test_a_folder_of_frames_that_links_to_itself(tmp_path, name):
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    folder = tmp_path / layout.folder
    shutil.rmtree(folder)
    folder.symlink_to(folder.name)
    refused(lambda: layout.read(tmp_path))


def test_an_annotation_that_links_to_itself(video):
    layout = LAYOUTS["nfs"]
    layout.write(video)
    (video / layout.annotation).unlink()
    (video / layout.annotation).symlink_to(Path(layout.annotation).name)
    refused(lambda: layout.read(video), layout.annotation, "cannot be read")


@pytest.mark.parametrize("name", ["straße", "日本", "a b", "x'y", "100%", "c:d", "[1]"])
def test_names_of_folders_in_any_language(tmp_path, name):
    folder = tmp_path / name
    frames(folder, 1, 2)
    write(folder / "groundtruth.txt", lines(0, 2))
    assert [s.name for s in read_folder(folder)] == [name]


def test_frames_whose_names_are_no_utf_8(video):
    (Path(os.fsdecode(os.fsencode(video) + b"/caf\xe9.jpg"))).touch()
    write(video / "groundtruth.txt", lines(0, 3))
    refused(lambda: read_folder(video), "no name in UTF-8")


def test_a_folder_whose_name_is_no_utf_8(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    frames(folder, 1, 2)
    write(folder / "groundtruth.txt", lines(0, 2))
    refused(lambda: read_folder(tmp_path), "UTF-8")


# Lists of names


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Two sequences in the layout of GOT-10k, without list.txt."""
    for name in ("A", "b c"):
        frames(tmp_path / "val" / name, 1, 2)
        write(tmp_path / "val" / name / "groundtruth.txt", lines(0, 2))
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        b"A\nb c\n",
        b"A\r\nb c",
        b"\xef\xbb\xbfA\nb c\n",
        "A\nb c\n".encode("utf-16"),
        b"\n  A\t\n\nb c \n\n",
        b"A\rb c\r",
    ],
)
def test_spellings_of_a_list(listed, text):
    write(listed / "val" / "list.txt", text)
    assert [s.name for s in read_got10k(listed, "val")] == ["A", "b c"]


def test_names_of_a_list_in_another_language(listed):
    (listed / "val" / "A").rename(listed / "val" / "straße")
    for encoding in ("utf-8", "utf-16"):
        write(listed / "val" / "list.txt", "straße\n".encode(encoding))
        assert [s.name for s in read_got10k(listed, "val")] == ["straße"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "list.txt is empty"),
        (b"\n \n", "list.txt is empty"),
        ("A\nstra\u00dfe\n".encode("latin-1"), "list.txt is no UTF-8 text: line 2 holds 0xdf"),
        ("A\n".encode("utf-16-le"), "'A\\x00'"),
        (b"A\nA\n", "lists A more than once"),
        (b"A\nb\n", "1 is missing: b"),
        (b"../val/A\n", "'../val/A'; results are kept by name"),
        (b"..\n", "'..'"),
        (b"A\n/etc\n", "'/etc'"),
        (b"A\n" + 300 * b"x", "at most 200 bytes"),
        (b"A\0\n", "'A\\x00'"),
        (b"A\x1b[31m\n", "'A\\x1b[31m'"),
        (b"..\\A\n", "..\\\\A"),
    ],
)
def test_other_lists_are_refused(listed, text, words):
    write(listed / "val" / "list.txt", text)
    place = listed if "missing" in words else listed / "val" / "list.txt"
    refused(lambda: read_got10k(listed, "val"), place, words)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("[METAINFO]\nresolution: (640, 480)\n", (640, 480)),
        ("resolution: (640,480)\r\nurl: caf\u00e9\r\n", (640, 480)),
        ("resolution: 640x480\n", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_meta_information_in_any_encoding(listed, text, size, encoding):
    write(listed / "val" / "list.txt", "A\n")
    write(listed / "val" / "A" / "meta_info.ini", text.encode(encoding))
    assert read_got10k(listed, "val")[0].resolution == size


@pytest.mark.parametrize(
    "read",
    [
        lambda root: read_got10k(root, "Val"),
        lambda root: read_trackingnet(root, "train", [0]),
        lambda root: read_lasot(root / "val", "extension", ["atv-1"]),
        lambda root: read_otb(root / "val", names=["Deer"]),
        lambda root: read_nfs(root / "val", names=["bee"]),
    ],
)
def test_data_in_another_layout(listed, read):
    write(listed / "val" / "list.txt", "A\n")
    refused(lambda: read(listed), "missing")


def test_an_annotation_without_its_video(tmp_path):
    layout = LAYOUTS["trackingnet"]
    layout.write(tmp_path)
    write((tmp_path / layout.annotation).with_name("B.txt"), lines(0, 4))
    refused(lambda: layout.read(tmp_path), "1 is missing: B")


# COCO

PICTURE = {"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}
OBJECT = {"id": 5, "image_id": 1, "bbox": [1, 2, 3, 4]}


def without(entry: dict, *keys: str) -> dict:
    return {key: value for key, value in entry.items() if key not in keys}


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ([PICTURE], [OBJECT]),
        ([PICTURE], [OBJECT | {"iscrowd": 0}, OBJECT | {"id": 6, "iscrowd": 1}]),
        ([PICTURE], [OBJECT | {"iscrowd": None}, OBJECT | {"id": 6, "iscrowd": True}]),
        ([without(PICTURE, "width", "height")], [OBJECT]),
        ([PICTURE | {"width": None}], [OBJECT]),
    ],
)
def test_exports_of_annotation_tools(tmp_path, images, annotations):
    coco(tmp_path, images=images, annotations=annotations, categories=[])
    cv2.imwrite(str(tmp_path / "images" / "train2017" / "a.jpg"), np.zeros((3, 4, 3), np.uint8))
    (found,) = read_coco(tmp_path)
    assert (found.name, found.size, found.boxes.tolist()) == ("5", (4, 3), [[1, 2, 3, 4]])


def test_an_export_with_a_byte_order_mark_and_without_objects(tmp_path):
    path = coco(tmp_path, annotations=[])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_coco(tmp_path)) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [OBJECT | {"bbox": ["1", "2", "3", "4"]}]}, "annotation 5 has bbox=['1', '2', '3', '4']"),
        ({"annotations": [OBJECT | {"bbox": [1, 2, 3]}]}, "annotation 5 has bbox=[1, 2, 3]"),
        ({"annotations": [OBJECT | {"bbox": [1, 2, 3, float("nan")]}]}, "annotation 5 has bbox"),
        ({"annotations": [OBJECT | {"bbox": [1, 2, 3, True]}]}, "annotation 5 has bbox"),
        ({"annotations": [OBJECT | {"bbox": {"x": 1}}]}, "annotation 5 has bbox={'x': 1}"),
        ({"annotations": [OBJECT | {"bbox": None}]}, "annotation 5 has bbox=None"),
        ({"annotations": [without(OBJECT, "bbox")]}, "annotation 5 has bbox=None"),
        ({"annotations": [OBJECT, OBJECT]}, "two entries of 'annotations' have the id 5"),
        ({"images": [PICTURE, PICTURE]}, "two entries of 'images' have the id 1"),
        ({"annotations": [OBJECT | {"image_id": 2}]}, "annotation 5 has image_id=2, which is the id of no picture"),
        ({"annotations": [without(OBJECT, "image_id")]}, "annotation 5 has image_id=None"),
        ({"annotations": [OBJECT | {"image_id": [1]}]}, "annotation 5 has image_id=[1]"),
        ({"annotations": [OBJECT | {"image_id": True}]}, "annotation 5 has image_id=True"),
        ({"annotations": [without(OBJECT, "id")]}, "entry 0 of 'annotations' has the id None"),
        ({"annotations": [OBJECT | {"id": [5]}]}, "has the id [5]"),
        ({"images": [without(PICTURE, "file_name")]}, "picture 1 has file_name=None"),
        ({"images": [PICTURE | {"width": "640"}]}, "picture 1 has the size ('640', 3)"),
        ({"images": [PICTURE | {"width": -1}]}, "picture 1 has the size"),
        ({"images": [PICTURE | {"file_name": "../a.jpg"}]}, "annotated pictures are there, 1 is missing: ../a.jpg"),
        ({"annotations": {"5": OBJECT}}, "a list 'annotations' of objects"),
        ({"annotations": [1]}, "a list 'annotations' of objects"),
        ({"images": None}, "a list 'images' of objects"),
    ],
)
def test_other_exports_say_which_entry_is_wrong(tmp_path, changes, words):
    path = coco(tmp_path)
    path.write_text(json.dumps({"images": [PICTURE], "annotations": [OBJECT]} | changes))
    write(tmp_path / "images" / "train2017" / "a.jpg", "")
    refused(lambda: read_coco(tmp_path), "instances_train2017.json" if "missing" not in words else "", words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "it ends too early"),
        (b'{"images": [{"id": 1, "file_na', "it ends too early, so the copy is incomplete: copy it again"),
        (b'{"images": []', "it ends too early"),
        (b'{"images": [], "annotations": []}}', "Extra data"),
        (b"{'images': []}", "Expecting property name"),
        (b"[]", "a list 'images' of objects"),
        (b"null", "a list 'images' of objects"),
        (b'"coco"', "a list 'images' of objects"),
        (b"\x80abc", "no UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"images": [], "annotations": [%s]}' % (b"9" * 5_000), "a number of thousands of digits"),
    ],
)
def test_other_files_are_refused(tmp_path, text, words):
    path = coco(tmp_path)
    path.write_bytes(text)
    refused(lambda: read_coco(tmp_path), path, words)
