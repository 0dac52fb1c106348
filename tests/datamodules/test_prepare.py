"""`python -m datamodules.prepare`: the same pixels, less to decode, and files that are left as they are."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules import prepared_copy
from datamodules.errors import DataError
from datamodules.frames.jpeg import Rectangle, cut_jpeg, read_layout
from datamodules.frames.restart_markers import suitable_interval
from datamodules.prepare import main
from datamodules.prepared_copy import KEPT, LEFT_OUT, OTHER, RECORD, REWRITTEN, prepare
from datamodules.readers import read_got10k

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def jpegtran():
    """The program, which CI must have."""
    if shutil.which("jpegtran") is None:
        missing = "no jpegtran: apt-get install libjpeg-turbo-progs"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


def picture(width=400, height=250, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(small, (width, height))


def write_jpeg(path, pixels, *options):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels, list(options))


@pytest.fixture
def source(tmp_path):
    """Two videos in folders, and annotations."""
    folder = tmp_path / "set"
    for video in ("a", "b/c"):
        for i in range(3):
            write_jpeg(folder / video / f"{i}.jpg", picture(seed=i))
        (folder / video / "groundtruth.txt").write_text("1,2,3,4\n")
    os.utime(folder / "a" / "0.jpg", ns=(10**18, 10**18 + 123))
    return folder


def files(folder):
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file() and p.name != RECORD}


def pixels(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_frames_are_rewritten_and_all_else_is_linked(source, tmp_path):
    before = {name: path.read_bytes() for name, path in files(source).items()}
    result = prepare(source, tmp_path / "new")
    assert result.files == {REWRITTEN: 6, OTHER: 2}
    assert not result.reasons
    old, new = files(source), files(tmp_path / "new")
    assert {name: path.read_bytes() for name, path in old.items()} == before
    assert old.keys() == new.keys()
    for name in old:
        assert new[name].stat().st_mtime_ns == old[name].stat().st_mtime_ns
        if name.endswith(".jpg"):
            layout = read_layout(new[name].read_bytes())
            assert layout.restart_interval == 25
            assert np.array_equal(pixels(new[name]), pixels(old[name]))
            assert result.after[REWRITTEN] > result.before[REWRITTEN] > 0
        else:
            assert new[name].samefile(old[name])


def test_a_part_of_a_prepared_frame_is_small_and_exact(tmp_path):
    write_jpeg(tmp_path / "set" / "0.jpg", picture(1280, 720))
    prepare(tmp_path / "set", tmp_path / "new")
    data = (tmp_path / "new" / "0.jpg").read_bytes()
    file, place = cut_jpeg(data, read_layout(data), Rectangle(600, 300, 700, 400))
    assert (place.right - place.left) * (place.bottom - place.top) < 1280 * 720 / 10
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    part = cv2.imdecode(file, cv2.IMREAD_COLOR)
    inside = np.s_[300 - place.top : 400 - place.top, 600 - place.left : 700 - place.left]
    assert np.array_equal(part[inside], whole[300:400, 600:700])


@pytest.mark.parametrize(
    ("width", "interval"), [(1920, 8), (1280, 8), (960, 10), (720, 9), (848, 53), (500, 8), (427, 9), (100, 7), (1, 1)]
)
def test_markers_come_at_the_same_places_in_each_row(width, interval):
    data = cv2.imencode(".jpg", np.zeros((16, width, 3), np.uint8))[1].tobytes()
    layout = read_layout(data)
    assert suitable_interval(layout) == interval
    assert -(-width // layout.mcu_width) % interval == 0


def test_the_same_samples_come_from_a_prepared_set(got10k, tmp_path):
    prepare(got10k, tmp_path / "new")
    old, new = (read_got10k(folder, "train") for folder in (got10k, tmp_path / "new"))
    assert [s.name for s in old] == [s.name for s in new]
    for a, b in zip(old, new, strict=True):
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.image(3), b.image(3))
    assert old.content() != new.content()  # which is a part of cache keys


def test_files_that_cannot_be_rewritten_are_kept_and_named(source, tmp_path):
    odd = source / "odd"
    odd.mkdir()
    rgb = Image.fromarray(picture())
    rgb.save(odd / "progressive.jpg", progressive=True)
    rgb.convert("CMYK").save(odd / "cmyk.JPEG")
    rgb.save(odd / "turned.jpg", exif=_turned())
    rgb.save(odd / "picture.png")
    rgb.save(odd / "named_wrongly.jpg", format="PNG")
    good = (source / "a" / "0.jpg").read_bytes()
    (odd / "cut.jpg").write_bytes(good[: len(good) // 2])
    (odd / "empty.jpg").write_bytes(b"")
    broken = bytearray(good)
    broken[len(good) // 2 : len(good) // 2 + 4] = b"\xff\xd3\xff\xd5"
    (odd / "broken.jpg").write_bytes(broken)
    (odd / "no_target").symlink_to(tmp_path / "nowhere")
    result = prepare(source, tmp_path / "new")
    assert result.files == {REWRITTEN: 6, OTHER: 3, KEPT: 7, LEFT_OUT: 1}
    reasons = {name: reason for reason, names in result.reasons.items() for name in names}
    assert reasons == {
        "odd/progressive.jpg": "progressive",
        "odd/cmyk.JPEG": "CMYK",
        "odd/turned.jpg": "EXIF data, which may turn the picture",
        "odd/named_wrongly.jpg": "damaged, cut off, or no JPEG",
        "odd/cut.jpg": "damaged, cut off, or no JPEG",
        "odd/empty.jpg": "damaged, cut off, or no JPEG",
        "odd/broken.jpg": "damaged",
        "odd/no_target": "No such file or directory",
    }
    for path in odd.glob("*.*"):
        assert (tmp_path / "new" / "odd" / path.name).samefile(path)
    assert json.loads((tmp_path / "new" / RECORD).read_text())["kept"]["progressive"] == ["odd/progressive.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are no text")
def test_any_name_of_a_file_is_reported(tmp_path, monkeypatch, capsys):
    odd = tmp_path / "[bold] set" / "a ["
    odd.mkdir(parents=True)
    (odd / "red].jpg").write_bytes(b"no JPEG")
    (odd / os.fsdecode(b"\xff.jpg")).write_bytes(b"no JPEG")
    (odd / "lost.jpg").symlink_to("nowhere")
    names = [str(odd.parent), str(tmp_path / "new"), "--check", "sample", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["prepare", *names])
    with pytest.raises(SystemExit, match="error: 1 files could not be read"):
        main()
    told = capsys.readouterr().out
    assert "2 files: a [/red].jpg, a [/?.jpg" in told
    assert "can take the place" not in told  # a frame is missing


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_changed_pixels_are_never_kept(source, tmp_path, monkeypatch):
    """A tool that writes another picture with good headers, for some files of the sample."""
    fake = tmp_path / "jpegtran"
    write_jpeg(tmp_path / "other.jpg", picture(seed=9), cv2.IMWRITE_JPEG_RST_INTERVAL, 25)
    fake.write_text(f"#!/bin/sh\ncat > /dev/null\ncat {tmp_path / 'other.jpg'}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(prepared_copy, "find_jpegtran", lambda: str(fake))
    result = prepare(source, tmp_path / "new")
    assert result.files == {KEPT: 6, OTHER: 2}
    assert list(result.reasons) == ["jpegtran changed its pixels, or OpenCV cannot read it"]
    monkeypatch.setattr(prepared_copy, "SAMPLE", 3)
    assert 0 < prepare(source, tmp_path / "sample", check="sample").files[KEPT] < 6


def test_a_second_call_goes_on_and_sees_changes(source, tmp_path, monkeypatch):
    new = tmp_path / "new"
    first = prepare(source, new)
    times = {name: path.stat().st_ctime_ns for name, path in files(new).items()}
    assert prepare(source, new) == first
    assert {name: path.stat().st_ctime_ns for name, path in files(new).items()} == times
    (new / "a" / "1.jpg").write_bytes(b"")  # a crash of the machine
    (new / "a" / "2.jpg").unlink()
    write_jpeg(source / "b" / "c" / "0.jpg", picture(seed=77))
    (new / "a" / ".2.jpg.unfinished").write_bytes(b"half")
    assert prepare(source, new).files == first.files
    for name, path in files(source).items():
        assert np.array_equal(pixels(new / name), pixels(path)) or name.endswith(".txt")
    assert files(new).keys() == files(source).keys()
    done = prepare(new, tmp_path / "again")  # nothing is left to do
    assert done.files == {OTHER: 8}


def test_a_full_disk_ends_with_one_line_and_leaves_no_half_file(source, tmp_path, monkeypatch, capsys):
    write = Path.write_bytes

    def full(path, data):
        if path.name == ".1.jpg.unfinished":
            write(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(sys, "argv", ["prepare", str(source), str(tmp_path / "new"), "--workers", "1"])
    with pytest.raises(SystemExit, match=r"error: .*No space left.*the same command continues"):
        main()
    assert "a/0.jpg" in files(tmp_path / "new")
    assert not [name for name in files(tmp_path / "new") if "unfinished" in name]
    monkeypatch.undo()
    assert prepare(source, tmp_path / "new").files == {REWRITTEN: 6, OTHER: 2}


def test_a_disk_that_is_too_small_is_found_before(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(prepared_copy.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"needs up to .* kB, and its disk has 1.0 kB free"):
        prepare(source, tmp_path / "new")
    assert not files(tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "is SOURCE"),
        ("a/new", "inside of SOURCE"),
        ("..", "inside of DESTINATION"),
        ("a/0.jpg", "is a file|inside"),
    ],
)
def test_a_destination_that_would_change_the_source_is_refused(source, name, words):
    before = sorted(files(source))
    with pytest.raises(DataError, match=words):
        prepare(source, source / name)
    assert sorted(files(source)) == before


def test_folders_of_somebody_else_are_not_written_into(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds other files"):
        prepare(source, tmp_path / "mine")
    prepare(source / "a", tmp_path / "new")
    with pytest.raises(DataError, match=r"was prepared from .*set/a; name a new folder"):
        prepare(source, tmp_path / "new")
    with pytest.raises(DataError, match=r"SOURCE .* is no folder"):
        prepare(tmp_path / "missing", tmp_path / "other")


def test_a_record_that_a_crash_has_emptied(source, tmp_path):
    prepare(source, tmp_path / "new")
    (tmp_path / "new" / RECORD).write_text("")
    with pytest.raises(DataError, match=r"\.prepared\.json is damaged.*go on after: echo '.*'") as error:
        prepare(source, tmp_path / "new")
    (tmp_path / "new" / RECORD).write_text(str(error.value).split("'")[1])
    prepare(source, tmp_path / "new")


def test_a_missing_jpegtran_is_said_at_once(source, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"jpegtran is missing.*apt-get install libjpeg-turbo-progs"):
        prepare(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_links_are_followed_and_never_in_circles(source, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (source / "b").rename(tmp_path / "elsewhere" / "b")
    (source / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (source / "a" / "up").symlink_to(source)
    assert prepare(source, tmp_path / "new").files == {REWRITTEN: 6, OTHER: 2}
    assert not (tmp_path / "new" / "b").is_symlink()


@pytest.mark.attack
def test_a_killed_command_continues(source, tmp_path):
    for i in range(40):
        shutil.copy(source / "a" / "1.jpg", source / "b" / f"{i:03d}.jpg")
    new, stops = tmp_path / "new", tmp_path / "programs" / "jpegtran"
    stops.parent.mkdir()
    stops.write_text(  # so that the command cannot end before it is killed
        f'#!/bin/sh\n[ "$(ls {new}/b | wc -l)" -ge 20 ] && exec sleep 600\nexec {shutil.which("jpegtran")} "$@"\n'
    )
    stops.chmod(0o755)
    slow = os.environ | {"PATH": f"{stops.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "datamodules.prepare", str(source), str(new), "--workers", "2"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True, env=slow) as process:
        while process.poll() is None and len(list(new.rglob("*.jpg"))) < 20:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    whole = {name: path.stat().st_ctime_ns for name, path in files(new).items() if not path.name.startswith(".")}
    assert 20 <= len(whole) < 48
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "46" in done.stdout
    assert files(new).keys() == files(source).keys()
    for name in whole:
        assert np.array_equal(pixels(new / name), pixels(source / name)) or name.endswith(".txt")
