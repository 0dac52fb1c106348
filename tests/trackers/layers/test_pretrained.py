"""Pretrained backbones without a network: the message comes at once, and each remedy that it names works."""

import re
import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import save_file

from tests.conftest import CONF
from trackers.checkpoints.checkpoint import initial_checkpoint, load_checkpoint
from trackers.errors import CheckpointError, TrackerError
from trackers.layers.pretrained import resnet_weights, vit_weights

VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The addresses that were asked for, of a machine without a network and with empty caches."""
    addresses = []

    def urlopen(request, timeout):
        assert timeout <= 10
        addresses.append((request.get_method(), request.full_url))
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    return addresses


# All pretrained backbones of conf/tracker, and those that the pages name.
@pytest.mark.parametrize(
    ("load", "name", "file", "address"),
    [
        (resnet_weights, "resnet18", "resnet18-f37072fd.pth", "https://download.pytorch.org/models/"),
        (resnet_weights, "resnet50", "resnet50-0676ba61.pth", "https://download.pytorch.org/models/"),
        (resnet_weights, "resnet101", "resnet101-63fe2227.pth", "https://download.pytorch.org/models/"),
        (vit_weights, "vit_base_patch16_224", "model.safetensors", "https://huggingface.co/timm/vit_base_patch16_224."),
        (vit_weights, "vit_base_patch16_224.mae", "model.safetensors", "https://huggingface.co/timm/vit_base_patch16_"),
    ],
)
def test_without_a_network_the_message_names_file_address_and_remedy(asked, load, name, file, address):
    with pytest.raises(TrackerError) as error:
        load(name)
    ((method, url),) = asked  # one attempt, and none by the library
    assert method == "HEAD"
    assert url.startswith(address)
    assert url.endswith(f"/{file}")
    told = str(error.value)
    assert "\n" not in told
    for words in (f"checkpoint=pretrained needs {file}", url, "Name or service not known", f"checkpoint=/path/{file}"):
        assert words in told


def test_a_file_in_the_cache_that_the_message_names(asked, tmp_path):
    with pytest.raises(TrackerError) as error:
        resnet_weights("resnet18")
    weights = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(weights, tmp_path / "elsewhere.pth")
    folder = re.search(r"put it into (\S+)$", str(error.value))[1]
    Path(folder).mkdir(parents=True)
    shutil.copy(tmp_path / "elsewhere.pth", f"{folder}/resnet18-f37072fd.pth")
    asked.clear()
    loaded = resnet_weights("resnet18")
    assert all(torch.equal(loaded[name], weight) for name, weight in weights.items())
    assert not asked


@pytest.mark.parametrize("metadata", [{"format": "pt"}, None])
def test_a_vit_from_elsewhere(tmp_path, metadata):
    """Files of timm are safetensors without a recipe of ours, so the recipe is that of the configuration."""
    vit = timm.create_model("vit_base_patch16_224", **VIT, num_classes=7)
    file = tmp_path / "model.safetensors"
    save_file(vit.state_dict(), file, metadata)
    recipe = recipe_of_a_small_ostrack()
    started = initial_checkpoint(recipe, file).tracker.network.backbone.state_dict()
    assert torch.equal(started["blocks.1.mlp.fc2.weight"], vit.state_dict()["blocks.1.mlp.fc2.weight"])
    with pytest.raises(CheckpointError, match="holds a pretrained backbone and no tracker"):
        load_checkpoint(file)


def test_a_server_that_answers_is_left_to_the_library(asked, monkeypatch):
    def answers(code):
        def urlopen(request, timeout):
            raise urllib.error.HTTPError(request.full_url, code, "no", {}, None)

        return urlopen

    monkeypatch.setattr(urllib.request, "urlopen", answers(403))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *place: f"found/{place[1]}")
    monkeypatch.setattr(timm, "create_model", lambda *_, **options: torch.nn.Linear(2, 2))
    assert vit_weights("vit_base_patch16_224").keys() == {"weight", "bias"}

    def breaks(*_):
        raise ConnectionError("the server closed the connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", breaks)
    with pytest.raises(TrackerError, match=r"cannot be downloaded \(the server closed the connection\)"):
        vit_weights("vit_base_patch16_224")


@pytest.mark.parametrize(("load", "name"), [(resnet_weights, "small"), (vit_weights, "vit_base_patch16_18x2_224")])
def test_a_backbone_that_nobody_has_trained(asked, load, name):
    with pytest.raises(TrackerError, match=r"no pretrained weights.*(checkpoint|tracker\.backbone)="):
        load(name)
    assert not asked


def recipe_of_a_small_ostrack() -> dict:
    sizes = [f"tracker.vit.{key}={value}" for key, value in VIT.items()]
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        cfg = compose("train", [*sizes, "tracker.vit.stem_hidden=null", "tracker.head_channels=[8,8]"])
    recipe = OmegaConf.to_container(cfg.tracker, resolve=True)
    return recipe | {"backbone": "vit_base_patch16_224"}
