"""Reading of official checkpoints, which are recognised by their weights, not by their file names.

Trackers of the PyTracking lineage are `torch.save` dictionaries with the weights under "net" and objects of their
projects. They are read without running any code (see `pickles.py`). Each weight is either loaded or known to be unused.
"""

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trackers.checkpoints.pickles import read_pickle
from trackers.contents import CheckpointContents
from trackers.dimp import official as dimp
from trackers.errors import CheckpointError
from trackers.ostrack import official as ostrack
from trackers.stark import official as stark

TRACKERS = (ostrack, stark, dimp)  # modules with `recognises(weights)` and `convert(weights, config_name)`
# Starts of the names of first layers in timm's ViTs and CNNs, in torchvision's ResNets, and in the files of packages.
FIRST_LAYERS = (
    *("patch_embed.", "conv1.", "conv_stem.", "_conv_stem.", "stem.", "stem_", "features.", "base_layer."),
    *("conv0.", "layer0.", "body.conv1.", "layer1.0.conv1."),
)


def read_official(path: str | Path, device: str = "cpu") -> CheckpointContents:
    """Returns the contents of an official tracker's file, or of a pretrained ViT's or CNN's file.

    Args:
        path: a file of `torch.save`.
        device: "cpu", or "meta" to read shapes without values.

    Raises:
        UnsafePickleError: the file asks for code.
        CheckpointError: the file contains no known tracker and no pretrained ViT or CNN.
        TrackerError: the file was not written by `torch.save`.
    """
    content = read_pickle(path, device)
    weights = _weights(content)
    for tracker in TRACKERS:
        if tracker.recognises(weights):
            try:
                return tracker.convert(weights, _config_name(content))
            except (ArithmeticError, LookupError, RuntimeError, StopIteration, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"{path} has the names of an official tracker but other shapes ({type(error).__name__}: {error}); "
                    "pass the file as it was downloaded"
                ) from error
    if is_backbone(weights):
        return CheckpointContents(weights)
    found = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(
        f"{path} contains no known tracker and no pretrained ViT or CNN; it contains {reprlib.repr(found)}, "
        f"with the weights {reprlib.repr(list(weights)[:4])}"
    )


def is_backbone(names: Iterable[str]) -> bool:
    """Returns whether weights with these names are those of a pretrained ViT or CNN."""
    return any(name.startswith(FIRST_LAYERS) and name.endswith(".weight") for name in names)


def _config_name(content: Mapping[str, Any]) -> str | None:
    """Returns the name of the training's configuration or script, else of its actor; None if the file has none."""
    names = [getattr(content.get("settings"), name, None) for name in ("config_name", "script_name")]
    return next((n for n in (*names, content.get("actor_type")) if isinstance(n, str)), None)


def _weights(content: Any) -> dict[str, Tensor]:
    """Returns the weights of a tracker's file, of MAE's file or of a state dict, by name; {} for other content."""
    if not isinstance(content, Mapping):
        return {}
    for key in ("net", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {name: w for name, w in content.items() if isinstance(name, str) and isinstance(w, Tensor)}
