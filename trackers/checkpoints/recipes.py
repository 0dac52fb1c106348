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
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from threading import get_ident
from types import ModuleType
from typing import Any

from torch.nn.modules.module import register_module_module_registration_hook

from trackers.base import Tracker
from trackers.checkpoints.arguments import check_arguments
from trackers.contents import CheckpointError

PACKAGE = Path(__file__).parents[1]  # the folder `trackers`
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
    if isinstance(recipe, Mapping) and TARGET not in recipe:
        keys = reprlib.repr(list(recipe))
        raise CheckpointError(
            f"a recipe is a mapping with '{TARGET}', the class of the tracker, and this one has the keys {keys}; write "
            f"e.g. {TARGET}: trackers.ostrack.OSTrack"
        )
    if not isinstance(recipe, Mapping):
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
    if is_partial:
        return partial(kind, **parts)
    try:
        return kind(**parts)
    except TypeError as error:
        raise _unknown_key(error, parts, place) or error from error


def _unknown_key(error: TypeError, parts: Mapping[str, Any], place: str) -> CheckpointError | None:
    """Returns the error of a mapping in a recipe with a key that a constructor does not know; None for others."""
    words = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if words is None:
        return None
    for name, part in parts.items():
        if isinstance(part, Mapping) and words[1] in part:
            return CheckpointError(f"{place}.{name}.{words[1]} is not known: {error}")
    return None


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
    if text == "???":
        raise CheckpointError(
            f"{_cut(place)} has no value; write it into the tracker's file in conf/tracker/ or conf/tracker/scale/, or "
            f"set it: {_cut(place)}=VALUE"
        )
    if "${" in text:
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
    found, near = None, ""
    if isinstance(target, str) and re.fullmatch(r"trackers(\.[a-zA-Z]\w*){1,9}", target, re.ASCII):
        module, _, name = target.rpartition(".")
        try:
            imported = importlib.import_module(module)
            found, near = getattr(imported, name, None), _similar_class(imported, name)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise  # a module of ours needs another package
    if not isinstance(found, type) or not found.__module__.startswith("trackers."):
        raise CheckpointError(
            f"{_cut(place)}: a recipe may only build classes of 'trackers', not {reprlib.repr(target)}; "
            + (near or f"e.g. trackers.ostrack.OSTrack. A tracker of your own belongs into {PACKAGE}")
        )
    return found


def _similar_class(module: ModuleType, name: str) -> str:
    """Returns the question whether a similar class of a module of ours was meant; "" if there is none."""
    if not module.__name__.startswith("trackers."):
        return ""
    classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__.startswith("trackers.")]
    near = get_close_matches(name, [*getattr(module, "__all__", ()), *classes], 1)
    return f"did you mean {module.__name__}.{near[0]}?" if near else ""


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
