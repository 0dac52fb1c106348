"""Video files: frames in any order, lengths, forks, and the reader of your own data."""

import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.frames.pictures import UnreadableFrameError
from datamodules.frames.video import video_length
from datamodules.readers import read_folder
from datamodules.sequences.annotations import DataError
from datamodules.sequences.sequence import Sequence

COUNT = 30
SIZE = (64, 48)


def colour(i: int) -> np.ndarray:
    """Returns the RGB colour of frame `i`."""
    return np.array([i * 37 % 256, (i * 91 + 13) % 256, (i * 53 + 101) % 256])


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Writes walk.avi with a colour and a box for each frame."""
    path = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, SIZE)
    for i in range(COUNT):
        writer.write(np.broadcast_to(colour(i)[::-1], (*SIZE[::-1], 3)).astype(np.uint8))
    writer.release()
    path.with_suffix(".txt").write_text("".join(f"{i},2,3,4\n" for i in range(COUNT)))
    return path


def is_frame(s: Sequence, i: int) -> bool:
    picture = s.image(i)
    return picture.shape == (*SIZE[::-1], 3) and np.abs(picture - colour(i)).max() < 12


def test_a_video_is_read_with_its_annotation(video):
    (s,) = read_folder(video)
    assert (s.name, len(s), s.size, s.annotated) == ("walk", COUNT, SIZE, True)
    assert s.boxes[:, 0].tolist() == [*range(COUNT)]


@pytest.mark.parametrize("cached", [False, True])
def test_frames_in_any_order(video, tmp_path, cached):
    for _ in range(1 + cached):
        (s,) = read_folder(video, cache=tmp_path / "cache" if cached else None)
    for order in (
        range(COUNT),
        [*range(COUNT)][::-1],
        np.random.default_rng(0).permutation(COUNT),
        [5, 5, 4, 5, 6, 29, 0],
    ):
        assert all(is_frame(s, int(i)) for i in order)


def test_past_the_end(video):
    (s,) = read_folder(video)
    with pytest.raises(IndexError):
        s.image(COUNT)
    longer = Sequence(s.name, s.folder, ("",) * (COUNT + 1), s.boxes, s.absent)
    with pytest.raises(UnreadableFrameError, match=r"walk\.avi/frame 30"):
        longer.image(COUNT)
    assert is_frame(longer, 3)


def test_two_videos_in_turns(video):
    other = video.with_name("other.avi")
    other.write_bytes(video.read_bytes())
    other.with_suffix(".txt").write_text("1,2,3,4\n")
    b, a = read_folder(video.parent)
    assert (a.name, b.name, len(b), len(b.boxes)) == ("walk", "other", COUNT, 1)
    assert all(is_frame(s, i) for i in (0, 1, 2, 20, 3) for s in (a, b))


def all_frames_match(s: Sequence) -> bool:
    return all(is_frame(s, int(i)) for i in np.random.default_rng(1).permutation(COUNT))


def test_forks_do_not_share_an_open_video(video):
    (s,) = read_folder(video)
    assert is_frame(s, 7)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map_async(all_frames_match, [s, s]).get(timeout=60))
    assert is_frame(s, 8)


def test_a_video_that_is_cut_off_has_the_frames_that_can_be_read(video):
    whole = video.read_bytes()
    video.write_bytes(whole[: int(0.9 * len(whole))])
    count = video_length(video)
    assert 10 < count < COUNT
    with pytest.raises(DataError, match=f"{count} frames and 30 annotated boxes"):
        read_folder(video)
    video.with_suffix(".txt").write_text("1,2,3,4\n")
    (s,) = read_folder(video)
    assert len(s) == count
    assert all(is_frame(s, i) for i in range(count - 1))


def test_what_is_no_video_is_named(video):
    video.write_bytes(b"no video")
    with pytest.raises(DataError, match=r"walk\.avi cannot be opened"):
        read_folder(video)


def test_a_video_needs_an_annotation(video):
    video.with_suffix(".txt").unlink()
    with pytest.raises(DataError, match=r"walk\.avi has no annotation .*walk\.txt"):
        read_folder(video)


def test_a_video_and_a_folder_of_one_name_are_refused(video):
    folder = video.with_suffix("")
    folder.mkdir()
    (folder / "1.jpg").touch()
    (folder / "groundtruth.txt").write_text("1,2,3,4")
    with pytest.raises(DataError, match="lists walk more than once"):
        read_folder(video.parent)
