"""eval.py action=video as users run it."""

import csv
import signal

import av
import cv2
import numpy as np
import pytest

from evaluation.commands import video as command
from evaluation.export.video import screen
from evaluation.export.video.followed_objects import FollowedObjects
from evaluation.report.pictures.movie import Movie
from tests.datamodules.frames.encoding import HEIGHT, VARIABLE, WIDTH, picture, write_video
from trackers import load_tracker

BOX = "box=20,20,30,24"
LENGTH = 8


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4", times=VARIABLE[:LENGTH])


@pytest.fixture
def track(run, small_checkpoint, walk):
    """Runs action=video with a tiny tracker, and returns the folder of its outputs."""
    return lambda *given: run("eval", "action=video", f"checkpoint={small_checkpoint}", f"source={walk}", *given)


def rows_of(outputs, name="*"):
    (path,) = outputs.rglob(f"boxes/{name}.csv")
    return list(csv.DictReader(path.open()))


def times_in(outputs):
    """The times of the pictures in the video, in seconds."""
    (path,) = outputs.rglob("video.mp4")
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=0)]


def test_a_video_is_tracked_as_by_the_loop_of_the_api(track, walk, small_checkpoint, capsys):
    outputs = track(BOX)
    rows = rows_of(outputs)
    tracker = load_tracker(small_checkpoint)
    with av.open(str(walk)) as file:
        images = [frame.to_ndarray(format="rgb24", interpolation="BICUBIC") for frame in file.decode(video=0)]
    tracker.init(images[0], (20, 20, 30, 24))
    for row, image in zip(rows[1:], images[1:], strict=True):
        box, score = tracker.update(image)
        np.testing.assert_allclose([float(row[key]) for key in "xywh"], box, atol=2e-3)
        assert float(row["score"]) == pytest.approx(score, abs=1e-4)
        assert float(row["presence"]) == pytest.approx(tracker.presence, abs=1e-4)
        assert row["state"] == tracker.state
    assert rows[0] == {"frame": "1", "time": "0.000", "x": "20.000", "y": "20.000", "w": "30.000", "h": "24.000"} | {
        "score": "",
        "presence": "1.0000",
        "state": "tracked",
    }
    assert times_in(outputs) == pytest.approx((VARIABLE[:LENGTH] - VARIABLE[0]) / 1000, abs=1e-3)
    assert [float(row["time"]) for row in rows] == pytest.approx(times_in(outputs), abs=1e-3)
    told = capsys.readouterr().out
    assert "8 frames (without decoding and drawing: " in told
    assert "video.mp4    the frames with boxes" in told


def test_several_trackers_follow_several_objects(run, small_checkpoint, tmp_path):
    other, folder = tmp_path / "other.safetensors", tmp_path / "frames"
    other.write_bytes(small_checkpoint.read_bytes())
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), picture(number))
    outputs = run(
        *("eval", "action=video", f"checkpoint=[{small_checkpoint},{other}]", f"source={folder}"),
        *("box=[[20,20,30,24],[50,10,20,30.5]]", "video.frames=3", "video.fps=10"),
    )
    names = sorted(path.name for path in outputs.rglob("boxes/*.csv"))
    assert len(names) == 4
    assert [name.rpartition("_")[2] for name in names] == ["1.csv", "2.csv"] * 2
    first, second = (rows_of(outputs, f"other_{i}") for i in (1, 2))
    assert len(first) == len(second) == 3
    assert (first[0]["w"], second[0]["h"]) == ("30.000", "30.500")
    assert times_in(outputs) == pytest.approx([0, 0.1, 0.2], abs=1e-3)


def test_objects_share_a_forward_pass(small_checkpoint):
    """One forward pass for all objects finds what separate ones find."""
    boxes = [(20.0, 20.0, 30.0, 24.0), (50.0, 10.0, 20.0, 30.0)]
    together = FollowedObjects("a", load_tracker(small_checkpoint).loop, picture(0), boxes)
    alone = [FollowedObjects("a", load_tracker(small_checkpoint).loop, picture(0), [box]) for box in boxes]
    for number in (1, 2):
        together.advance(picture(number))
        for single, found in zip(alone, together.found, strict=True):
            single.advance(picture(number))
            np.testing.assert_allclose(single.found[0].box, found.box, atol=1e-3)
    assert together.fps > 0


def test_ctrl_c_leaves_what_was_tracked_until_then(track, tmp_path, monkeypatch, capfd):
    advance = FollowedObjects.advance

    def interrupted(self, image):
        advance(self, image)
        if self._steps == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(FollowedObjects, "advance", interrupted)
    with pytest.raises(SystemExit) as end:
        track(BOX)
    assert end.value.code == 130
    outputs = tmp_path / "outputs"
    assert len(rows_of(outputs)) == len(times_in(outputs)) == 4
    told = capfd.readouterr()
    assert "4 frames" in told.out
    assert "interrupted; the video ends here" in told.err
    assert "to go on" not in told.err, "the same command would begin again"


def test_what_comes_before_a_fault_of_the_source_is_kept(run, small_checkpoint, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), picture(number))
    (folder / "2.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        run("eval", "action=video", f"checkpoint={small_checkpoint}", f"source={folder}", BOX)
    assert "2.png cannot be read" in stop.value.code
    assert "2 frames before are in" in stop.value.code
    outputs = tmp_path / "outputs"
    assert len(rows_of(outputs)) == len(times_in(outputs)) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("source=nothing.mp4", BOX), "there is no source nothing.mp4; give e.g. source=walk.mp4"),
        (("source=null", BOX), "action=video needs a source; give e.g. source=walk.mp4"),
        ((), "there is no screen on which to draw the box of the object; give it, e.g. box=310,180,90,140"),
        (("box=200,20,10,10",), f"lies outside of the image, which has {WIDTH} x {HEIGHT} pixels"),
        (("box=20,20,0,10",), "must be (x, y, width, height) in pixels with a positive size"),
        (("box=20,20,a,10",), "is no box; give it, e.g. box=310,180,90,140"),
        (("box=[1,1,9,1" + "0" * 400 + "]",), "is no box; give it"),
        (("source=99999999999", BOX), "there is no source 99999999999"),
        (("source=nowhere", BOX, "video.fps=1e-300"), "video.fps=1e-300 must be a number in [0.001, 1000]"),
        (("threads=100000", BOX), "threads=100000 must be null or a whole number in [1, 1024]"),
        (("+tracker.online.presence=[1,2]", BOX), "does not fit the recipe"),
        (("box=20,20,10",), "box=[20, 20, 10] is no box; give it"),
        (("box=[[20,20,10,10],[1,2,3]]",), "is no box; give it"),
        (("video.frames=0", BOX), "video.frames=0 must be null or a whole number in [1, inf)"),
        (("video=walk.mp4", BOX), "video is a section of settings; set e.g. action=video source=walk.mp4"),
    ],
)
def test_what_makes_no_sense_ends_in_one_line_and_writes_nothing(track, tmp_path, monkeypatch, given, words):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SystemExit) as stop:
        track(*given)
    assert words in stop.value.code
    assert "\n" not in stop.value.code
    assert not list((tmp_path / "outputs").rglob("*.mp4"))
    assert not list((tmp_path / "outputs").rglob("*.csv"))


def test_the_source_is_never_replaced(run, small_checkpoint, tmp_path):
    source = write_video(tmp_path / "video.mp4", times=np.arange(3) * 40)
    before = source.read_bytes()
    with pytest.raises(SystemExit, match="would be replaced by the video of this command"):
        run(
            *("eval", "action=video", f"checkpoint={small_checkpoint}", f"source={source}", BOX),
            *(f"hydra.run.dir={tmp_path}", f"paths.job={tmp_path}"),
        )
    assert source.read_bytes() == before


def test_a_box_is_drawn_where_there_is_a_screen(monkeypatch):
    frame = np.zeros((1440, 2560, 3), np.uint8)
    monkeypatch.setattr(cv2, "selectROI", lambda title, shown, **_: (10, 20, shown.shape[1] // 4, shown.shape[0] // 2))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    assert screen.draw_box(frame) == (20, 40, 640, 720)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: (0, 0, 0, 0))
    with pytest.raises(ValueError, match="no box was drawn; draw one and press Enter, or give it"):
        screen.draw_box(frame)


def test_a_display_that_does_not_answer_is_no_screen(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not screen.has_screen()


def test_boxes_are_lists_or_lists_of_lists():
    assert command.boxes_of(None) == []
    assert command.boxes_of([1, 2, 3.5, 4]) == [(1.0, 2.0, 3.5, 4.0)]
    assert command.boxes_of([[1, 2, 3, 4], [5, 6, 7, 8]]) == [(1, 2, 3, 4), (5, 6, 7, 8)]


def test_a_full_disk_tells_what_is_there(track, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Movie, "write", full)
    with pytest.raises(SystemExit, match=r"No space left on device: .*video\.mp4\. \d+ frames before are in ") as stop:
        track(BOX)
    assert "the same command" not in str(stop.value)
