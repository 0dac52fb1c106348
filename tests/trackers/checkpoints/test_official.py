"""Tests of official checkpoints: recognition by content, safe reading, and an account of every key."""

import logging
import sys
import types
from pathlib import Path

import pytest
import torch
from timm.layers import Attention as TimmAttention
from torch import Tensor, nn

from tests.conftest import results
from tests.trackers.networks import SIZES, small_ostrack
from tests.trackers.ostrack.test_tracker import crops
from tests.trackers.stark.test_tracker import small_stark
from trackers import load_checkpoint, load_tracker
from trackers.checkpoints.gate_reading import GateReading
from trackers.crops import CropSpec
from trackers.errors import CheckpointError
from trackers.layers.attention import Attention, SingleQueryAttention
from trackers.ostrack.official import convert
from trackers.stark import STARK
from trackers.stark.transformer import FeedForward

CONFIG = "vitb_256_mae_32x4_ep300"


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Returns `save(net, name)`, which writes a file as the original trainer does and then removes its classes."""

    def call(net: dict[str, Tensor], name: str = "OSTrack_ep0300.pth.tar", config: str = CONFIG) -> Path:
        module = types.ModuleType("lib.train.admin.settings")
        module.Settings = type("Settings", (), {"__module__": module.__name__})
        settings = module.Settings()
        settings.config_name = config
        with monkeypatch.context() as patch:
            for parent in ("lib", "lib.train", "lib.train.admin"):
                patch.setitem(sys.modules, parent, types.ModuleType(parent))
            patch.setitem(sys.modules, module.__name__, module)
            content = {"epoch": 300, "net_type": "OSTrack", "net": net, "optimizer": {}, "settings": settings}
            torch.save(content, tmp_path / name)
        return tmp_path / name

    return call


def official(gates: bool = False) -> dict[str, Tensor]:
    """Returns a small network's weights under official names."""
    net = small_ostrack(None).network.state_dict()
    net |= {"backbone.cls_token": torch.ones(1, 1, 128), "backbone.pos_embed": torch.ones(1, 197, 128)}
    if gates:
        generator = torch.Generator().manual_seed(5)
        for i in range(SIZES["depth"]):
            net[f"backbone.blocks.{i}.attn.zeta"] = torch.rand(1, 1, 2, 1, 64, generator=generator)
            net[f"backbone.blocks.{i}.mlp.zeta"] = torch.rand(1, 1, 256, generator=generator)
            net[f"backbone.blocks.{i}.attn.patch_zeta"] = torch.full((1, 3, 1), 3.0)
    return net


def timms(attention: nn.Module) -> nn.Module:
    """Attention in timm's form, whose projections are layers that hooks can reach."""
    theirs = TimmAttention(128, SIZES["num_heads"], qkv_bias=True).double()
    theirs.load_state_dict(attention.state_dict(), strict=True)
    return theirs


@torch.no_grad()
def maps(checkpoint) -> dict[str, Tensor]:
    return checkpoint.tracker.double().network(*crops())


@pytest.mark.parametrize("name", ["OSTrack_ep0300.pth.tar", "renamed.safetensors", "no_suffix"])
def test_a_dense_file_under_any_name(save, name, caplog):
    with caplog.at_level(logging.INFO):
        checkpoint = load_checkpoint(save(official(), name))
    ours = small_ostrack(None).double()
    with torch.no_grad():
        torch.testing.assert_close(maps(checkpoint), ours.network(*crops()), rtol=0, atol=0)
    assert "2 entries that it never reads" in caplog.text
    assert CONFIG in caplog.text
    tracker = checkpoint.tracker
    assert (tracker.template.size, tracker.search.size, tracker.search.factor) == (32, 64, 4.0)
    assert tracker.network.backbone.elimination is None  # as its configuration, which has no `_ce`, says


def test_sizes_of_the_published_networks_tell_crops_and_elimination():
    for search, config, eliminates in (
        (256, "vitb_256_mae_ce_32x4_ep300", True),
        (384, CONFIG, False),
        (384, None, True),
    ):
        grid = search // 16
        weights = {
            "backbone.patch_embed.proj.weight": (768, 3, 16, 16),
            "backbone.pos_embed_z": (1, (grid // 2) ** 2, 768),
            "backbone.pos_embed_x": (1, grid**2, 768),
            "box_head.conv1_ctr.0.weight": (256, 768, 3, 3),
            **{f"backbone.blocks.{i}.attn.qkv.weight": (2304, 768) for i in range(12)},
            "backbone.blocks.0.mlp.fc1.weight": (3072, 768),
        }
        shapes = {name: torch.empty(shape, device="meta") for name, shape in weights.items()}
        recipe = convert(shapes, config).recipe
        assert (recipe["template"]["size"], recipe["search"]["size"]) == (search // 2, search)
        assert recipe["search"]["factor"] == {256: 4.0, 384: 5.0}[search]
        assert (recipe["elimination"] is not None) == eliminates
        assert recipe["vit"] == {"drop_path_rate": 0.1}
        assert "defaults" not in recipe


@torch.no_grad()
def test_a_sparse_file_computes_with_its_soft_gates(save):
    net = official(gates=True)
    checkpoint = load_checkpoint(save(net))
    reference = small_ostrack(None).double()
    for i, block in enumerate(reference.network.backbone.blocks):
        attention, mlp = (net[f"backbone.blocks.{i}.{kind}.zeta"].flatten().double() for kind in ("attn", "mlp"))
        block.attn = timms(block.attn)
        # As the original applies gates: to activations, to q, k and v after the bias, to the MLP's after its GELU.
        block.attn.qkv.register_forward_hook(lambda *io, gate=attention: io[2] * gate.repeat(3))
        block.mlp.act.register_forward_hook(lambda *io, gate=mlp: io[2] * gate)
    torch.testing.assert_close(maps(checkpoint), reference.network(*crops()), rtol=1e-6, atol=1e-7)
    assert not checkpoint.plan.kept


@pytest.mark.parametrize("scope", ["kind", "layer"])
@torch.no_grad()
def test_a_child_file_needs_its_budget_and_is_cut(save, scope):
    net = official(gates=True)
    for i, scale in enumerate((1.0, 0.01, 1.0)):
        net[f"backbone.blocks.{i}.attn.zeta"] *= scale
    path = save(net)
    checkpoint = load_checkpoint(path, gates=GateReading(0.5, scope))
    reference = small_ostrack(None).double()
    for block in reference.network.backbone.blocks:
        block.attn = timms(block.attn)
    for kind, layer in (("attn", "qkv"), ("mlp", "act")):
        gates = [net[f"backbone.blocks.{i}.{kind}.zeta"].flatten().double() for i in range(3)]
        for i, gate in enumerate(gates):
            ranked = (gate if scope == "layer" else torch.cat(gates)).sort().values
            keep = (gate >= ranked[len(ranked) // 2]).double()
            module = reference.network.backbone.blocks[i].get_submodule(f"{kind}.{layer}")
            module.register_forward_hook(lambda *io, m=keep: io[2] * (m.repeat(3) if len(m) == 128 else m))
    torch.testing.assert_close(maps(checkpoint), reference.network(*crops()), rtol=1e-6, atol=1e-7)
    kept = [len(checkpoint.plan.kept[f"backbone.blocks.{i}.attn"]) for i in range(3)]
    assert sum(kept) == 192
    assert kept == ([64] * 3 if scope == "layer" else [kept[0], 0, kept[2]])


@pytest.mark.parametrize(
    ("given", "word"),
    [({"budget": 0}, r"gates\.budget=0"), ({"budget": 1.5}, r"\(0, 1\]"), ({"scope": "global"}, "kind or layer")],
)
def test_gates_that_cannot_be_read_so(given, word):
    with pytest.raises(ValueError, match=word):
        GateReading(**given)


def test_a_budget_for_a_file_without_gates(save):
    with pytest.raises(CheckpointError, match="has no gates"):
        load_checkpoint(save(official()), gates=GateReading(0.5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["attn.zeta", "mlp.zeta", "attn.qkv.weight"])
def test_gates_and_weights_that_are_no_numbers(save, kind, value):
    net = official(gates=True)
    net[f"backbone.blocks.1.{kind}"].view(-1)[5] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinite .*backbone\.blocks\.1\."):
        load_checkpoint(save(net))


def test_every_key_is_accounted_for(save):
    net = official()
    del net["backbone.blocks.1.norm2.bias"]
    net["box_head.conv9.weight"] = torch.ones(3)
    net["backbone.norm.weight"] = torch.ones(5)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(save(net))
    for line in (
        "missing: backbone.blocks.1.norm2.bias (128,)",
        "unexpected: box_head.conv9.weight (3,)",
        "shape of backbone.norm.weight: (5,) in the file, (128,) by the recipe",
    ):
        assert line in str(error.value)


def test_a_pretrained_vit_is_no_tracker(tmp_path):
    torch.save({"model": {"patch_embed.proj.weight": torch.ones(8, 3, 16, 16)}}, tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match=r"no tracker; .*python train\.py"):
        load_tracker(tmp_path / "mae.pth")


def test_a_file_that_is_something_else(tmp_path):
    torch.save({"weights": {"fc.weight": torch.ones(3)}, "epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"no known tracker .*'weights', 'epoch'"):
        load_checkpoint(tmp_path / "other.pth")


# STARK


def official_stark(gates: bool = False) -> tuple[STARK, dict[str, Tensor]]:
    """Returns a tracker and its weights under official names, dense or as in the paper's fork."""
    tracker = small_stark(
        template=CropSpec(128, 2.0, count=2, compat="reference"),
        search=CropSpec(320, 5.0, compat="reference"),
        backbone={"name": "resnet50", "frozen_norm": True},
        transformer={"width": 32, "heads": 4},
        compat="reference",
    )
    generator, net = torch.Generator().manual_seed(5), {}
    renamed = {"backbone.": "backbone.0.body.", "query": "query_embed.weight"}
    for name, w in tracker.network.state_dict().items():
        for ours, theirs in renamed.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        if ".self_attn.value." in name:  # queries and keys of the decoder's one token, which have no effect
            name, w = name.replace("value", "qkv"), torch.cat([torch.rand_like(w), torch.rand_like(w), w])
        if ".qkv." in name and gates:
            parts = dict(zip("qkv", w.chunk(3), strict=True))
            net |= {name.replace("qkv", part): value for part, value in parts.items()}
            continue
        if gates:
            name = name.replace("mlp.linear", "mlp.fc")
        else:
            name = name.replace("mlp.linear", "linear").replace(".qkv.", ".in_proj_").replace(".proj.", ".out_proj.")
        net[name] = w
    if gates:
        for group in tracker.groups():
            if group.kind.startswith(("attention", "mlp")):
                shape = (1, 1, 4, 1, 8) if "attention" in group.kind else (1, 1, 32)
                net[f"{group.name}.zeta"] = torch.rand(shape, generator=generator)
                net[f"{group.name}.patch_zeta"] = torch.full((1, 197, 1), 3.0)
    return tracker, net


@torch.no_grad()
def test_a_dense_stark(save):
    tracker, net = official_stark()
    checkpoint = load_checkpoint(save(net, "STARKST_ep0050.pth.tar", "baseline"))
    given = tracker.example_inputs()
    expected, found = tracker.network(**given), checkpoint.tracker.network(**given)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    loaded = checkpoint.tracker
    assert (loaded.template.count, loaded.compat, loaded.search.compat) == (2, "reference", "reference")


@torch.no_grad()
def test_a_sparse_stark_keeps_its_relu(save):
    tracker, net = official_stark(gates=True)
    checkpoint = load_checkpoint(save(net, "STARKSPARSE_ep0100.pth.tar", "baseline"))
    given = tracker.example_inputs()
    for path, module in tracker.network.named_modules():
        gate = net[f"{path}.zeta"].flatten() if f"{path}.zeta" in net else None
        if isinstance(module, FeedForward):
            module.dropout.register_forward_hook(lambda *io, gate=gate: io[2] * gate)
        elif isinstance(module, Attention):
            module.qkv.weight *= gate.repeat(3)[:, None]
            module.qkv.bias *= gate.repeat(3)
        elif isinstance(module, SingleQueryAttention):
            module.value.register_forward_hook(lambda *io, gate=gate: io[2] * gate)
    expected, found = tracker.network(**given), checkpoint.tracker.network(**given)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_a_child_of_starks_is_cut_in_each_stack_by_itself(save):
    _, net = official_stark(gates=True)
    for name in net:
        if "decoder" in name and name.endswith(".zeta"):
            net[name] *= 1e-3  # as the authors' decoders look
    checkpoint = load_checkpoint(save(net), gates=GateReading(0.25))
    kept = {name: len(units) for name, units in checkpoint.plan.kept.items()}
    encoder, decoder = (
        sum(n for name, n in kept.items() if f".{stack}." in name and "attn" in name)
        for stack in ("encoder", "decoder")
    )
    assert (encoder, decoder) == (2 * 32 // 4, 4 * 32 // 4)


# The three scripts


def test_it_is_scored(run, save):
    outputs = run("eval", f"checkpoint={save(official())}", "+tracker.online.min_size=2")
    assert results(outputs)[0]["params"] == sum(p.numel() for p in small_ostrack(None).network.parameters())


@pytest.mark.slow
def test_it_is_pruned(run, save, caplog):
    outputs = run("prune", f"checkpoint={save(official())}", "ratio=0.5", "+tracker.search.centre_jitter=1.0")
    (result,) = results(outputs)
    assert 0.49 < result["ratio_achieved"] <= 0.5
    assert result["tracker"] == "ostrack"
    child = load_checkpoint(next(outputs.rglob("checkpoint.safetensors")))
    assert child.recipe["search"]["centre_jitter"] == 1.0
    assert child.recipe["vit"] == {"drop_path_rate": 0.1} | SIZES


FULL_BUT_SMALL = [
    *("scale=full", *(f"+tracker.vit.{key}={value}" for key, value in SIZES.items()), "tracker.elimination=null"),
    *("tracker.head_channels=[8,4]", "tracker.template.size=32", "tracker.search.size=64", "stages.parent.steps=0"),
    "datamodule.val_samples=0",
]


@pytest.fixture
def train(run, monkeypatch):
    """Runs `train.py` at full scale with a network of the sizes of `small_ostrack`."""
    monkeypatch.setattr("tests.conftest.SMALL_NETWORK", FULL_BUT_SMALL)
    return lambda *overrides: run("train", *overrides)


def test_a_training_starts_from_it(train, save):
    outputs = train(f"checkpoint={save(official())}")
    parent = load_checkpoint(next(outputs.rglob("checkpoint.safetensors")))
    torch.testing.assert_close(maps(parent), maps(load_checkpoint(save(official()))), rtol=0, atol=0)


@pytest.mark.slow
def test_a_training_starts_from_mae(train, tmp_path):
    net = {n.removeprefix("backbone."): w for n, w in official().items() if n.startswith("backbone.")}
    net = {n: w for n, w in net.items() if n not in ("pos_embed_z", "pos_embed_x")} | {"mask_token": torch.ones(1)}
    torch.save({"model": net}, tmp_path / "mae.pth")
    outputs = train(f"checkpoint={tmp_path / 'mae.pth'}")
    parent = load_checkpoint(next(outputs.rglob("checkpoint.safetensors")))
    weights = parent.tracker.network.state_dict()
    torch.testing.assert_close(weights["backbone.blocks.2.mlp.fc1.weight"], net["blocks.2.mlp.fc1.weight"])
    torch.testing.assert_close(weights["backbone.pos_embed_x"], torch.ones(1, 16, 128))  # all ones, whatever the grid


class Evil:
    def __reduce__(self):
        return exec, (f"open({MARK!r}, 'w')",)


MARK = "ran.txt"


def test_a_malicious_file_ends_the_run_with_one_message(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"net": official(), "settings": Evil()}, "OSTrack_ep0300.pth.tar")
    with pytest.raises(SystemExit) as stop:
        run("eval", "checkpoint=OSTrack_ep0300.pth.tar")
    assert "builtins.exec" in str(stop.value.code)
    assert not Path(MARK).exists()
