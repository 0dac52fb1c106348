"""Videos that are written: times, sizes, and files of processes that were killed."""

import shutil

import av
import numpy as np
import pytest

from evaluation.report.pictures.movie import KEY_EVERY, Movie


def decoded(path):
    """Times in seconds, and pictures."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return [frame.time for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def test_pictures_are_shown_at_their_times_and_fill_an_even_size(tmp_path):
    times = [0, 0.04, 0.5, 0.5, 2]
    with Movie(tmp_path / "a.mp4") as movie:
        for i, time in enumerate(times):
            movie.write(np.full((31 + i % 2, 41, 3), 50 * i, np.uint8), time)
    shown, pictures = decoded(tmp_path / "a.mp4")
    assert shown == pytest.approx(times, abs=1e-4)
    assert (np.diff(shown) > 0).all()
    assert pictures[0].shape == (32, 42, 3)
    assert [round(float(picture[:30, :40].mean()) / 50) for picture in pictures] == list(range(5))


def test_a_file_whose_process_was_killed_can_be_played(tmp_path):
    with Movie(tmp_path / "a.mp4") as movie:
        for i in range(3 * KEY_EVERY):
            movie.write(np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8), i / 25)
        shutil.copy(tmp_path / "a.mp4", tmp_path / "killed.mp4")
    with av.open(str(tmp_path / "killed.mp4")) as file:
        assert next(file.decode(video=0)).time == 0
    assert len(decoded(tmp_path / "a.mp4")[0]) == 3 * KEY_EVERY
