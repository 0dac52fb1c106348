"""Atomic writes: a reader sees the whole file or no file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path. It becomes `path` when the block ends, and is deleted after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes plain data as JSON, atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(value, indent=2) + "\n")
