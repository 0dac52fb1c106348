"""Classes of `trackers` by their path, as recipes name them."""

import importlib
import re
import reprlib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from trackers.errors import CheckpointError

PACKAGE = Path(__file__).parents[1]  # the folder `trackers`
TARGET, PARTIAL = "_target_", "_partial_"


def class_of(node: Mapping[str, Any], place: str) -> type:
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
            f"{cut(place)}: a recipe may only build classes of 'trackers', not {reprlib.repr(target)}; "
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


def cut(text: str) -> str:
    """Returns the start of a text of any length."""
    return text if len(text) <= 100 else f"{text[:97]}..."
