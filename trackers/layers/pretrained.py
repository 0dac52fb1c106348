"""Pretrained weights of timm and torchvision. A file that is not in the cache of the library is downloaded once."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torchvision
from torch import Tensor

from trackers.errors import TrackerError

TIMEOUT = 10.0  # seconds after which a server is out of reach; the libraries themselves would go on for a minute
Loaded = TypeVar("Loaded")


def vit_weights(name: str) -> Mapping[str, Tensor]:
    """Returns the weights of a ViT from timm; see `timm_weights`."""
    return timm_weights(name, "vit_base_patch16_224.mae")


def timm_weights(name: str, example: str = "mobilenetv2_100") -> Mapping[str, Tensor]:
    """Returns the weights of a network of timm, with timm's names.

    Args:
        name: of the network, e.g. "mobilenetv2_100.ra_in1k".
        example: a network that has weights, for the message.

    Raises:
        TrackerError: timm has no such weights, or they cannot be downloaded. The message says what to do.
    """
    import timm  # trackers with a ResNet do without
    from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache

    about: Any = timm.get_pretrained_cfg(name)
    if about is None or not about.hf_hub_id:
        raise TrackerError(f"timm has no pretrained weights of backbone={name}; choose e.g. tracker.backbone={example}")
    place = about.hf_hub_id, about.hf_hub_filename or "model.safetensors"
    file = try_to_load_from_cache(*place)
    if not isinstance(file, str):
        file = _download(hf_hub_url(*place), lambda: hf_hub_download(*place), "")
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": file}).state_dict()


def resnet_weights(name: str) -> Mapping[str, Tensor]:
    """Returns the ImageNet weights (V1) of a ResNet from torchvision.

    Args:
        name: of the model, e.g. "resnet50".

    Raises:
        TrackerError: torchvision has no such weights, or they cannot be downloaded. The message says what to do.
    """
    if name not in torchvision.models.list_models():
        raise TrackerError(
            f"the backbone '{name}' has no pretrained weights; set checkpoint=null, or choose scale=full"
        )
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    folder = Path(torch.hub.get_dir()) / "checkpoints"

    def load() -> Mapping[str, Tensor]:
        return torchvision.models.get_model(name, weights=weights).state_dict()

    if (folder / weights.url.rpartition("/")[2]).is_file():
        return load()
    return _download(weights.url, load, f", or put it into {folder}")


def _download(address: str, load: Callable[[], Loaded], otherwise: str) -> Loaded:
    """Returns the result of `load`, which downloads a file, if the server can be reached.

    Args:
        address: of the file.
        load: the function of the library.
        otherwise: another remedy, for the message.

    Raises:
        TrackerError: the server cannot be reached, or the download fails.
    """
    file = address.rpartition("/")[2]
    try:
        _check_server(address)
        return load()
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise TrackerError(
            f"checkpoint=pretrained needs {file}, and {address} cannot be downloaded ({reason}). Download the file "
            f"elsewhere and set checkpoint=/path/{file}{otherwise}"
        ) from error


def _check_server(address: str) -> None:
    """Raises OSError if a server cannot be reached. What it answers is for the library to judge."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # the library may have other certificates
            raise
