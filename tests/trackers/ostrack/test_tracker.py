"""Tests of OSTrack beyond the reference vectors: elimination under pruning, other backbones, pretrained weights."""

import copy
from unittest import mock

import huggingface_hub
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from pruning.cost import ParamCost, count_macs, count_params
from pruning.gates import Gates
from pruning.plan import Plan
from pruning.surgery import compact
from tests.conftest import CONF
from tests.pruning.networks import random_plan
from tests.trackers.networks import ELIMINATION, LOSS, RECIPE, SIZES, small_ostrack
from trackers.base import Online
from trackers.checkpoints.checkpoint import build_tracker
from trackers.crops import CropSpec
from trackers.errors import CheckpointError
from trackers.ostrack import OSTrack
from trackers.ostrack.elimination import Elimination


def crops(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64) for side in (32, 64))


@pytest.mark.parametrize("seed", range(12))
@torch.no_grad()
def test_masked_is_compacted_also_where_candidates_leave_and_branches_vanish(seed):
    tracker = small_ostrack(seed=seed).double()
    network, groups, plan = tracker.network, tracker.groups(), random_plan(tracker.groups(), seed)
    gates = Gates(network, groups)
    gates.close(plan)
    with gates.folded():
        masked = network(*crops())
    expected = ParamCost(network, groups)([len(plan.units(g)) for g in groups])
    compact(network, groups, plan)
    compacted = network(*crops())
    for name in masked:
        torch.testing.assert_close(compacted[name], masked[name], rtol=1e-9, atol=1e-10)
    assert count_params(network) == expected
    left = tracker.groups()
    assert {g.name: g.size for g in left} == {g.name: len(plan.units(g)) for g in groups if plan.units(g)}


@torch.no_grad()
def test_a_child_whose_branches_vanished_is_pruned_again():
    tracker = small_ostrack().double()
    first = Plan({"backbone.blocks.0.attn": (), "backbone.blocks.1.mlp": (), "backbone.width": tuple(range(0, 128, 2))})
    compact(tracker.network, tracker.groups(), first)
    again, second = copy.deepcopy(tracker), Plan({"backbone.width": tuple(range(10)), "backbone.blocks.1.attn": ()})
    gates = Gates(again.network, again.groups())
    gates.close(second)
    with gates.folded():
        masked = again.network(*crops())
    compact(again.network, again.groups(), second)
    torch.testing.assert_close(again.network(*crops())["score_map"], masked["score_map"], rtol=1e-9, atol=1e-10)
    at_once = small_ostrack().double()
    compact(at_once.network, at_once.groups(), first.followed_by(second))
    at_once.network.load_state_dict(again.network.state_dict(), strict=True)
    torch.testing.assert_close(at_once.network(*crops())["score_map"], masked["score_map"], rtol=1e-9, atol=1e-10)


@torch.no_grad()
def test_eliminated_positions_are_zero_and_the_others_in_place():
    backbone = small_ostrack().double().network.backbone
    template, search = crops()
    features = backbone(backbone.embed_template(template), search)
    zero = (features == 0).all(2)
    assert zero.sum(1).tolist() == [16 - 6, 16 - 6]  # ceil(.7 * 16) = 12, ceil(.5 * 12) = 6
    # A candidate's features depend on its content, not on its sample's position in the batch.
    alone = torch.cat([backbone(backbone.embed_template(template[i : i + 1]), search[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(features, alone, rtol=1e-9, atol=1e-12)


def test_candidates_stay_in_the_first_epochs_and_leave_later():
    tracker = small_ostrack()
    seen = {}
    for epoch in (1, 2, 3, 4, 9):
        with mock.patch.object(OSTrack, "current_epoch", epoch - 1):
            tracker.on_train_batch_start()
        seen[epoch] = tracker.network.backbone.shares()
    assert seen[1] == seen[2] == [1, 1, 1]
    assert seen[3] == pytest.approx([0.85, 1, 0.85])  # half of the way, for all blocks alike
    assert seen[4] == seen[9] == pytest.approx([0.7, 1, 0.7])
    tracker.on_train_end()
    assert tracker.network.backbone.shares() == [0.7, 1, 0.5]


def test_elimination_trains():
    tracker = small_ostrack().train()
    template, search = crops()
    maps = tracker.network(template.float(), search.float())
    maps["score_map"].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tracker.network.backbone.parameters())


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"keep": [0.7]}, "blocks="), ({"keep": [0.7, 0.0]}, "(0, 1]"), ({"keep": [0.7, 1.5]}, "(0, 1]")],
)
def test_shares_that_make_no_sense(changes, word):
    with pytest.raises(ValueError, match="elimination needs") as error:
        Elimination(**{"blocks": [3, 6], "keep": [0.7, 0.7], "start_epoch": 1, "warmup_epochs": 1} | changes)
    assert word in str(error.value)


def test_elimination_in_a_block_that_does_not_exist():
    with pytest.raises(ValueError, match=r"elimination\.blocks=\[3\].*3 blocks"):
        small_ostrack(Elimination([3], [0.7], 1, 1))


@pytest.mark.parametrize(
    ("name", "stride", "width"),
    [
        ("vit_tiny_patch16_224", 16, 192),
        ("vit_small_patch16_224", 16, 384),
        ("vit_base_patch32_224", 32, 768),
        ("vit_large_patch16_224", 16, 1024),
        ("vit_base_patch16_224.mae", 16, 768),
        ("deit_tiny_patch16_224", 16, 192),
    ],
)
def test_any_plain_vit_of_timm_by_name(name, stride, width):
    with torch.device("meta"):
        online = Online(min_size=10.0, size_smoothing=0.0)
        crop_specs = CropSpec(128, 2.0), CropSpec(256, 4.0)
        tracker = OSTrack(*crop_specs, name, None, ELIMINATION, [8], LOSS, RECIPE, online)
        maps = tracker.eval().network(**tracker.example_inputs())
    assert maps["size_map"].shape == (1, 2, 256 // stride, 256 // stride)
    assert tracker.network.backbone.width == width


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracker", "eliminates", "gmacs", "published"),
    [
        ("ostrack", True, 22.64, 21.5),
        ("ostrack", False, 30.91, 29.0),
        ("ostrack_384", True, 54.08, 48.3),
        ("ostrack_384", False, 74.86, 65.3),
    ],
)
def test_the_published_networks_have_their_published_sizes(tracker, eliminates, gmacs, published):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"tracker={tracker}", "scale=full"])
    recipe = OmegaConf.to_container(cfg.tracker, resolve=True)
    with torch.device("meta"):
        built = build_tracker(recipe | ({} if eliminates else {"elimination": None})).eval()
    never_read = 768 + 197 * 768  # the class token and the position embedding that the official files drag along
    crop_tokens = (built.template.size // 16) ** 2 + (built.search.size // 16) ** 2
    assert count_params(built.network) + never_read == 92_518_533 + 768 * (crop_tokens - 320)
    macs = count_macs(built.network, built.example_inputs()).total
    with mock.patch("trackers.layers.attention.F.scaled_dot_product_attention", lambda q, k, v, *_, **__: v):
        # Published counts leave out the two products of attention and the row that ranks candidates (1 MMAC).
        without_products = count_macs(built.network, built.example_inputs()).total
    assert macs / 1e9 == pytest.approx(gmacs, abs=0.007)
    assert without_products / 1e9 == pytest.approx(published, abs=0.05)


# Pretrained starts


def vit_weights(seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return timm.create_model("vit_base_patch16_224", **SIZES, num_classes=7).state_dict()


def test_it_starts_from_timms_weights(monkeypatch):
    weights, asked = vit_weights(), []

    def create(name: str, **options: object) -> torch.nn.Module:
        asked.append((name, options))
        vit = torch.nn.Module()
        vit.state_dict = lambda: weights
        return vit

    tracker = small_ostrack()
    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repository, file: f"cache/{repository}/{file}"
    )
    tracker.load_backbone(tracker.pretrained_backbone(), "timm")
    file = f"cache/{timm.get_pretrained_cfg('vit_base_patch16_224').hf_hub_id}/model.safetensors"
    assert asked == [("vit_base_patch16_224", {"pretrained": True, "pretrained_cfg_overlay": {"file": file}})]
    loaded = tracker.network.backbone.state_dict()
    for name in ("patch_embed.proj.weight", "blocks.2.attn.qkv.weight", "blocks.0.mlp.fc2.bias", "norm.weight"):
        torch.testing.assert_close(loaded[name], weights[name], rtol=0, atol=0)
    assert loaded["pos_embed_z"].shape == (1, 4, 128)
    grid = weights["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (14, 14))
    wanted = torch.nn.functional.interpolate(grid, (4, 4), mode="bicubic").flatten(2).transpose(1, 2)
    torch.testing.assert_close(loaded["pos_embed_x"], wanted)


def test_a_pretrained_vit_of_another_size_is_refused():
    weights = {name: w for name, w in vit_weights().items() if not name.startswith("blocks.2.")}
    with pytest.raises(CheckpointError, match=r"(?s)mine\.pth.*missing: blocks\.2\.attn\.proj\.bias"):
        small_ostrack().load_backbone(weights | {"surprise": torch.ones(2)}, "mine.pth")
