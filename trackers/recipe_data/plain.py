"""Dataclasses as plain data, from which `build` makes them again."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from trackers.recipe_data.classes import TARGET


def plain(value: Any) -> Any:
    """Returns a value as data that JSON can hold: a dataclass becomes a mapping that names its class."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        parts = {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
        return {TARGET: f"{kind.__module__}.{kind.__qualname__}"} | parts
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
