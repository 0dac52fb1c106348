"""Freed memory: the next pictures get it, and no fresh pages of the system."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRESH_PAGES = """
import resource, sys
import numpy as np
from datamodules.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for i in range(20):
        pictures = [np.ones((720 + 60 * (i % 7), 1920, 3), np.uint8) for _ in range(3)]
        del pictures
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries than glibc")
def test_the_memory_of_pictures_is_kept_for_the_next_ones():
    def fresh_pages(how):
        command = [sys.executable, "-c", FRESH_PAGES, how]
        return int(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)

    assert fresh_pages("keep") < 100
    assert fresh_pages("plain") > 1000  # glibc gives back what is more than two large pictures
