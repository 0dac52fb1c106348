"""Networks by name: models of timm and torchvision, and functions of the user's own modules."""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pruning.errors import PruningError, describe_value

TORCHVISION = "torchvision:"


def is_function(name: str) -> bool:
    """Returns whether a name is a function of a module, which only its user can trust and import."""
    return ":" in name and not name.startswith(TORCHVISION)


def build_model(name: str) -> nn.Module:
    """Returns a new network in evaluation mode, with the weights that its library or function gives it.

    Args:
        name: the name of a model of timm, "torchvision:NAME", or "package.module:function" for a function without
            arguments that returns the network. Such a function is imported and called.

    Raises:
        PruningError: there is no such model or function, its library is not installed, or it returns no network.
    """
    if is_function(name):
        return _call(name)
    if name.startswith(TORCHVISION):
        models = importlib.import_module(_import("torchvision").__name__ + ".models")
        word = name.removeprefix(TORCHVISION)
        _check_known(word, models.list_models(), TORCHVISION)
        return models.get_model(word, weights=None).eval()
    timm = _import("timm")
    if not timm.is_model(name):
        _check_known(name, timm.list_models(), "")
    return timm.create_model(name, pretrained=False).eval()


def input_shape(network: nn.Module) -> tuple[int, ...]:
    """Returns the shape of the network's input: that of timm's configuration if there is one, else (1, 3, 224, 224)."""
    configuration: Any = getattr(network, "pretrained_cfg", None) or {}
    return (1, *configuration.get("input_size", (3, 224, 224)))


def _import(library: str) -> ModuleType:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise PruningError(
            f"this model needs {library}, which cannot be imported ({error}); install it: pip install {library}"
        ) from error


def _check_known(name: str, known: Sequence[str], prefix: str) -> None:
    if name not in known:
        similar = [prefix + word for word in get_close_matches(name, known, n=3)]
        library = "torchvision" if prefix else "timm"
        raise PruningError(
            f"{library} has no model {name!r}; "
            + (f"did you mean {' or '.join(similar)}" if similar else f"e.g. {prefix}resnet18")
            + "; other networks: torchvision:NAME, or package.module:function"
        )


def _call(name: str) -> nn.Module:
    """Returns the network that a function returns."""
    module_name, _, function_name = name.partition(":")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, and imports another one that does not
        hint = f"it may be a file {module_name}.py in {folder}"
        if module_name.endswith(".py"):
            hint = f"write {module_name.removesuffix('.py')}:{function_name}"
        raise PruningError(f"there is no module {module_name!r}; {hint}") from error
    except (ValueError, TypeError) as error:  # ":build", "..net:build"
        raise PruningError(f"{name!r} must name a function as package.module:function, e.g. mynet:build") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        similar = get_close_matches(function_name, [n for n in vars(module) if callable(getattr(module, n))], n=1)
        hint = f"did you mean {module_name}:{similar[0]}?" if similar else "e.g. def build(): return MyNetwork()"
        raise PruningError(f"{module.__name__} has no function {function_name!r}; {hint}")
    network = function()
    if not isinstance(network, nn.Module):
        raise PruningError(f"{name} must return a torch.nn.Module, not {describe_value(network)}")
    return network.eval()
