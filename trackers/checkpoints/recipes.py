"""Recipes: plain data that name classes of `trackers` and their arguments, and the building of a tracker from them.

A recipe may come from a file of a stranger. So nothing in it is resolved, imported or called but classes that a module
of `trackers` defines, and its numbers and its nesting are bounded. A recipe is checked as soon as it is read, before
any other code sees it.
"""

import importlib
import re
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

from torch.nn.modules.module import register_module_module_registration_hook

from trackers.base import Tracker
from trackers.checkpoints.arguments import check_arguments
from trackers.contents import CheckpointError

TARGET, PARTIAL = "_target_", "_partial_"
# Bounds. Published recipes need 6 levels, numbers up to 3,072 and 539 modules (of ViT-L).
MAX_DEPTH = 20
MAX_NUMBER = 100_000
MAX_TEXT = 1_000  # characters
MAX_MODULES = 3_000
RESOLVED = "of your own configuration pass OmegaConf.to_container(cfg.tracker, resolve=True)"


def check_recipe(recipe: Any) -> None:
    """Checks that a recipe is resolved plain data and names a tracker and classes of `trackers` alone.

    Raises:
        CheckpointError: the recipe is of another type, contains an interpolation, a number or a nesting out of bounds,
            or an argument of Hydra that no recipe needs; or it names something else than a class of `trackers`.
    """
    if not isinstance(recipe, Mapping) or TARGET not in recipe:
        raise CheckpointError(
            f"a recipe is a mapping with '{TARGET}', not {reprlib.repr(recipe)}; pass the `tracker` section of a "
            "configuration, e.g. load_checkpoint(path).recipe"
        )
    _check_value(recipe, "tracker", 0)
    if not issubclass(_class_of(recipe, "tracker"), Tracker) or PARTIAL in recipe:
        raise CheckpointError(f"tracker.{TARGET}={recipe[TARGET]} is no tracker; e.g. trackers.ostrack.OSTrack")


def build_tracker(recipe: Mapping[str, Any]) -> Tracker:
    """Builds the tracker that a recipe describes, with fresh weights.

    Raises:
        CheckpointError: see `check_recipe` and `check_arguments`. No file may cause another class to be built.
        TrackerError: a class does not take a value of the recipe.
    """
    check_recipe(recipe)
    with _few_modules():
        return _build(recipe, "tracker")


def _build(value: Any, place: str) -> Any:
    """Returns a copy of plain data in which every mapping with a `_target_` is an object."""
    if isinstance(value, list | tuple):
        return [_build(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    parts = {key: _build(part, f"{place}.{key}") for key, part in value.items() if key not in (TARGET, PARTIAL)}
    if TARGET not in value:
        return parts
    kind = _class_of(value, place)
    is_partial = value.get(PARTIAL, False)
    check_arguments(kind, parts, place, is_partial)
    return partial(kind, **parts) if is_partial else kind(**parts)


def _check_value(value: Any, place: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CheckpointError(f"the recipe is nested more than {MAX_DEPTH} times; {_cut(place)}")
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_key(key, place)
            _check_value(part, f"{place}.{key}", depth + 1)
        if TARGET in value:
            _class_of(value, place)
        if not isinstance(value.get(PARTIAL, False), bool):
            raise CheckpointError(f"{_cut(place)}.{PARTIAL}={reprlib.repr(value[PARTIAL])} must be true or false")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            _check_value(part, f"{place}[{i}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, int | float):
        if not -MAX_NUMBER <= value <= MAX_NUMBER:  # also refuses NaN
            bounds = f"-{MAX_NUMBER:,} and {MAX_NUMBER:,}"
            raise CheckpointError(f"{_cut(place)}={reprlib.repr(value)} must lie between {bounds}")
    elif value is not None:
        raise CheckpointError(
            f"{_cut(place)} has the type {type(value).__name__}, but a recipe holds plain data alone; {RESOLVED}, and "
            "float(x) or int(x) of a number of numpy"
        )


def _check_key(key: Any, place: str) -> None:
    if not isinstance(key, str):
        raise CheckpointError(f"{_cut(place)} has the key {reprlib.repr(key)}; keys of a recipe are text")
    _check_text(key, place)
    if key.startswith("_") and key.endswith("_") and key not in (TARGET, PARTIAL):
        raise CheckpointError(f"{_cut(place)} has the key {key}; a recipe may hold {TARGET} and {PARTIAL} alone")


def _check_text(text: str, place: str) -> None:
    """Refuses an interpolation, which would run a resolver of OmegaConf, and text that would spoil a message."""
    if "${" in text or text == "???":
        raise CheckpointError(
            f"{_cut(place)} holds {reprlib.repr(text)}, but a recipe holds resolved values alone; {RESOLVED}"
        )
    if len(text) > MAX_TEXT or not text.isprintable():
        raise CheckpointError(f"{_cut(place)} holds {reprlib.repr(text)}, which is no name: too long, or not printable")


def _class_of(node: Mapping[str, Any], place: str) -> type:
    """Returns the class that a mapping names.

    The path alone is not enough: `trackers.base.np.load` starts with `trackers.`, too. So the module of the path must
    be one of ours, and so must the module that defines the class.
    """
    target = node[TARGET]
    found = None
    if isinstance(target, str) and re.fullmatch(r"trackers(\.[a-zA-Z]\w*){1,9}", target, re.ASCII):
        module, _, name = target.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise  # a module of ours needs another package
    if not isinstance(found, type) or not found.__module__.startswith("trackers."):
        raise CheckpointError(
            f"{_cut(place)}: a recipe may only build classes of 'trackers', not {reprlib.repr(target)}; "
            "e.g. trackers.ostrack.OSTrack"
        )
    return found


@contextmanager
def _few_modules() -> Iterator[None]:
    """Ends a building of more than `MAX_MODULES` modules, which would take minutes."""
    thread, count = get_ident(), 0

    def check(*_: Any) -> None:
        nonlocal count
        count += get_ident() == thread
        if count > MAX_MODULES:
            raise CheckpointError(f"the recipe builds more than {MAX_MODULES:,} modules; choose fewer layers")

    handle = register_module_module_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _cut(text: str) -> str:
    """Returns the start of a text of any length."""
    return text if len(text) <= 100 else f"{text[:97]}..."
