"""Readers: official layouts, and error messages for incomplete or damaged copies."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.errors import DataError
from datamodules.frames.pictures import UnreadableFrameError
from datamodules.readers import (
    read_coco,
    read_folder,
    read_got10k,
    read_lasot,
    read_nfs,
    read_otb,
    read_trackingnet,
    read_uav123,
)
from datamodules.readers.official_lists import read_official_list
from tests.datamodules.sequences.strict import damaged, strict_numbers, strict_vatic

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def frames(folder: Path, first: int, last: int, digits: int = 8, suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, last + 1):
        (folder / f"{i:0{digits}d}{suffix}").touch()


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def lines(first: int, count: int) -> str:
    """Returns lines of boxes; x is the number of the box."""
    return "".join(f"{i},{i + 1},30,40\n" for i in range(first, first + count))


def boxes_from_zero(count: int) -> str:
    return lines(0, count)


def vatic(count: int) -> str:
    return "".join(f'0 {i} {i + 1} {i + 30} {i + 41} {i} 0 1 0 "ball"\n' for i in range(count))


@dataclass(frozen=True)
class Layout:
    """One sequence in the layout of a data set."""

    read: Callable
    folder: str
    annotation: str
    first: int = 1
    digits: int = 8
    count: int = 4
    text: Callable[[int], str] = boxes_from_zero
    files: dict[str, str] = field(default_factory=dict)
    strict: Callable = strict_numbers
    nan: bool = False
    lengths: tuple[int, ...] = ()  # other accepted numbers of boxes than `count`

    def write(self, root: Path) -> None:
        frames(root / self.folder, self.first, self.first + self.count - 1, self.digits)
        for path, text in {self.annotation: self.text(self.count), **self.files}.items():
            write(root / path, text)

    def wanted(self, text: bytes) -> list | None:
        """Returns the expected boxes, or None if the text must be refused."""
        boxes = self.strict(text) if self.strict is strict_vatic else self.strict(text, 4, self.nan)
        fits = boxes is not None and len(boxes) in (self.count, *self.lengths)
        return boxes[: self.count] if fits else None


LAYOUTS = {
    "got10k": Layout(
        partial(read_got10k, split="val"), "val/A", "val/A/groundtruth.txt", files={"val/list.txt": "A\n"}
    ),
    "lasot": Layout(
        partial(read_lasot, split="extension", names=["atv-1"]), "atv/atv-1/img", "atv/atv-1/groundtruth.txt", nan=True
    ),
    "trackingnet": Layout(
        partial(read_trackingnet, split="train", chunks=[3]),
        "TRAIN_3/frames/A",
        "TRAIN_3/anno/A.txt",
        first=0,
        digits=1,
    ),
    "otb": Layout(partial(read_otb, names=["Deer"]), "Deer/img", "Deer/groundtruth_rect.txt", digits=4, count=71),
    "uav123": Layout(
        partial(read_uav123, names=["uav6"]),
        "data_seq/UAV123/uav6",
        "anno/UAV123/uav6.txt",
        digits=6,
        count=109,
        nan=True,
    ),
    "nfs": Layout(
        partial(read_nfs, fps=240, names=["bee"]),
        "bee/240/bee",
        "bee/240/bee.txt",
        digits=5,
        text=vatic,
        strict=strict_vatic,
        lengths=(3, 5),
    ),
    "folder": Layout(read_folder, "A", "A/groundtruth.txt", first=7, digits=1, lengths=(1,)),
}
each_layout = pytest.mark.parametrize("layout", [pytest.param(v, id=k) for k, v in LAYOUTS.items()])


@each_layout
def test_frames_and_boxes(layout, tmp_path):
    layout.write(tmp_path)
    (s,) = layout.read(tmp_path)
    assert s.folder == tmp_path / layout.folder
    assert [*s.frames] == [f"{layout.first + i:0{layout.digits}d}.jpg" for i in range(layout.count)]
    assert s.boxes.tolist() == [[i, i + 1, 30, 40] for i in range(layout.count)]
    assert s.annotated
    assert s.visible.all()
    assert not s.still


@quick
@given(data=st.data())
@each_layout
def test_damaged_annotations_are_read_strictly_or_refused(layout, tmp_path, data):
    layout.write(tmp_path)
    text = data.draw(damaged(st.just(layout.text(layout.count).encode())))
    write(tmp_path / layout.annotation, text)
    wanted = layout.wanted(text)
    try:
        (s,) = layout.read(tmp_path)
    except DataError:
        # Your own videos must start with a box. The VATIC parser accepts usual lines only.
        assert wanted is None or layout.read is read_folder or layout.strict is strict_vatic
    else:
        assert np.array_equal(s.boxes, np.reshape(wanted, (-1, 4)), equal_nan=True)
        assert len(s.absent) == len(s.boxes)


@each_layout
def test_a_missing_root_is_named(layout, tmp_path):
    with pytest.raises(DataError, match="elsewhere"):
        layout.read(tmp_path / "elsewhere")


@each_layout
def test_a_folder_of_something_else_is_refused(layout, tmp_path):
    frames(tmp_path / "other", 1, 3)
    with pytest.raises(DataError, match=r"missing|annotation"):
        layout.read(tmp_path)


@each_layout
@pytest.mark.parametrize("frame", [0, 2, -1])
def test_a_missing_frame_is_found(layout, tmp_path, frame):
    layout.write(tmp_path)
    frame = frame % layout.count
    (tmp_path / layout.folder / f"{layout.first + frame:0{layout.digits}d}.jpg").unlink()
    if "nfs" in str(layout.read):  # there, one is tolerated
        (tmp_path / layout.folder / f"{layout.first + 1:0{layout.digits}d}.jpg").unlink()
    with pytest.raises(DataError, match=r"incomplete"):
        layout.read(tmp_path)


@each_layout
def test_missing_frames_are_found(layout, tmp_path):
    layout.write(tmp_path)
    shutil.rmtree(tmp_path / layout.folder)
    with pytest.raises(DataError, match=r"missing|holds neither"):
        layout.read(tmp_path)


@each_layout
def test_an_empty_folder_of_frames_is_found(layout, tmp_path):
    layout.write(tmp_path)
    for frame in (tmp_path / layout.folder).glob("*.jpg"):
        frame.unlink()
    with pytest.raises(DataError, match="has no frames"):
        layout.read(tmp_path)


@each_layout
def test_a_missing_annotation_is_found(layout, tmp_path):
    layout.write(tmp_path)
    (tmp_path / layout.annotation).unlink()
    with pytest.raises(DataError, match=r"is missing|has no annotation"):
        layout.read(tmp_path)


@each_layout
def test_annotations_of_another_length_are_refused(layout, tmp_path):
    layout.write(tmp_path)
    write(tmp_path / layout.annotation, layout.text(layout.count + 2))
    with pytest.raises(DataError, match=rf"{layout.count} frames and {layout.count + 2} annotated boxes"):
        layout.read(tmp_path)


@pytest.mark.parametrize(
    "read",
    [
        partial(read_lasot, split="val"),
        partial(read_otb, version="otb2014"),
        partial(read_otb, tiger1_first=2),
        partial(read_uav123, version="UAV123"),
        partial(read_nfs, fps=60),
        partial(read_trackingnet, split="val"),
        partial(read_trackingnet, split="test", chunks=[0]),
        partial(read_got10k, split="valid"),
        partial(read_coco, split="train"),
    ],
)
def test_an_unknown_part_is_refused(read, tmp_path):
    with pytest.raises(DataError):
        read(tmp_path)


@pytest.mark.parametrize(
    "read", [partial(read_lasot, split="test"), read_otb, read_uav123, read_nfs], ids=["lasot", "otb", "uav123", "nfs"]
)
def test_unknown_names_are_refused(read, tmp_path):
    with pytest.raises(DataError, match=r"no sequence airplane-2; names=\["):
        read(tmp_path, names=["airplane-2"])


def test_tables_name_each_sequence_of_a_part_once():
    sizes = {"lasot": [280, 1120, 150], "otb": [100, 51, 50], "uav123": [123, 20], "nfs": [100, 100]}
    parts = {"lasot": ["test", "train", "extension"], "otb": ["otb100", "otb2013", "otb50"]}
    parts |= {"uav123": ["uav123", "uav20l"], "nfs": ["30", "240"]}
    for table in parts:
        names = [[row["name"] for row in read_official_list(table, part)] for part in parts[table]]
        assert [len(part) for part in names] == [len(set(part)) for part in names] == sizes[table]


# LaSOT


def test_lasot_without_folders_of_classes(tmp_path):
    frames(tmp_path / "atv-1" / "img", 1, 2)
    write(tmp_path / "atv-1" / "groundtruth.txt", lines(0, 2))
    assert read_lasot(tmp_path, "extension", ["atv-1"])[0].folder == tmp_path / "atv-1" / "img"


@pytest.mark.parametrize(
    ("full_occlusion", "out_of_view", "absent"),
    [("0,1,0,0", "0,0,0,1", [0, 1, 0, 1]), (None, "0,0,0,1\n", [0, 0, 0, 1]), (None, None, [0, 0, 0, 0])],
)
def test_lasot_is_absent_where_a_label_says_so(tmp_path, full_occlusion, out_of_view, absent):
    layout = LAYOUTS["lasot"]
    layout.write(tmp_path)
    for name, text in {"full_occlusion": full_occlusion, "out_of_view": out_of_view}.items():
        if text is not None:
            write(tmp_path / "atv" / "atv-1" / f"{name}.txt", text)
    (s,) = layout.read(tmp_path)
    assert s.absent.tolist() == s.absent.astype(bool).tolist() == [bool(a) for a in absent]
    assert (s.visible == ~s.absent).all()


@pytest.mark.parametrize("label", ["full_occlusion", "out_of_view"])
@pytest.mark.parametrize("text", ["0,1,0", "0,1,0,0,0", "0,1,0,2", "0,1,0,", ""])
def test_lasot_labels_that_do_not_fit_are_refused(tmp_path, label, text):
    LAYOUTS["lasot"].write(tmp_path)
    write(tmp_path / "atv" / "atv-1" / f"{label}.txt", text)
    with pytest.raises(DataError, match=label):
        LAYOUTS["lasot"].read(tmp_path)


# TrackingNet


def trackingnet(root: Path, chunk: str, names: list[str], count: int = 12, annotated: int | None = None) -> None:
    for name in names:
        frames(root / chunk / "frames" / name, 0, count - 1, digits=1)
        write(root / chunk / "anno" / f"{name}.txt", lines(0, count if annotated is None else annotated))


def test_trackingnet_chunks(tmp_path):
    for i in range(12):
        trackingnet(tmp_path, f"TRAIN_{i}", [f"b{i}", f"-a{i}"], count=1)
    two = read_trackingnet(tmp_path, "train", [2, 0])
    assert ([s.name for s in two], two.coverage) == (["-a2", "b2", "-a0", "b0"], "4 of 5,022 sequences")
    assert len(read_trackingnet(tmp_path, "train")) == 24


def test_trackingnet_frames_are_ordered_by_number(tmp_path):
    trackingnet(tmp_path, "TRAIN_0", ["a"])
    assert [*read_trackingnet(tmp_path, "train", [0])[0].frames] == [f"{i}.jpg" for i in range(12)]


def test_trackingnet_test_has_one_box(tmp_path):
    trackingnet(tmp_path, "TEST", ["a"], annotated=1)
    (s,) = read_trackingnet(tmp_path, "test")
    assert (len(s), len(s.boxes), s.annotated) == (12, 1, False)
    trackingnet(tmp_path, "TEST", ["a"], annotated=2)
    with pytest.raises(DataError, match="12 frames and 2 annotated boxes"):
        read_trackingnet(tmp_path, "test")


def test_trackingnet_train_is_annotated_whole(tmp_path):
    trackingnet(tmp_path, "TRAIN_0", ["a"], annotated=1)
    with pytest.raises(DataError, match="12 frames and 1 annotated boxes"):
        read_trackingnet(tmp_path, "train", [0])


def test_a_name_in_two_chunks_is_refused(tmp_path):
    for chunk in ("TRAIN_0", "TRAIN_1"):
        trackingnet(tmp_path, chunk, ["a"])
    with pytest.raises(DataError, match="lists a more than once"):
        read_trackingnet(tmp_path, "train", [0, 1])


# OTB


def test_otb_takes_the_annotated_pictures_of_more(tmp_path):
    frames(tmp_path / "David" / "img", 1, 800, digits=4)
    write(tmp_path / "David" / "groundtruth_rect.txt", lines(300, 471))
    (s,) = read_otb(tmp_path, names=["David"])
    assert (s.frames[0], s.frames[-1], len(s)) == ("0300.jpg", "0770.jpg", 471)
    assert s.boxes[[0, -1], 0].tolist() == [300, 770]


def test_otb_with_other_suffixes_and_digits(tmp_path):
    frames(tmp_path / "Deer" / "img", 1, 71, digits=6, suffix=".PNG")
    write(tmp_path / "Deer" / "groundtruth_rect.txt", lines(1, 71))
    assert read_otb(tmp_path, names=["Deer"])[0].frames[70] == "000071.PNG"


def test_otb_refuses_a_picture_that_is_there_twice(tmp_path):
    LAYOUTS["otb"].write(tmp_path)
    (tmp_path / "Deer" / "img" / "0005.png").touch()
    with pytest.raises(DataError, match="has 2 of number 5"):
        read_otb(tmp_path, names=["Deer"])


@pytest.mark.parametrize(("first", "length"), [(1, 354), (6, 349)])
def test_tiger1_starts_where_a_toolkit_starts(tmp_path, first, length):
    frames(tmp_path / "Tiger1" / "img", 1, 354, digits=4)
    write(tmp_path / "Tiger1" / "groundtruth_rect.txt", lines(1, 354))
    for cache in (None, tmp_path / "cache"):
        (s,) = read_otb(tmp_path, tiger1_first=first, names=["Tiger1"], cache=cache)
        other = read_otb(tmp_path, tiger1_first=7 - first, names=["Tiger1"], cache=cache)[0]
        assert (len(s), len(other)) == (length, 703 - length)
        assert (s.frames[0], s.boxes[0, 0], s.boxes[-1, 0]) == (f"{first:04d}.jpg", first, 354)


def test_two_objects_in_one_folder(tmp_path):
    frames(tmp_path / "Jogging" / "img", 1, 307, digits=4)
    for i in (1, 2):
        write(tmp_path / "Jogging" / f"groundtruth_rect.{i}.txt", lines(i, 307))
    both = read_otb(tmp_path, names=["Jogging.2", "Jogging.1"])
    assert [(s.name, s.boxes[0, 0]) for s in both] == [("Jogging.1", 1), ("Jogging.2", 2)]


# UAV123


def test_uav123_sequences_are_parts_of_folders(tmp_path):
    frames(tmp_path / "data_seq" / "UAV123" / "truck4", 1, 1261, digits=6)
    for name, (first, last) in {"truck4_1": (1, 577), "truck4_2": (577, 1261)}.items():
        write(tmp_path / "anno" / "UAV123" / f"{name}.txt", lines(first, last - first + 1))
    both = read_uav123(tmp_path, names=["truck4_1", "truck4_2"], cache=tmp_path / "cache")
    assert [(s.frames[0], s.frames[-1], len(s)) for s in both] == [
        ("000001.jpg", "000577.jpg", 577),
        ("000577.jpg", "001261.jpg", 685),
    ]
    assert [s.boxes[0, 0] for s in both] == [1, 577]


def test_uav123_without_the_object_is_not_visible(tmp_path):
    LAYOUTS["uav123"].write(tmp_path)
    write(tmp_path / "anno" / "UAV123" / "uav6.txt", lines(0, 108) + "NaN,NaN,NaN,NaN\n")
    (s,) = read_uav123(tmp_path, names=["uav6"])
    assert s.visible.tolist() == [True] * 108 + [False]


# NfS


@pytest.mark.parametrize(("annotated", "pictures", "kept"), [(33, 5, 5), (32, 4, 4), (33, 4, 4), (32, 5, 4)])
def test_nfs_at_30_takes_each_eighth_line(tmp_path, annotated, pictures, kept):
    frames(tmp_path / "bee" / "30" / "bee", 1, pictures, digits=5)
    write(tmp_path / "bee" / "30" / "bee.txt", vatic(annotated))
    (s,) = read_nfs(tmp_path, names=["bee"])
    assert s.boxes.tolist() == [[8 * i, 8 * i + 1, 30, 40] for i in range(kept)]
    assert [*s.frames] == [f"{i:05d}.jpg" for i in range(1, kept + 1)]


def test_nfs_refuses_other_lines(tmp_path):
    LAYOUTS["nfs"].write(tmp_path)
    write(tmp_path / "bee" / "240" / "bee.txt", vatic(2) + '0 1 2 34 5 0 0 0 "ball"\n' + vatic(1))
    with pytest.raises(DataError, match=r'bee\.txt must hold 9 whole numbers and a "label" on each line; line 3'):
        LAYOUTS["nfs"].read(tmp_path)


# COCO


def coco(root: Path, split: str = "train2017", **changes: list) -> Path:
    picture = {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480}
    content = {
        "images": [picture, {"id": 25, "file_name": "b.jpg", "width": 427, "height": 640}],
        "annotations": [
            {"id": 1038967, "image_id": 9, "iscrowd": 0, "bbox": [1.08, 187.69, 611.59, 285.84], "category_id": 1},
            {"id": 7, "image_id": 25, "iscrowd": 1, "bbox": [10, 20, 300, 200], "category_id": 1},
            {"id": 1040, "image_id": 25, "iscrowd": 0, "bbox": [249.6, 229.27, 316.24, 0], "category_id": 1},
            {"id": 77, "image_id": 9, "iscrowd": 0, "bbox": [0, 13.51, 434.48, 375.12], "category_id": 1},
        ],
        "categories": [{"id": 1, "name": "bowl"}],
        **changes,
    }
    for image in content["images"]:
        write(root / "images" / split / image["file_name"], "")
    path = root / "annotations" / f"instances_{split}.json"
    write(path, json.dumps(content))
    return path


@pytest.mark.parametrize("cached", [False, True])
def test_coco_objects_are_still_pictures(tmp_path, capsys, cached):
    coco(tmp_path)
    table = read_coco(tmp_path, cache=tmp_path / "cache" if cached else None)
    table = read_coco(tmp_path, cache=tmp_path / "cache") if cached else table
    assert [s.name for s in table] == ["1038967", "1040", "77"]
    assert [[*s.frames] for s in table] == [["000000000009.jpg"], ["b.jpg"], ["000000000009.jpg"]]
    assert [s.size for s in table] == [(640, 480), (427, 640), (640, 480)]
    assert [s.visible.tolist() for s in table] == [[True], [False], [True]]
    assert table[2].boxes.tolist() == [[0, 13.51, 434.48, 375.12]]
    assert table[2].folder == tmp_path / "images" / "train2017"
    assert table.still
    assert all(s.still and s.annotated and s.cover is None and not s.absent.any() for s in table)
    assert table.visible_counts().tolist() == [1, 0, 1]
    assert capsys.readouterr().out == ""


def test_coco_with_pictures_beside_the_annotations(tmp_path):
    coco(tmp_path)
    (tmp_path / "images" / "train2017").rename(tmp_path / "train2017")
    assert read_coco(tmp_path)[0].folder == tmp_path / "train2017"


def test_coco_with_an_id_twice(tmp_path):
    box = {"id": 7, "image_id": 9, "iscrowd": 0, "bbox": [1, 2, 3, 4], "category_id": 1}
    coco(tmp_path, annotations=[box, {**box, "bbox": [5, 6, 7, 8]}])
    with pytest.raises(DataError, match="two entries of 'annotations' have the id 7"):
        read_coco(tmp_path)


@quick
@given(data=st.data())
def test_damaged_coco_is_read_strictly_or_refused(tmp_path, data):
    path = coco(tmp_path)
    text = data.draw(damaged(st.just(path.read_bytes())))
    path.write_bytes(text)
    try:
        table = read_coco(tmp_path)
    except (DataError, UnreadableFrameError):  # a damaged "width" is read from the picture, which is empty here
        return
    objects = [a for a in json.loads(text)["annotations"] if not a.get("iscrowd")]
    assert [s.boxes.tolist() for s in table] == [[a["bbox"]] for a in objects]
    assert [s.name for s in table] == [str(a["id"]) for a in objects]


# Own videos


def test_own_folders_one_or_several(tmp_path):
    frames(tmp_path / "b" / "img", 8, 12, digits=1)
    write(tmp_path / "b" / "groundtruth.txt", lines(0, 5))
    frames(tmp_path / "a", 1, 3)
    write(tmp_path / "a" / "groundtruth.txt", lines(0, 1))
    write(tmp_path / "notes.md", "")
    (tmp_path / ".hidden").mkdir()
    a, b = read_folder(tmp_path)
    assert (a.name, len(a), a.annotated) == ("a", 3, False)
    assert (b.name, [*b.frames], b.annotated) == ("b", ["8.jpg", "9.jpg", "10.jpg", "11.jpg", "12.jpg"], True)
    (alone,) = read_folder(tmp_path / "b")
    assert (alone.name, alone.folder) == ("b", b.folder)


def test_an_annotation_that_lies_elsewhere(tmp_path):
    frames(tmp_path / "a", 1, 3)
    write(tmp_path / "boxes.txt", "1 2 3 4")
    assert read_folder(tmp_path / "a", tmp_path / "boxes.txt")[0].boxes.tolist() == [[1, 2, 3, 4]]
    with pytest.raises(DataError, match="is for one video"):
        read_folder(tmp_path, tmp_path / "boxes.txt")


def test_own_video_must_start_with_a_box(tmp_path):
    LAYOUTS["folder"].write(tmp_path)
    write(tmp_path / "A" / "groundtruth.txt", "0,0,0,0\n" + lines(0, 3))
    with pytest.raises(DataError, match="the first box must have width and height"):
        read_folder(tmp_path)


def test_a_folder_without_an_annotation_says_what_to_write(tmp_path):
    frames(tmp_path / "a", 1, 3)
    with pytest.raises(DataError, match=r"has no annotation .*groundtruth\.txt: write a line x,y,w,h"):
        read_folder(tmp_path)


def test_an_empty_folder_says_what_it_may_hold(tmp_path):
    with pytest.raises(DataError, match="holds neither frames"):
        read_folder(tmp_path)
