"""CNNs of timm as backbones: maps, weights by the names of files, groups, refusals. All weights are random."""

import copy

import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from pruning import Pruner, check_groups
from pruning.criteria import Magnitude
from tests.conftest import CONF
from tests.trackers.test_distillation import batch
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import Checkpoint, initial_checkpoint, load_checkpoint
from trackers.checkpoints.recipes import build_tracker
from trackers.errors import CheckpointError, TrackerError
from trackers.layers.package_names import LITE, MOBILENET, package_names
from trackers.layers.timm_backbone import TimmBackbone
from trackers.pixels import normalise

SMALL = "mobilenetv2_035"
SIZES = {
    "stark": ["transformer.width=12", "transformer.hidden=16", "transformer.encoder_layers=1", "head_channels=[8]"],
    "dimp": ["classifier.width=8", "classifier.blocks=1", "box_head.width=8", "proposals.count=4"],
}


def recipe(kind: str, *changes: str, name: str = SMALL) -> dict:
    """The recipe of a small tracker with a CNN of timm."""
    given = [f"tracker={kind}", f"tracker.backbone={name}", *(f"tracker.{c}" for c in (*SIZES[kind], *changes))]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", given)
    return OmegaConf.to_container(cfg.tracker, resolve=True)


def small(kind: str, *changes: str, name: str = SMALL) -> Tracker:
    torch.manual_seed(0)
    return build_tracker(recipe(kind, *changes, name=name)).eval()


def shake(network: nn.Module) -> None:
    """Moves batch norms away from their start, at which cut and masked networks could be equal by chance."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.uniform_(-0.3, 0.3)
            module.running_mean.uniform_(-0.1, 0.1)


def test_maps_have_the_strides_and_nothing_behind_them_is_built():
    backbone = TimmBackbone(SMALL, maps=3)
    shapes = [tuple(m.shape[1:]) for m in backbone.stage_maps(torch.rand(1, 3, 64, 96))]
    assert shapes == [(w, 64 // s, 96 // s) for w, s in zip(backbone.widths, (4, 8, 16), strict=True)]
    assert {name.split(".")[2] for name, _ in backbone.named_parameters() if "blocks" in name} == set("01234")
    fine = TimmBackbone(SMALL, stride=8)
    assert {name.split(".")[2] for name, _ in fine.named_parameters() if "blocks" in name} == set("012")
    assert [fine.stride, *fine.strides] == [8, 8]


@pytest.mark.parametrize("prefix", ["", "classifier."])
def test_weights_of_the_complete_network_give_its_features(prefix):
    """Networks that were trained with another mean and deviation see the pixels that they were trained on."""
    complete = timm.create_model(SMALL).eval()
    backbone = TimmBackbone(SMALL, maps=2, mean=[0.5] * 3, std=[0.5] * 3).eval()
    weights = {name: w for name, w in complete.state_dict().items() if not (prefix and name.startswith(prefix))}
    backbone.load_pretrained(weights, "weights.pth")
    pixels = 255 * torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        own = backbone.stage_maps(normalise(pixels))
        theirs = complete.forward_intermediates(pixels / 127.5 - 1, indices=[2, 3], intermediates_only=True)
    for ours, timms in zip(own, theirs, strict=True):
        torch.testing.assert_close(ours, timms, rtol=1e-4, atol=1e-4)


def test_flat_names_of_timms_wrapper():
    """In timm's wrapper a ConvNeXt has stages_0.downsample, where its weights are named stages.0.downsample."""
    complete = timm.create_model("convnext_atto").state_dict()
    backbone = TimmBackbone("convnext_atto", stride=8)
    backbone.load_pretrained(complete, "weights.pth")
    loaded = backbone.body.state_dict()["stages_1.blocks.0.conv_dw.weight"]
    assert torch.equal(loaded, complete["stages.1.blocks.0.conv_dw.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("blocks.1.0.bn1.weight"), "missing: blocks.1.0.bn1.weight"),
        (lambda w: w.update({"blocks.9.0.bn1.weight": torch.ones(2)}), "unexpected: blocks.9.0.bn1.weight"),
        (lambda w: w.update({"conv_stem.weight": torch.ones(2)}), "shape of conv_stem.weight"),
    ],
)
def test_weights_of_another_network(change, words):
    weights = timm.create_model(SMALL).state_dict()
    change(weights)
    with pytest.raises(CheckpointError, match=words):
        TimmBackbone(SMALL).load_pretrained(weights, "weights.pth")


@pytest.mark.parametrize(
    ("name", "first", "blocks", "layers", "ends"),
    [
        (
            "tf_efficientnet_lite0",
            0,
            "_blocks.{}.{}",
            LITE,
            {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"},
        ),
        (
            "mobilenetv2_100",
            1,
            "features.{}.conv.{}",
            MOBILENET,
            {"conv_stem": "features.0.0", "bn1": "features.0.1", "conv_head": "features.18.0", "bn2": "features.18.1"},
        ),
    ],
)
def test_names_of_packages(name, first, blocks, layers, ends):
    """The names of a whole file, made from timm's by counting blocks and layers."""
    with torch.device("meta"):
        wanted = list(timm.create_model(name).state_dict())
    numbers = list(dict.fromkeys(".".join(n.split(".")[:3]) for n in wanted if n.startswith("blocks.")))
    theirs = {}
    for full in wanted:
        layer, _, tensor = full.rpartition(".")
        if not full.startswith("blocks."):
            if layer in ends:
                theirs[f"{ends[layer]}.{tensor}"] = full
            continue
        block, _, inner = layer.rpartition(".")
        order = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
        used = list(layers)
        if block == "blocks.0.0":
            order, used = ["conv_dw", "bn1", "conv_pw", "bn2"], [x for x in layers if x in {*LITE[2:], *MOBILENET[:4]}]
        theirs[f"{blocks.format(numbers.index(block) + first, used[order.index(inner)])}.{tensor}"] = full
    assert len(theirs) > 290
    assert package_names({n: n for n in theirs}, wanted) == {full: n for n, full in theirs.items()}


@pytest.mark.parametrize(
    ("name", "stride", "words"),
    [
        ("vit_base_patch16_224", 16, "no features at stride 8, only at 16; .*mobilenetv2_100.*tracker=ostrack"),
        ("mobilenetv2_10", 16, "no network of .*timm; did you mean mobilenetv2_"),
        ("hf-hub:somebody/network", 16, "no network of"),
        ("mobilenetv2_100.imagenet", 16, "it knows mobilenetv2_100.ra_in1k"),
        ("halonet26t", 16, "does not run up to stride 16 on a picture of 64 x 96"),
        ("inception_v3", 8, "returns maps"),
        ("xception41", 16, "cannot be cut off at stride 16"),
        (SMALL, 32, "stride=32 .* choose 8 or 16"),
    ],
)
def test_networks_without_such_features_are_refused_by_name(name, stride, words):
    with pytest.raises(TrackerError, match=f"tracker.*{words}"):
        TimmBackbone(name, stride)


def test_more_levels_than_maps_and_wrong_channels():
    with pytest.raises(TrackerError, match=r"levels\[0\].channels=7, but the map of the backbone has 16"):
        small("dimp", "box_head.levels=[{channels: 7, reference: 4, reference_pool: 1, pool: 3}]")
    four = ", ".join(4 * ["{reference: 4, reference_pool: 1, pool: 3}"])
    with pytest.raises(TrackerError, match=r"maps of the strides \[4, 8\], and not 4"):
        small("dimp", f"box_head.levels=[{four}]")
    with pytest.raises(TrackerError, match="set the name alone"):
        build_tracker(recipe("stark") | {"backbone": {"stem": 4, "name": SMALL}})


@pytest.mark.parametrize("kind", ["stark", "dimp"])
def test_half_of_a_tracker_is_cut_saved_and_loaded(kind, tmp_path):
    tracker = small(kind)
    shake(tracker.network)
    pruner = Pruner(0.5, Magnitude())
    pruner.attach(tracker.network, tracker.groups(), inputs=lambda _: tracker.example_inputs())
    pruner.update()
    errors = pruner.finish([tracker.example_inputs()])
    assert errors["masked_vs_compacted"] < 1e-4
    assert errors["ratio_achieved"] == pytest.approx(0.5, abs=0.02)
    file = Checkpoint(tracker, recipe(kind), pruner.plan).save(tmp_path / "child.safetensors")
    again = load_checkpoint(file).tracker
    inputs = tracker.example_inputs()
    with torch.no_grad():
        expected, found = tracker.network(**inputs), again.network(**inputs)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    with torch.device("meta"):
        assert [g.name for g in again.groups()]  # a child can be pruned again


@pytest.mark.parametrize("kind", ["stark", "dimp"])
def test_every_trained_weight_has_a_gradient(kind):
    freeze = {"stark": "freeze_stem=true", "dimp": "frozen_stages=1"}[kind]
    tracker = small(kind, freeze).train()
    tracker.setup("fit")
    tracker.losses(batch(tracker))["total"].backward()
    without = {name for name, p in tracker.network.named_parameters() if p.grad is None}
    frozen = {name for name, _ in tracker.network.named_parameters() if not tracker.is_trained(name)}
    assert {"conv_stem", "bn1", "blocks.0", "blocks.1"} == {
        ".".join(name.split(".")[2 : 4 if "blocks" in name else 3]) for name in frozen
    }
    assert without == frozen
    if kind == "dimp":
        assert not tracker.network.get_submodule("backbone.body.blocks.1.0.bn1").training
        assert tracker.network.get_submodule("backbone.body.blocks.2.0.bn1").training


def test_a_map_of_several_groups():
    """GhostNet concatenates two halves of each map, and a unit has a channel in both."""
    tracker = small("stark", name="ghostnet_050")
    groups = check_groups(tracker.network, tracker.groups())
    read = [(g.size, s.offsets) for g in groups for s in g.slices if (s.path, s.dim) == ("bottleneck.weight", 1)]
    half = tracker.network.bottleneck.in_channels // 2
    assert read == [(half, (0, half))]


def test_a_file_of_pretrained_weights(tmp_path):
    complete = timm.create_model(SMALL).state_dict()
    save_file(complete, tmp_path / "model.safetensors")
    torch.save(complete, tmp_path / "model.pth")
    for file in ("model.safetensors", "model.pth"):
        started = initial_checkpoint(recipe("stark"), tmp_path / file).tracker.network.backbone.body.state_dict()
        assert torch.equal(started["blocks.1.0.conv_pw.weight"], complete["blocks.1.0.conv_pw.weight"])
    with pytest.raises(CheckpointError, match="pretrained backbone and no tracker"):
        load_checkpoint(tmp_path / "model.pth")


def test_names_of_resnets_are_those_of_torchvision():
    tracker = small("dimp", name="resnet18")
    assert type(tracker.network.backbone).__name__ == "ResNet"
    assert tracker.network.backbone.strides == [4, 8]
    copied = copy.deepcopy(tracker)
    assert [g.name for g in copied.groups()] == [g.name for g in tracker.groups()]
