"""Folders as model hubs share them: `model.safetensors` is a checkpoint, and `config.json` repeats its header as text.

A tracker is built from the header alone. `config.json` is for people and other programs, and must not contradict it.
"""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackers.contents import CheckpointContents
from trackers.errors import CheckpointError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MAX_CONFIG = 8 * 2**20  # bytes: as large as the largest header


def checkpoint_file(path: str | Path) -> Path:
    """Returns the file of a checkpoint: the path itself, or `model.safetensors` in a folder that has it."""
    file = Path(path) / WEIGHTS
    try:
        return file if file.is_file() else Path(path)
    except OSError:  # e.g. a name that is too long; the reader of the file says so
        return Path(path)


def check_config(file: Path, contents: CheckpointContents) -> None:
    """Compares the `config.json` beside a file with the header of the file.

    Args:
        file: a checkpoint. Without the name `model.safetensors` or a `config.json` beside it, nothing is compared.
        contents: of the file. A pretrained backbone has no recipe; its `config.json` belongs to another library.

    Raises:
        CheckpointError: `config.json` cannot be read, or says something else than the header.
        OSError: the disk fails.
    """
    config = file.with_name(CONFIG)
    if file.name != WEIGHTS or contents.recipe is None or not config.is_file():
        return
    if config.stat().st_size > MAX_CONFIG:
        raise CheckpointError(f"{config} has more than {MAX_CONFIG:,} bytes; copy it again, or delete it")
    try:
        said = read_mapping(config.read_bytes())
        stored = {"recipe": contents.recipe, "plan": contents.plan.to_dict(), "metrics": contents.metrics}
        found = _difference({field: said[field] for field in stored if field in said}, stored)
    except (CheckpointError, RecursionError) as error:
        raise CheckpointError(f"{config} {error}; copy it again, or delete it: {WEIGHTS} has all of it") from None
    if found:
        raise CheckpointError(
            f"{config} contradicts {WEIGHTS}, from which the tracker is built: {found}; copy both files again, or "
            f"delete {CONFIG}"
        )


def read_mapping(text: str | bytes) -> dict[str, Any]:
    """Returns the mapping in a JSON text of a stranger.

    Raises:
        CheckpointError: the text is no JSON, holds another type, or gives a key twice. The message is a verb phrase.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"is no JSON ({type(error).__name__}: {error!s:.100})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"is a {type(value).__name__}, not a mapping")
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a mapping; a key that is given twice would mean different things to different readers."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in mapping if keys.count(key) > 1)
        raise ValueError(f"the key {reprlib.repr(twice)} is given twice")
    return mapping


def _difference(said: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    """Returns the first place in which fields of `config.json` differ from the header; "" if they are equal."""
    for field, value in said.items():
        if found := _first_difference(value, stored[field], field):
            return found
    return ""


def _first_difference(said: Any, stored: Any, place: str) -> str:
    if isinstance(said, Mapping) and isinstance(stored, Mapping):
        for key in dict.fromkeys([*said, *stored]):
            inside = f"{place}.{key!s:.60}"
            if key not in said or key not in stored:
                return f"{inside} is in one of them only"
            if found := _first_difference(said[key], stored[key], inside):
                return found
        return ""
    same = said == stored and isinstance(said, bool) == isinstance(stored, bool)  # 1 is 1.0, and 1 is not true
    return "" if same else f"{place} is {reprlib.repr(said)} there, and {reprlib.repr(stored)} in {WEIGHTS}"
