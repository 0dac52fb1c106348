"""The record of a finished stage, `stage.json`: what it depends on, what made it, and a hash of each of its files."""

import hashlib
import json
from pathlib import Path
from typing import Any

from evaluation.files import write_json

NAME = "stage.json"
PLAN = "plan.json"  # states of the stages of a job, which a dry run leaves in its folder
SCRATCH = "scratch"  # folder that an interrupted stage continues from; it is deleted when the stage is done


def digest(value: Any) -> str:
    """Returns a short hash of plain data, equal for equal data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def hash_file(path: str | Path) -> str:
    """Returns the SHA-256 hash of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes the record of a stage, with the sizes and hashes of all files in its folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder) for path in paths]
    files = {
        name.as_posix(): {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for name, path in zip(names, paths, strict=True)
        if name.parts[0] not in (NAME, SCRATCH)
    }
    write_json(folder / NAME, record | {"files": files})


def read_record(folder: Path) -> dict[str, Any] | None:
    """Returns the record of a stage; None if it is not finished, or its record is damaged or of an old version."""
    try:
        record = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "files" in record else None


def find_damage(folder: Path, record: dict[str, Any], hashes: bool = True) -> str | None:
    """Returns in words which file of a stage is not as it was written; None if there is none.

    Args:
        folder: folder of the stage.
        record: its record.
        hashes: whether the content of the files is compared, and not their sizes alone.
    """
    for name, written in record["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != written["bytes"]:
            return f"{name} has {size} bytes instead of {written['bytes']}"
        if hashes and hash_file(path) != written["sha256"]:
            return f"the content of {name} has changed"
    return None
