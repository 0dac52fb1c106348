"""Memory of a process that loads one tracker and tracks a few frames."""

from functools import partial

import pytest

from evaluation.errors import UserError
from evaluation.export.timing.peak_memory import peak_memories
from trackers.loading import load_tracker


def test_the_memory_is_that_of_another_process_which_imports_no_more_than_it_needs():
    load = partial(load_tracker, "opencv_mil")
    (found,) = peak_memories([load], (96, 72), "cpu", 1)
    assert 10e6 < found["libraries"] < found["peak"] < 300e6, "PyTorch, which this process has, takes more"


def test_a_process_that_fails_says_why():
    load = partial(load_tracker, "opencv_nothing")
    with pytest.raises(UserError, match=r"memory failed: .*opencv_nothing is not there.*profile.memory=false"):
        peak_memories([load], (96, 72), "cpu", 1)
