"""Checks that data are plain, resolved and bounded, and name classes of `trackers` alone."""

import reprlib
from collections.abc import Mapping
from typing import Any

from trackers.errors import CheckpointError
from trackers.recipe_data.classes import PARTIAL, TARGET, class_of, cut

# Bounds. Published recipes need 6 levels and numbers up to 3,072.
MAX_DEPTH = 20
MAX_NUMBER = 100_000
MAX_TEXT = 1_000  # characters
RESOLVED = "of your own configuration pass OmegaConf.to_container(cfg.tracker, resolve=True)"


def check_value(value: Any, place: str, depth: int = 0) -> None:
    """Checks a value and all that lies in it.

    Args:
        value: of a recipe.
        place: place of the value in the configuration, e.g. "tracker.search", for error messages.
        depth: number of mappings and lists around the value.

    Raises:
        CheckpointError: the value is no plain data, holds an interpolation, is out of bounds, or names something else
            than a class of `trackers`.
    """
    if depth > MAX_DEPTH:
        raise CheckpointError(f"the recipe is nested more than {MAX_DEPTH} times; {cut(place)}")
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_key(key, place)
            check_value(part, f"{place}.{key}", depth + 1)
        if TARGET in value:
            class_of(value, place)
        if not isinstance(value.get(PARTIAL, False), bool):
            raise CheckpointError(f"{cut(place)}.{PARTIAL}={reprlib.repr(value[PARTIAL])} must be true or false")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            check_value(part, f"{place}[{i}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, int | float):
        if not -MAX_NUMBER <= value <= MAX_NUMBER:  # also refuses NaN
            bounds = f"-{MAX_NUMBER:,} and {MAX_NUMBER:,}"
            raise CheckpointError(f"{cut(place)}={reprlib.repr(value)} must lie between {bounds}")
    elif value is not None:
        raise CheckpointError(
            f"{cut(place)} has the type {type(value).__name__}, but a recipe holds plain data alone; {RESOLVED}, and "
            "float(x) or int(x) of a number of numpy"
        )


def _check_key(key: Any, place: str) -> None:
    if not isinstance(key, str):
        raise CheckpointError(f"{cut(place)} has the key {reprlib.repr(key)}; keys of a recipe are text")
    _check_text(key, place)
    if key.startswith("_") and key.endswith("_") and key not in (TARGET, PARTIAL):
        raise CheckpointError(f"{cut(place)} has the key {key}; a recipe may hold {TARGET} and {PARTIAL} alone")


def _check_text(text: str, place: str) -> None:
    """Refuses an interpolation, which would run a resolver of OmegaConf, and text that would spoil a message."""
    if text == "???":
        raise CheckpointError(
            f"{cut(place)} has no value; write it into the tracker's file in conf/tracker/ or conf/tracker/scale/, or "
            f"set it: {cut(place)}=VALUE"
        )
    if "${" in text:
        raise CheckpointError(
            f"{cut(place)} holds {reprlib.repr(text)}, but a recipe holds resolved values alone; {RESOLVED}"
        )
    if len(text) > MAX_TEXT or not text.isprintable():
        raise CheckpointError(f"{cut(place)} holds {reprlib.repr(text)}, which is no name: too long, or not printable")
