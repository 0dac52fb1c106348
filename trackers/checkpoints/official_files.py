"""Official checkpoints in: recognised by what they hold, whatever the file is called.

Trackers of the PyTracking lineage are `torch.save` dictionaries with their weights under "net", beside objects of their
projects. They are read without running any of it (see `pickles.py`); every weight is used, or known to be dead.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trackers.checkpoints.pickles import read_pickle
from trackers.contents import CheckpointContents, CheckpointError
from trackers.dimp import official as dimp
from trackers.ostrack import official as ostrack
from trackers.stark import official as stark

TRACKERS = (ostrack, stark, dimp)  # modules with `recognises(weights)` and `convert(weights, config_name)`


def read_official(path: str | Path, device: str = "cpu") -> CheckpointContents:
    """What an official tracker's file holds, or that of a pretrained ViT or ResNet.

    Args:
        path: a file of `torch.save`.
        device: "cpu", or "meta" to read shapes without the numbers.

    Raises:
        UnsafePickleError: the file asks for code.
        CheckpointError: it holds neither.
        ValueError: not a file of `torch.save`.
    """
    content = read_pickle(path, device)
    weights = _weights(content)
    for tracker in TRACKERS:
        if tracker.recognises(weights):
            return tracker.convert(weights, _config_name(content))
    if {"patch_embed.proj.weight", "layer1.0.conv1.weight"} & weights.keys():
        return CheckpointContents(weights)
    found = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(
        f"{path} holds neither a known tracker nor a pretrained ViT or ResNet; found {found}, with the weights "
        f"{list(weights)[:4]}"
    )


def _config_name(content: Mapping[str, Any]) -> str | None:
    """What the file says of its training: the name of a configuration or script, else of what computed the losses."""
    names = [getattr(content.get("settings"), name, None) for name in ("config_name", "script_name")]
    return next((n for n in (*names, content.get("actor_type")) if isinstance(n, str)), None)


def _weights(content: Any) -> dict[str, Tensor]:
    """The weights in a file: those of a tracker, of MAE, or a bare state dict."""
    if not isinstance(content, Mapping):
        return {}
    for key in ("net", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}
