"""Frames of files, folders, cameras and addresses: in order, at their times, and with clear ends."""

import http.server
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.streams import FrameStream, StreamError, StreamReader, TimedFrame, camera, open_stream, reader
from tests.datamodules.frames.encoding import COUNT, HEIGHT, VARIABLE, WIDTH, number_of, picture, write_video


def taken(source, fps=25.0):
    """All frames of a source, and its stream."""
    stream, frames = open_stream(source, fps), []
    with StreamReader(stream) as opened:
        while (frame := opened.take()) is not None:
            frames.append(frame)
    return frames, stream


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A video with B-frames whose times vary."""
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4", times=VARIABLE)


def test_frames_of_a_file_have_their_numbers_and_times(walk):
    frames, stream = taken(str(walk))
    assert [number_of(frame.image) for frame in frames] == list(range(COUNT))
    assert [frame.number for frame in frames] == list(range(1, COUNT + 1))
    np.testing.assert_allclose([frame.time for frame in frames], (VARIABLE - VARIABLE[0]) / 1000, atol=1e-3)
    assert (stream.length, stream.is_live) == (COUNT, False)


def test_a_video_of_a_turned_phone_is_turned(walk, tmp_path):
    data = bytearray(walk.read_bytes())
    at = data.index(b"tkhd") + 44
    one = 1 << 16
    data[at : at + 36] = np.array([0, one, 0, -one, 0, 0, HEIGHT * one, 0, 1 << 30], ">i4").tobytes()
    (tmp_path / "turned.mp4").write_bytes(data)
    frames, _ = taken(tmp_path / "turned.mp4")
    assert frames[5].image.shape == (WIDTH, HEIGHT, 3)
    assert number_of(np.rot90(frames[5].image)) == 5


def test_times_grow_also_where_the_file_has_none(tmp_path):
    frames, _ = taken(write_video(tmp_path / "walk.avi", "mpeg4"))
    times = [frame.time for frame in frames]
    assert (np.diff(times) > 0).all()
    assert times[-1] == pytest.approx((COUNT - 1) / 25, abs=0.2)


def write_frames(folder, numbers):
    folder.mkdir()
    for number in numbers:
        cv2.imwrite(str(folder / f"{number}.png"), picture(number)[..., ::-1])


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    write_frames(tmp_path / "frames", range(8, 12))
    frames, stream = taken(tmp_path / "frames", fps=10)
    assert [number_of(frame.image) for frame in frames] == [8, 9, 10, 11]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert stream.length == 4


def test_what_comes_before_a_broken_picture_is_read(tmp_path):
    write_frames(tmp_path / "frames", range(4))
    (tmp_path / "frames" / "2.png").write_bytes(b"no picture")
    with StreamReader(open_stream(tmp_path / "frames", 25)) as opened:
        assert [opened.take().number for _ in range(2)] == [1, 2]
        with pytest.raises(StreamError, match=r"2\.png cannot be read"):
            opened.take()


def test_another_size_ends_a_stream(tmp_path):
    write_frames(tmp_path / "frames", range(2))
    cv2.imwrite(str(tmp_path / "frames" / "1.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(StreamError, match="changes from 96x64 to 30x20 in frame 2"):
        taken(tmp_path / "frames")


def test_a_file_that_was_cut_off_is_told(tmp_path, caplog):
    whole = write_video(tmp_path / "walk.mp4", options={"movflags": "faststart"}, times=np.arange(COUNT) * 400)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames, _ = taken(whole)
    assert 0 < len(frames) < COUNT
    assert "of 15.6 s: the rest is missing" in caplog.text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing.mp4", "there is no source nothing.mp4; give e.g. source=walk.mp4"),
        ("", "there is no source"),
        ("~nobody_has_this_name/walk.mp4", "there is no source ~nobody_has_this_name/walk.mp4"),
        (300 * "a", "there is no source aaa"),
        (str(Path(__file__)), "cannot be read: it is no video"),
        (0, "camera 0 cannot be opened: it is not there"),
        ("7", "camera 7 cannot be opened"),
        ("rtsp://127.0.0.1:9/x", "rtsp://127.0.0.1:9/x cannot be read: no video comes from there (Connection refused)"),
        ("walk://there", "no video comes from there (Protocol not found)"),
        (str(Path(__file__).parent), "has no frames"),
    ],
)
def test_what_is_no_source_is_told_in_one_line(source, words, monkeypatch):
    monkeypatch.setattr(camera.cv2, "VideoCapture", lambda device: FakeCamera(0, is_opened=False))
    with pytest.raises(DataError) as error:
        open_stream(source, 25)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


class FakeCamera:
    """A camera that is unplugged after some frames."""

    def __init__(self, frames, is_opened=True):
        self.left, self.is_opened, self.released = frames, is_opened, False

    def isOpened(self):  # noqa: N802 (as in OpenCV)
        return self.is_opened

    def read(self):
        self.left -= 1
        return self.left >= 0, picture(1)[..., ::-1]

    def release(self):
        self.released = True


def test_a_camera_that_is_unplugged_is_told_and_given_back(monkeypatch):
    device = FakeCamera(3)
    monkeypatch.setattr(camera.cv2, "VideoCapture", lambda number: device)
    stream = open_stream("0", 25)
    assert (stream.is_live, stream.length) == (True, None)
    frames = stream.frames()
    assert number_of(next(frames).image) == 1
    assert [next(frames).number, next(frames).number] == [2, 3]
    with StreamReader(stream) as opened, pytest.raises(StreamError, match="camera 0 gives no picture"):
        opened.take()
    assert device.released


class Live(FrameStream):
    """Ten frames of which nobody takes the first nine in time."""

    is_live = True

    def __init__(self):
        self.ended, self.is_closed = threading.Event(), False

    def frames(self):
        for number in range(1, 11):
            yield TimedFrame(number, number / 25, picture(number))
        self.ended.set()

    def close(self):
        self.is_closed = True


def test_of_a_live_stream_the_newest_frame_counts():
    stream = Live()
    with StreamReader(stream) as opened:
        assert stream.ended.wait(60)
        assert opened.skipped == 9
        assert opened.take_first().number == 10
        assert opened.skipped == 0
        assert opened.take() is None
    assert stream.is_closed


class Hanging(Live):
    """A stream that sends nothing more."""

    is_over = False

    def frames(self):
        yield TimedFrame(1, 0, picture(1))
        self.ended.wait(60)
        self.is_over = True


def test_who_waits_for_a_stream_that_hangs_can_stop(monkeypatch):
    monkeypatch.setattr(reader, "PATIENCE", 0.1)
    stream = Hanging()
    with StreamReader(stream) as opened:
        assert opened.take().number == 1
        assert opened.take(stop=lambda: True) is None
    assert not stream.is_over
    stream.ended.set()


@pytest.fixture
def address(tmp_path):
    """An address at which a server sends a video file as it is, without its length."""
    video = write_video(tmp_path / "walk.ts")

    class Server(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (video.stat().st_size, video.read_bytes()))

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/walk.ts"
        server.shutdown()


def test_an_address_without_a_length_is_live(address):
    stream = open_stream(address, 25)
    assert (stream.is_live, stream.length) == (True, None)
    frames = list(stream.frames())
    stream.close()
    assert [number_of(frame.image) for frame in frames] == list(range(COUNT))
