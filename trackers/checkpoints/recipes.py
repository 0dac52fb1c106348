"""Recipes: plain data that name classes of `trackers` and their arguments, and the building of a tracker from them.

A recipe may come from a file of a stranger. So nothing in it is resolved, imported or called but classes that a module
of `trackers` defines, and its numbers and its nesting are bounded (see `trackers.recipe_data`). A recipe is checked as
soon as it is read, before any other code sees it.
"""

import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from torch.nn.modules.module import register_module_module_registration_hook

from trackers.base import Tracker
from trackers.errors import CheckpointError
from trackers.recipe_data.building import build
from trackers.recipe_data.classes import PARTIAL, TARGET, class_of
from trackers.recipe_data.values import check_value

MAX_MODULES = 10_000  # a ViT-L has 539; a CNN of timm may have 3,000, and is first built on the meta device


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
    check_value(recipe, "tracker")
    if not issubclass(class_of(recipe, "tracker"), Tracker) or PARTIAL in recipe:
        raise CheckpointError(f"tracker.{TARGET}={recipe[TARGET]} is no tracker; e.g. trackers.ostrack.OSTrack")


def build_tracker(recipe: Mapping[str, Any]) -> Tracker:
    """Builds the tracker that a recipe describes, with fresh weights.

    Raises:
        CheckpointError: see `check_recipe` and `check_arguments`. No file may cause another class to be built.
        TrackerError: a class does not take a value of the recipe.
    """
    check_recipe(recipe)
    with _few_modules():
        return build(recipe, "tracker")


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
