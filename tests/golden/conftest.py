"""Says where the reference vectors are taken from."""

from .cases import FOLDER


def pytest_report_header() -> str:
    found = "" if FOLDER.is_dir() else " (missing: they are skipped)"
    return f"reference vectors: {FOLDER}{found}"
