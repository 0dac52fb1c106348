"""Says where the reference vectors are taken from."""

from collections.abc import Iterator

import pytest
import torch

from .cases import FOLDER


def pytest_report_header() -> str:
    found = "" if FOLDER.is_dir() else " (missing: they are skipped)"
    return f"reference vectors: {FOLDER}{found}"


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For networks of full size, which one thread would keep busy for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
