"""Files that are whole or not there."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluation.files import atomic_write, link_or_copy, write_json


def test_processes_with_one_id_do_not_share_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # the first process of two containers
    with atomic_write(tmp_path / "a") as one, atomic_write(tmp_path / "a") as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("before")

    def write_half() -> None:
        with atomic_write(path) as unfinished:
            unfinished.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*boxes\.txt'"):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_nobody_may_write_into_is_named_and_not_a_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file"):
        write_json(tmp_path / "file" / "result.json", {})
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match=r"taken'?$"):
        write_json(tmp_path / "taken", {})


def test_a_long_name_is_no_problem(tmp_path: Path) -> None:
    write_json(tmp_path / ("n" * 250), 1)
    assert len(list(tmp_path.iterdir())) == 1


def test_undefined_numbers_are_null(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    write_json(tmp_path / "a.json", {"fps": nan, "list": [1.5, -inf, (inf, 2)], "deep": {"x": {"y": nan}}, "n": None})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert read == {"fps": None, "list": [1.5, None, [None, 2]], "deep": {"x": {"y": None}}, "n": None}


def test_a_link_takes_no_room_and_is_replaced_and_not_changed(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("one")
    target.write_text("other")
    link_or_copy(source, target)
    assert source.samefile(target)
    write_json(target, 2)
    assert source.read_text() == "one"


def test_without_links_it_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_text("one")
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "one"
    assert not (tmp_path / "source").samefile(tmp_path / "target")


def test_readers_see_whole_files_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, ["x" * 9999])

    def work(number: int) -> bool:
        write_json(path, [str(number) * 9999])
        return len(json.loads(path.read_text())[0]) == 9999

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, [i % 10 for i in range(80)]))
