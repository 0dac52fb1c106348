"""Readers and lists of sequences against the public toolkits."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.readers import read_coco, read_got10k, read_lasot, read_otb, read_trackingnet
from datamodules.readers.official_lists import read_official_list
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

from .cases import Case, each, load

# Labels of frames cut by the picture, classes and descriptions are not read: nothing uses them.
UNREAD = {"cut_by_image", "meta", "nlp", "object_class", "class"}
# OTB sequences that result files of other toolkits spell differently.
OTHER_SPELLINGS = {
    "Basketball": ["BasketBall"],
    "Human4": ["Human4_2", "Human4-2"],
    **{f"{name}.{i}": [f"{name}_{i}", f"{name}-{i}"] for name in ("Jogging", "Skating2") for i in (1, 2)},
}


def read_otb_tree(tree: dict[str, Any], root: Path, toolkit: str) -> SequenceTable:
    rows = read_official_list("otb", "otb100")
    here = [row["name"] for row in rows if f"{row['folder']}/{row['annotation']}" in tree["files"]]
    return read_otb(root, tiger1_first=1 if toolkit == "got10k" else 6, names=here)


def read_lasot_tree(tree: dict[str, Any], root: Path, toolkit: str) -> SequenceTable:
    here = {path.split("/")[-2] for path in tree["files"] if path.endswith("/groundtruth.txt")}
    (split,) = (s for s in ("test", "train", "extension") if here <= {*names("lasot", s)})
    return read_lasot(root, split, here)


def read_trackingnet_tree(tree: dict[str, Any], root: Path, toolkit: str) -> SequenceTable:
    split, _, chunk = tree["chunk"].partition("_")
    return read_trackingnet(root, split.lower(), [int(chunk)] if chunk else None)


def read_coco_tree(tree: dict[str, Any], root: Path, toolkit: str) -> SequenceTable:
    return read_coco(root, f"train{tree['version']}")


READERS: dict[str, Callable[[dict[str, Any], Path, str], SequenceTable]] = {
    "coco": read_coco_tree,
    "got10k": lambda tree, root, toolkit: read_got10k(root, tree["subset"]),
    "lasot": read_lasot_tree,
    "otb": read_otb_tree,
    "trackingnet": read_trackingnet_tree,
}


def trees(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    for tree in case.about["trees"]:
        yield f"{tree['dataset']}, {tree['name']}", tree


@each("metrics", "formats", by=trees)
def test_dataset_is_read_the_same(case: Case, part: dict[str, Any], tmp_path: Path) -> None:
    write_tree(part, tmp_path)
    understood = [toolkit for toolkit, wanted in part["readers"].items() if "raises" not in wanted]
    if not understood:
        with pytest.raises(DataError):
            READERS[part["dataset"]](part, tmp_path, "got10k")
    for toolkit in understood:
        wanted, table = part["readers"][toolkit]["sequences"], READERS[part["dataset"]](part, tmp_path, toolkit)
        if isinstance(wanted, dict):
            mine = {spelled(s.name, wanted): s for s in table}
            assert mine.keys() == wanted.keys()
        else:
            assert part["readers"][toolkit]["is_video"] is not table.still
            assert [s.name for s in table] == [str(w["annotation"]) for w in wanted]
            mine, wanted = dict(enumerate(table)), dict(enumerate(wanted))
        for name in wanted:
            dtype = np.float32 if toolkit == "training" else np.float64
            check_sequence(mine[name], wanted[name], tmp_path.resolve(), dtype)


def spelled(name: str, known: dict[str, Any]) -> str:
    """The sequence's name as it is among `known`."""
    return next(n for n in (name, *(OTHER_SPELLINGS[name] if name not in known else ())) if n in known)


def check_sequence(s: Sequence, wanted: dict[str, Any], root: Path, dtype: type) -> None:
    """Compares whatever `wanted` holds, of any toolkit's reader, with boxes of its type."""
    where = [(s.folder / name).relative_to(root).as_posix() for name in s.frames]
    mine = {
        "annotation": int(s.name) if s.name.isdigit() else None,
        "image": where[0],
        "frames": len(s),
        "first": where[0],
        "last": where[-1],
        "eleventh": where[10] if len(s) > 10 else None,
        "frame_3": where[3] if len(s) > 3 else None,
        "valid": (s.boxes[:, 2:] > 0).all(1),
        "visible": s.visible,
        "target_visible": ~s.absent,
        "cover": s.cover,
        "absence": s.absent,
        "visible_ratio": None if s.cover is None else s.cover / 8,
    }
    if wanted.get("images_exist") is False:  # the reference looks for pictures that are not there
        wanted = {k: v for k, v in wanted.items() if k not in ("first", "last")}
    labels = [wanted[key] for key in ("full_occlusion", "out_of_view") if key in wanted]
    if labels:
        assert s.absent.tolist() == np.any(labels, axis=0).tolist()
    boxes = np.array([wanted["box"]] if "box" in wanted else expanded(wanted["boxes"]), np.float64)
    assert np.array_equal(s.boxes.astype(dtype), boxes.astype(dtype), equal_nan=True)
    checked = {"box", "boxes", "full_occlusion", "out_of_view", "images_exist"}
    assert wanted.keys() <= {*mine, *checked, *UNREAD}
    for key in wanted.keys() & mine.keys():
        assert np.array_equal(np.ravel(mine[key]), np.ravel(wanted[key])), key


def expanded(boxes: list) -> list:
    """Boxes that may be run-length coded as [box, count]."""
    coded = boxes and isinstance(boxes[0][0], list)
    return [box for box, count in boxes for _ in range(count)] if coded else boxes


def write_tree(tree: dict[str, Any], root: Path) -> None:
    files = {}
    for images in tree["images"]:
        for i in range(images["first"], images["last"] + 1):
            files[f"{images['folder']}/{i:0{images['digits']}d}.{images['ext']}"] = ""
    for path, text in tree["files"].items():
        files[path] = text if isinstance(text, str) else "".join(line * times for line, times in text)
    load("metrics/inputs").write(files, root)


# Lists of official sequences


def lists(*known: str) -> Callable[[Case], Iterator[tuple[str, dict[str, Any]]]]:
    """Returns the parts of a case that list these data sets; it may list others, which we do not read."""

    def parts(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from ((name, case.about[name]) for name in known if name in case.about)

    return parts


@each("metrics", "lists", by=lists("lasot", "lasot_extension", "otb2015"))
def test_lists_are_the_same(case: Case, part: dict[str, Any]) -> None:
    check = {"lasot": check_lasot, "lasot_extension": check_lasot_extension, "otb2015": check_otb}
    check[next(name for name, value in case.about.items() if value is part)](part)


@each("metrics", "lists", by=lists("got10k"))
def test_sequences_of_got10k_have_the_official_names_and_positions(
    case: Case, part: dict[str, Any], got10k: Path, tmp_path: Path
) -> None:
    # The names of the whole data set come with it, in list.txt; what we write ourselves is named in the same way.
    pattern, first = part["names"], part["names"]["first"]
    for split in ("train", "val"):
        found = [s.name for s in read_got10k(got10k, split)]
        assert found == [pattern[split] % (first + i) for i in range(len(found))]
    subset = tmp_path / "subset.txt"
    for position in range(len(read_got10k(got10k, "train"))):  # published splits count from zero
        subset.write_text(f"{position}\n")
        assert [s.name for s in read_got10k(got10k, "train", subset)] == [pattern["train"] % (first + position)]


@each("metrics", "lists", by=lists("trackingnet"))
def test_chunks_of_trackingnet_are_read_and_counted(case: Case, part: dict[str, Any], tmp_path: Path) -> None:
    # The names come with the data, in the folders of annotations. Ours has one sequence a chunk; the official number is
    # that of the whole.
    images = [{"folder": f"{c}/frames/{c}", "first": 0, "last": 1, "digits": 1, "ext": "jpg"} for c in part["chunks"]]
    annotations = {f"{c}/anno/{c}.txt": "1,2,3,4\n" * (1 if c == "TEST" else 2) for c in part["chunks"]}
    write_tree({"images": images, "files": annotations}, tmp_path)
    train, test = (read_trackingnet(tmp_path, split) for split in ("train", "test"))
    assert [s.name for s in (*train, *test)] == [*part["chunks"]][1:] + ["TEST"]
    assert train.whole == part["train_total"]
    for chunk, wanted in part["chunks"].items():
        table = test if chunk == "TEST" else read_trackingnet(tmp_path, "train", [int(chunk.removeprefix("TRAIN_"))])
        assert ([s.name for s in table], table.whole) == ([chunk], wanted["sequences"])


def check_lasot(wanted: dict[str, Any]) -> None:
    test, train = (names("lasot", split) for split in ("test", "train"))
    assert test == wanted["test"]
    assert len(train) == wanted["train_sequences"]
    assert len({name.rpartition("-")[0] for name in test + train}) == wanted["classes"]
    assert digest(test) == wanted["test_sha256_of_sorted_names"]
    assert digest(train) == wanted["train_sha256_of_sorted_names"]


def check_lasot_extension(wanted: dict[str, Any]) -> None:
    extension = names("lasot", "extension")
    assert extension == wanted["names"]
    assert len(extension) == wanted["sequences"]
    assert len({name.rpartition("-")[0] for name in extension}) == wanted["classes"]


def check_otb(wanted: dict[str, Any]) -> None:
    rows = read_official_list("otb", "otb100")
    mine = {row["name"]: row for row in rows}
    assert [*mine] == [w["name"] for w in wanted["table"]]
    for w in wanted["table"]:
        row = mine[w["name"]]
        assert (row["folder"], row["annotation"]) == (w["folder"], w["annotation"])
        assert (int(row["first"]), int(row["last"])) == (w["first"], w["last"])
        assert [v in row["part"].split() for v in ("otb2013", "otb50")] == [w["otb2013"], w["tb50"]]
        assert w["pytracking_name"] in (row["name"], *OTHER_SPELLINGS.get(row["name"], []))
    assert wanted["other_spellings"] == OTHER_SPELLINGS
    assert sum(int(row["last"]) - int(row["first"]) + 1 for row in rows) == wanted["total_frames"]
    assert (len(rows), len({row["folder"] for row in rows})) == (wanted["sequences"], wanted["folders"])
    assert [len(names("otb", v)) for v in ("otb2013", "otb50")] == [
        wanted["otb2013_sequences"],
        wanted["tb50_sequences"],
    ]


def names(table: str, part: str) -> list[str]:
    return [row["name"] for row in read_official_list(table, part)]


def digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
