"""The VOT toolkit runs our trackers, on videos with rectangles, masks and objects that appear later."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from datamodules.frames.pictures import UnreadableFrameError, read_picture
from evaluation.errors import UserError
from evaluation.export import vot_tracker
from evaluation.export.vot_tracker import VotSession, serve
from tests.conftest import NO_NETWORK
from trackers import load_tracker
from trackers.errors import TrackerError

ROOT = Path(__file__).parents[3]
FRAMES, LATE = 6, 2  # the second object appears in frame LATE
PICTURE = np.zeros((60, 80, 3), np.uint8)


@pytest.fixture
def session():
    """A session whose targets move to the right by one pixel a frame, with the number of the frame as score."""

    def begin(picture, box):
        return SimpleNamespace(box=box, frame=1)

    def advance(targets, pictures):
        assert len(targets) == len(pictures)
        for target in targets:
            target.box, target.frame = (target.box[0] + 1, *target.box[1:]), target.frame + 1
        return [(target.box, target.frame / 10) for target in targets]

    return VotSession(SimpleNamespace(begin=begin, advance=advance))


def test_a_session_reports_all_targets_in_the_order_of_their_start(session):
    a, b = (10, 10, 8, 6), (30, 20, 5, 5)
    assert session.initialize(PICTURE, [a]) == [(a, 1.0)]
    assert session.frame(PICTURE, [b]) == [((11, 10, 8, 6), 0.2), (b, 1.0)]
    assert session.frame(PICTURE, []) == [((12, 10, 8, 6), 0.3), ((31, 20, 5, 5), 0.2)]
    assert session.initialize(PICTURE, [b]) == [(b, 1.0)]


def test_a_missing_protocol_and_a_missing_toolkit_are_one_line(session, monkeypatch, small_checkpoint):
    monkeypatch.setitem(sys.modules, "trax", None)
    with pytest.raises(UserError, match=r"pip install 'light-weight-trackers\[vot\]'"):
        serve(session)
    monkeypatch.setattr(sys, "argv", ["lwt-vot", str(small_checkpoint)])
    with pytest.raises(SystemExit, match=r"^error: the VOT toolkit's TraX cannot be imported"):
        vot_tracker.main()
    monkeypatch.setattr(sys, "argv", ["lwt-vot", str(small_checkpoint.with_name("nothing.safetensors"))])
    with pytest.raises(SystemExit, match=r"^error: no checkpoint at .*nothing\.safetensors"):
        vot_tracker.main()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--device", "tpu"), "device=tpu cannot be used: .*Try device=cpu$"),
        (("--runtime", "tflite"), "runtime=tflite is not known"),
    ],
)
def test_a_device_or_runtime_that_is_not_there_is_one_line(monkeypatch, small_checkpoint, given, words):
    monkeypatch.setattr(sys, "argv", ["lwt-vot", str(small_checkpoint), *given])
    with pytest.raises(SystemExit, match=rf"^error: {words}"):
        vot_tracker.main()


def test_the_toolkit_is_told_why_a_frame_cannot_be_read(session, monkeypatch, tmp_path):
    trax, reasons = pytest.importorskip("trax"), []
    image = SimpleNamespace(path=lambda: str(tmp_path / "1.jpg"))
    request = SimpleNamespace(type=trax.TraxStatus.INITIALIZE, image={"color": image}, objects=[])
    monkeypatch.setattr(trax, "Server", lambda *_, **__: SimpleNamespace(wait=lambda: request, quit=reasons.append))
    with pytest.raises(UnreadableFrameError):
        serve(session)
    assert "1.jpg" in reasons[0]


def box_of(number: int, frame: int) -> tuple[int, int, int, int]:
    return (20 + 2 * frame, 15, 24, 18) if number == 0 else (70, 40 + frame, 16, 20)


@pytest.fixture
def workspace(tmp_path, small_checkpoint) -> Path:
    """A workspace of the toolkit. Its video has two objects; the second one appears later, and is given by masks."""
    video = tmp_path / "sequences" / "two"
    (video / "color").mkdir(parents=True)
    (video.parent / "list.txt").write_text("two\n")
    (video / "sequence").write_text("name=two\nfps=30\nformat=default\nchannels.color=color/%08d.png\n")
    backdrop = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    lines: list[list[str]] = [[], []]
    for frame in range(FRAMES):
        picture = backdrop.copy()
        for number, colour in enumerate(((40, 200, 90), (220, 60, 30))):
            x, y, w, h = box_of(number, frame)
            picture[y : y + h, x : x + w] = colour
            mask = f"m{x},{y},{w},{h},0,{w * h}"
            lines[number].append(f"{x},{y},{w},{h}" if number == 0 else mask if frame >= LATE else "0")
        cv2.imwrite(str(video / "color" / f"{frame + 1:08}.png"), picture)
    for number in (0, 1):
        (video / f"groundtruth_{number:03}.txt").write_text("\n".join(lines[number]) + "\n")
    command = f"{sys.executable} -m evaluation.export.vot_tracker {small_checkpoint}"
    (tmp_path / "trackers.ini").write_text(f"[child]\nlabel = child\nprotocol = trax\ncommand = {command}\n")
    experiment = "{type: unsupervised, repetitions: 1, multiobject: true}"
    (tmp_path / "stack.yaml").write_text(f"title: Own videos\nexperiments:\n  baseline: {experiment}\n")
    (tmp_path / "config.yaml").write_text("registry: [./trackers.ini]\nstack: ./stack.yaml\nsequences: sequences\n")
    return tmp_path


def evaluate(workspace: Path) -> str:
    """Runs the toolkit and returns what it says."""
    paths = {"PYTHONPATH": f"{NO_NETWORK}:{ROOT}", "VOT_RESULTS_BINARY": "false", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vot", "evaluate", "--workspace", workspace, "child"]
    done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, timeout=600)
    return done.stdout + done.stderr


@pytest.mark.attack
def test_the_toolkit_gets_the_boxes_of_separate_tracking(workspace, small_checkpoint):
    pytest.importorskip("vot")
    assert "concluded successfuly" in evaluate(workspace)
    results = workspace / "results" / "child" / "baseline" / "two"
    pictures = [read_picture(file) for file in sorted((workspace / "sequences" / "two" / "color").iterdir())]
    for number, first in ((0, 0), (1, LATE)):
        tracker = load_tracker(small_checkpoint)
        tracker.init(pictures[first], box_of(number, first))
        found = [tracker.update(picture) for picture in pictures[first + 1 :]]
        *_, reported = (results / f"two_{number:03}_001.txt").read_text().split("\n", first + 1)
        boxes = [[float(v) for v in line.split(",")] for line in reported.split()]
        np.testing.assert_allclose(boxes, [box for box, _ in found], atol=0.01)
        confidence = (results / f"two_{number:03}_001_confidence.value").read_text().split("\n")[first + 1 :]
        np.testing.assert_allclose([float(v) for v in confidence if v], [score for _, score in found], atol=1e-4)


def test_one_target_goes_through_the_loop_of_a_tracker(small_checkpoint):
    session = VotSession(load_tracker(small_checkpoint).loop)
    [(box, score)] = session.initialize(PICTURE, [(20, 20, 16, 12)])
    assert (box, score) == ((20, 20, 16, 12), 1)
    [(box, score)] = session.frame(PICTURE, [])
    assert len(box) == 4
    assert 0 <= score <= 1
    with pytest.raises(TrackerError, match="lies outside"):
        session.frame(PICTURE, [(200, 20, 16, 12)])
