"""Says where the reference vectors are taken from."""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.conftest import deselect

from .cases import FOLDER


def pytest_report_header() -> str:
    found = "" if FOLDER.is_dir() else " (missing: they are skipped)"
    return f"reference vectors: {FOLDER}{found}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    deselect(config, items, "no_case")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For networks of full size, which one thread would keep busy for minutes; other test workers have their share."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
    yield
    torch.set_num_threads(before)
