"""The cached index of a data set, the table that it holds, and the order of frames."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from datamodules.errors import DataError
from datamodules.readers import coco, got10k, read_coco, read_got10k
from datamodules.sequences import index
from datamodules.sequences.index import SequenceFiles, read_sequences
from datamodules.sequences.sequence import NumberedFrames, Sequence, sort_frames
from datamodules.sequences.table import SequenceTable

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LABELS = {"groundtruth.txt": "1,2,3,4\n", "absence.label": "0\n", "cover.label": "8\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three sequences of three frames in the layout of GOT-10k."""
    for name in "abc":
        folder = tmp_path / "data.v1" / "val" / name
        folder.mkdir(parents=True)
        for i in (1, 2, 3):
            (folder / f"{i:08d}.jpg").touch()
        for label, line in LABELS.items():
            (folder / label).write_text(3 * line)
    (tmp_path / "data.v1" / "val" / "list.txt").write_text("a\nb\nc\n")
    return tmp_path / "data.v1"


@pytest.fixture
def names_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sequences that are read from the data set and not from the cache."""
    names, read = [], got10k._read
    monkeypatch.setattr(got10k, "_read", lambda files: names.append(files.name) or read(files))
    return names


def same(a: Sequence, b: Sequence) -> bool:
    arrays = (("boxes", True), ("absent", False))
    return (
        all(np.array_equal(getattr(a, of), getattr(b, of), equal_nan=nan) for of, nan in arrays)
        and (a.cover is None) == (b.cover is None)
        and (a.cover is None or np.array_equal(a.cover, b.cover))
        and (a.name, a.folder, [*a.frames], a.resolution, a.still)
        == (b.name, b.folder, [*b.frames], b.resolution, b.still)
    )


def test_a_second_reading_comes_from_the_cache(root, tmp_path, names_read):
    first = read_got10k(root, "val", cache=tmp_path / "cache")
    assert names_read == ["a", "b", "c"]
    again = read_got10k(root, "val", cache=tmp_path / "cache")
    assert names_read == ["a", "b", "c"]
    assert all(map(same, first, again))
    assert all(map(same, read_got10k(root, "val"), again))
    assert names_read == 2 * ["a", "b", "c"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "groundtruth.txt").write_text(3 * "5,6,7,8\n"),
        lambda folder: (folder / "absence.label").write_text("0\n1\n0\n\n"),
        lambda folder: (folder / "cover.label").unlink(),
        lambda folder: (folder / "meta_info.ini").write_text("resolution: (640, 480)"),
    ],
    ids=["annotation", "label", "without label", "resolution"],
)
def test_a_changed_file_is_read_again(root, tmp_path, names_read, change):
    before = read_got10k(root, "val", cache=tmp_path / "cache")[1]
    change_later(root / "val" / "b", change)
    after = read_got10k(root, "val", cache=tmp_path / "cache")[1]
    assert names_read == 2 * ["a", "b", "c"]
    assert not same(before, after)
    assert same(after, read_got10k(root, "val")[1])


@pytest.mark.parametrize("name", ["00000002.jpg", "00000004.jpg"])
def test_a_removed_or_added_frame_is_noticed(root, tmp_path, name):
    read_got10k(root, "val", cache=tmp_path / "cache")
    frame = root / "val" / "b" / name
    change_later(root / "val" / "b", lambda _: frame.unlink() if frame.exists() else frame.touch())
    with pytest.raises(DataError, match="frames and 3 annotated boxes"):
        read_got10k(root, "val", cache=tmp_path / "cache")


def change_later(folder: Path, change) -> None:
    """Changes a folder at a time that differs on any file system from the time before."""
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1, 1))
    change(folder)


def test_a_changed_annotation_of_the_same_size_is_noticed_by_its_time(root, tmp_path):
    read_got10k(root, "val", cache=tmp_path / "cache")
    path = root / "val" / "b" / "groundtruth.txt"
    path.write_text(3 * "5,6,7,8\n")
    os.utime(path, (2, 2))
    assert read_got10k(root, "val", cache=tmp_path / "cache")[1].boxes[0].tolist() == [5, 6, 7, 8]


def test_a_changed_annotation_whose_size_and_time_are_kept_is_noticed(root, tmp_path):
    path = root / "val" / "b" / "groundtruth.txt"
    path.write_text(3 * "5,6,7,8\n")
    read_got10k(root, "val", cache=tmp_path / "cache")
    kept = path.stat().st_mtime_ns
    path.write_text(3 * "6,6,7,8\n")
    os.utime(path, ns=(kept, kept))
    assert read_got10k(root, "val", cache=tmp_path / "cache")[1].boxes[0].tolist() == [6, 6, 7, 8]


def test_lists_of_one_data_set_are_cached_separately(root, tmp_path, names_read):
    (tmp_path / "some.txt").write_text("1\n")
    for subset in (None, tmp_path / "some.txt") * 2:
        table = read_got10k(root, "val", subset, cache=tmp_path / "cache")
        assert [s.name for s in table] == (["a", "b", "c"] if subset is None else ["b"])
    assert names_read == ["a", "b", "c", "b"]


def test_parts_of_one_folder_are_cached_separately(tmp_path):
    def read(files: SequenceFiles) -> Sequence:
        first, last = files.frame_numbers
        boxes = np.full((last - first + 1, 4), float(first))
        return Sequence(files.name, files.folder, ("x.jpg",), boxes, np.zeros(len(boxes), bool))

    for numbers in ((1, 5), (2, 5)) * 2:
        listed = [SequenceFiles("a", tmp_path, (), numbers)]
        assert read_sequences(tmp_path, listed, read, tmp_path / "cache")[0].boxes[0, 0] == numbers[0]


def test_leftovers_of_an_interrupted_reading_are_replaced(root, tmp_path, names_read, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(index.Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            read_got10k(root, "val", cache=tmp_path / "cache")
    assert len(read_got10k(root, "val", cache=tmp_path / "cache")) == 3
    assert len(read_got10k(root, "val", cache=tmp_path / "cache")) == 3
    assert names_read == 2 * ["a", "b", "c"]
    assert not [*(tmp_path / "cache" / "index").glob("*.unfinished")]


def test_caches_of_another_format_are_not_used(root, tmp_path, names_read, monkeypatch):
    read_got10k(root, "val", cache=tmp_path / "cache")
    monkeypatch.setattr(index, "FORMAT", index.FORMAT + 1)
    read_got10k(root, "val", cache=tmp_path / "cache")
    assert names_read == 2 * ["a", "b", "c"]


def test_a_broken_sequence_leaves_nothing_behind(root, tmp_path):
    (root / "val" / "c" / "groundtruth.txt").write_text("1,2\n")
    for _ in range(2):
        with pytest.raises(DataError, match=r"c/groundtruth\.txt must hold 4"):
            read_got10k(root, "val", cache=tmp_path / "cache")


def test_names_occur_once(root):
    (root / "val" / "list.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match="lists a more than once"):
        read_got10k(root, "val")


def read_in_process(arguments: tuple[Path, Path]) -> list:
    root, cache = arguments
    return [s.boxes.tolist() for s in read_got10k(root, "val", cache=cache)]


def test_of_many_readers_at_once_one_reads(root, tmp_path, names_read):
    with ThreadPoolExecutor(8) as pool:
        tables = [*pool.map(lambda _: read_got10k(root, "val", cache=tmp_path / "cache"), range(8))]
    assert names_read == ["a", "b", "c"]
    assert all(all(map(same, tables[0], table)) for table in tables)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        boxes = pool.map_async(read_in_process, 4 * [(root, tmp_path / "other")]).get(timeout=600)
    assert boxes == 4 * [[s.boxes.tolist() for s in tables[0]]]


def test_a_cached_annotation_file_is_not_parsed_again(tmp_path, monkeypatch):
    folder = tmp_path / "images" / "val2017"
    folder.mkdir(parents=True)
    (folder / "a.jpg").touch()
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "instances_val2017.json"
    file.write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}], "categories": [],'
        '"annotations": [{"id": 5, "image_id": 1, "iscrowd": 0, "bbox": [1, 2, 3, 4], "category_id": 1}]}'
    )
    assert len(read_coco(tmp_path, "val2017", cache=tmp_path / "cache")) == 1
    reads = []
    monkeypatch.setattr(coco, "_load", lambda path: reads.append(path) or ([], []))
    assert len(read_coco(tmp_path, "val2017", cache=tmp_path / "cache")) == 1
    assert not reads
    os.utime(file, (1, 1))
    assert len(read_coco(tmp_path, "val2017", cache=tmp_path / "cache")) == 0
    assert reads == [file]


# The table

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=8)


@st.composite
def videos(draw: st.DrawFn, root: Path) -> Sequence:
    count = draw(st.integers(1, 5))
    numbered = st.builds(
        NumberedFrames, names, st.integers(0, 10**9), st.integers(1, 10), st.just(".jpg"), st.just(count)
    )
    frames = draw(st.one_of(numbered, st.lists(names, min_size=count, max_size=count).map(tuple)))
    annotated = draw(st.sampled_from([1, count]))
    boxes = draw(st.lists(st.lists(st.floats(), min_size=4, max_size=4), min_size=annotated, max_size=annotated))
    absent = draw(st.lists(st.booleans(), min_size=annotated, max_size=annotated))
    cover = draw(st.none() | st.lists(st.integers(0, 8), min_size=annotated, max_size=annotated).map(np.array))
    folder = draw(st.sampled_from([root / "a", root / "b" / "ü.1", root]))
    size = draw(st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999)))
    return Sequence(draw(names), folder, frames, np.array(boxes), np.array(absent), cover, size)


@quick
@given(data=st.data())
def test_a_table_equals_the_list_that_it_was_made_from(tmp_path, data):
    made = data.draw(st.lists(videos(tmp_path), max_size=4))
    table = SequenceTable.from_sequences(made, tmp_path)
    table.save(tmp_path)
    for loaded in (table, SequenceTable.load(tmp_path, tmp_path)):
        assert len(loaded) == len(made)
        assert all(map(same, loaded, made))
        assert loaded.lengths.tolist() == [len(s) for s in made]
        assert loaded.visible_counts().tolist() == [len(s.visible_frames) for s in made]
    for i in range(-len(made), 0):
        assert same(table[i], made[i])
    with pytest.raises(IndexError):
        table[len(made)]


# The order of frames


@given(numbers=st.sets(st.integers(0, 10**6), min_size=1, max_size=30), digits=st.integers(1, 8), data=st.data())
def test_numbers_in_names_count(numbers, digits, data):
    ordered = [f"img{i:0{digits}d}.jpg" for i in sorted(numbers)]
    frames = sort_frames(data.draw(st.permutations(ordered)))
    assert [*frames] == ordered
    assert isinstance(frames, NumberedFrames) == (max(numbers) - min(numbers) + 1 == len(numbers))


@given(st.lists(names, min_size=1, max_size=10, unique=True))
@example(["1.jpg", "10.png", "9.png"])
@example(["1a.jpg", "10a.jpg", "9a.jpg"])
@example(["01.jpg", "1.jpg", "001.jpg"])
@example(["٣.jpg", "2.jpg"])
def test_no_frame_is_lost(given_names):
    assert sorted(sort_frames(given_names)) == sorted(given_names)


@pytest.mark.parametrize(
    "text", ["1.jpg 9.JPG 10.jpg", "1a.jpg 9a.jpg 10a.jpg", "a.jpg b.jpg", "f1.2.jpg f1.10.jpg f2.1.jpg"]
)
def test_irregular_names_are_in_order_too(text):
    assert [*sort_frames(text.split()[::-1])] == text.split()


def test_numbered_frames_are_a_sequence():
    frames = NumberedFrames("a", 9, 2, ".jpg", 3)
    assert [*frames] == ["a09.jpg", "a10.jpg", "a11.jpg"] == frames[:]
    assert (frames[-1], frames[1:]) == ("a11.jpg", ["a10.jpg", "a11.jpg"])
    for i in (3, -4):
        with pytest.raises(IndexError):
            frames[i]
