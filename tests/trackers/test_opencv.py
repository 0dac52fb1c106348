"""OpenCV's trackers in our loop: a stand-in for what they answer, and MIL itself, which every OpenCV has."""

import cv2
import numpy as np
import pytest

from trackers.errors import TrackerError
from trackers.online import Lockstep, OnlineTracker
from trackers.opencv import ALL, KINDS, OpenCVTracker, available, is_opencv

IMAGE = np.zeros((48, 64, 3), np.uint8)
IMAGE[..., 0] = 200  # red


class StandIn:
    """Answers with the next of `answers`, and keeps what it was given."""

    answers: tuple = ()

    def __init__(self, parameters=None):
        self.parameters, self.given, self.rectangle = parameters, [], None
        self.left = iter(self.answers)
        type(self).made = self

    @classmethod
    def create(cls, *parameters):
        return cls(*parameters)

    def init(self, image, rectangle):
        self.given.append(image)
        self.rectangle = rectangle

    def update(self, image):
        self.given.append(image)
        return next(self.left)

    def getTrackingScore(self):  # noqa: N802 (OpenCV's name)
        return 0.25


@pytest.fixture
def stand_in(monkeypatch):
    """`stand_in("mil", answers)` puts a stand-in in the place of a tracker of OpenCV, and returns its class."""

    def put(kind, *answers):
        cls = type("Own", (StandIn,), {"answers": answers})
        monkeypatch.setattr(cv2, KINDS[kind].factory, cls, raising=False)
        monkeypatch.setattr(cv2, f"{KINDS[kind].factory}_Params", type("Params", (), {}), raising=False)
        return cls

    return put


def test_opencv_gets_bgr_pictures_and_whole_pixels_inside_of_the_picture(stand_in):
    cls = stand_in("mil", (True, (11, 12, 13, 14)))
    tracker = OnlineTracker(OpenCVTracker("opencv_mil"))
    tracker.init(IMAGE, (-3.4, 10.6, 20.0, 80.0))
    assert tracker.update(IMAGE) == ((11.0, 12.0, 13.0, 14.0), 1.0)
    assert cls.made.rectangle == (0, 11, 17, 37)
    assert all((image[0, 0] == (0, 0, 200)).all() for image in cls.made.given)


def test_a_box_smaller_than_a_pixel_becomes_one_pixel(stand_in):
    cls = stand_in("mil")
    OnlineTracker(OpenCVTracker("opencv_mil")).init(IMAGE, (63.8, 47.7, 0.2, 0.2))
    assert cls.made.rectangle == (63, 47, 1, 1)


def test_where_opencv_has_no_answer_the_box_stays_with_score_0(stand_in):
    stand_in("mil", (False, (0, 0, 0, 0)), (True, (5, 5, 0, 9)), (True, (1, 2, 3, 4)))
    tracker = OnlineTracker(OpenCVTracker("opencv_mil"))
    tracker.init(IMAGE, (10, 11, 12, 13))
    assert [tracker.update(IMAGE) for _ in range(3)] == [
        ((10.0, 11.0, 12.0, 13.0), 0.0),
        ((10.0, 11.0, 12.0, 13.0), 0.0),
        ((1.0, 2.0, 3.0, 4.0), 1.0),
    ]


def test_networks_get_their_files_and_give_a_score(stand_in, tmp_path):
    cls = stand_in("nano", (True, (1, 2, 3, 4)))
    files = {name: str(tmp_path / name) for name in ("backbone", "neckhead")}
    for path in files.values():
        (tmp_path / path).write_bytes(b"")
    tracker = OnlineTracker(OpenCVTracker("opencv_nano", files))
    tracker.init(IMAGE, (10, 11, 12, 13))
    assert tracker.update(IMAGE)[1] == 0.25
    assert vars(cls.made.parameters) == files


def test_mil_finds_the_same_boxes_whatever_else_is_tracked():
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (64, 48))
    video = [np.roll(picture, shift, 1) for shift in range(4)]
    tracker, box = OpenCVTracker("opencv_mil"), (20, 15, 16, 16)
    alone = OnlineTracker(tracker)
    alone.init(video[0], box)
    expected = [alone.update(image) for image in video[1:]]
    loop = Lockstep(tracker)
    targets = [loop.begin(video[0], (5, 5, 12, 12)), loop.begin(video[0], box)]
    assert [loop.advance(targets, [image] * 2)[1] for image in video[1:]] == expected


@pytest.mark.parametrize("name", ["opencv_csrt", "opencv_boosting"])
def test_a_tracker_that_this_opencv_lacks_is_refused_with_those_that_are_there(name, monkeypatch):
    for kind in ("TrackerCSRT", "TrackerKCF"):
        monkeypatch.delattr(cv2, kind, raising=False)
    with pytest.raises(TrackerError) as refused:
        OpenCVTracker(name)
    message = str(refused.value)
    assert message.startswith(f"{name} is not there: this OpenCV {cv2.__version__} has opencv_mil")
    assert "pip install opencv-contrib-python" in message
    assert "opencv_mil" in available()
    assert {"opencv_csrt"} <= {*ALL} - {*available()}


def test_files_that_are_missing_are_named(stand_in, tmp_path):
    stand_in("vit")
    with pytest.raises(TrackerError, match=r"opencv_vit needs the files of its networks: opencv.net=FILE.onnx"):
        OpenCVTracker("opencv_vit")
    with pytest.raises(TrackerError, match=r"opencv.net=.*vit.onnx is not there"):
        OpenCVTracker("opencv_vit", {"net": str(tmp_path / "vit.onnx")})


def test_a_damaged_file_is_one_error(tmp_path):
    if not hasattr(cv2, "TrackerVit"):
        pytest.skip("this OpenCV has no TrackerVit")
    (tmp_path / "vit.onnx").write_bytes(b"no network")
    with pytest.raises(TrackerError, match="opencv_vit cannot be opened"):
        OnlineTracker(OpenCVTracker("opencv_vit", {"net": str(tmp_path / "vit.onnx")})).init(IMAGE, (10, 11, 12, 13))


def test_a_file_of_that_name_is_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_opencv("opencv_mil")
    assert is_opencv("opencv_" + 300 * "a"), "no file has such a long name"
    assert not is_opencv("weights/opencv_mil.safetensors")
    (tmp_path / "opencv_mil").write_bytes(b"")
    assert not is_opencv("opencv_mil")
