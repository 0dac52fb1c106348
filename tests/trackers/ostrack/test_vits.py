"""ViTs of timm in the one-stream form: prefix tokens, LayerScale, rotary positions, gated MLPs, patches of 14."""

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from pruning import check_groups
from pruning.cost import MacCost, ParamCost, count_macs, count_params
from pruning.gates import Gates
from pruning.surgery import compact
from pruning.trial.trials import try_cuts
from tests.pruning.networks import random_plan
from tests.trackers.networks import LOSS, RECIPE
from trackers import load_checkpoint
from trackers.base import Online
from trackers.checkpoints.checkpoint import Checkpoint, build_tracker
from trackers.crops import CropSpec
from trackers.errors import CheckpointError
from trackers.online import OnlineTracker
from trackers.ostrack import OSTrack
from trackers.ostrack.backbone import OneStreamViT
from trackers.ostrack.elimination import Elimination

SIZES = {"embed_dim": 24, "depth": 2, "num_heads": 3}
PATCHES = {"template": 2, "search": 4}  # per side
ELIMINATION = Elimination(blocks=[0], keep=[0.5], start_epoch=1, warmup_epochs=1)
VITS = {
    "vit_small_patch14_reg4_dinov2": "LayerScale, registers without positions",
    "vit_so150m_patch16_reg4_gap_256": "registers with positions, no class token",
    "vit_base_patch16_clip_quickgelu_224": "a norm in front of the blocks",
    "vit_intern300m_patch14_448": "no norm behind the blocks",
    "eva02_tiny_patch14_224": "rotary positions, biases of queries and values, a packed gated MLP",
    "eva02_base_patch14_224": "queries, keys and values apart, a gated MLP with a norm",
    "vit_base_patch16_rope_reg1_gap_256": "rotary positions alone",
    "vit_pe_core_tiny_patch16_384": "a norm in front of the blocks, and rotary positions",
    "vit_small_patch16_dinov3": "rotation of halves",
    "aimv2_large_patch14_224": "norms without means, one in the patch embedding, no biases",
}


def patch(name: str) -> int:
    return 14 if "patch14" in name else 16


@torch.no_grad()
def vary(module: torch.nn.Module) -> None:
    """Moves vectors away from 0 and 1, and tokens and embeddings away from 0."""
    for tensor in module.parameters():
        tensor += (0.3 if tensor.dim() == 1 else 0.05) * torch.rand_like(tensor)


def vit_tracker(name: str, elimination: Elimination | None = ELIMINATION, **vit: Any) -> OSTrack:
    torch.manual_seed(0)
    options = {"class_token": "gap" not in name and "aim" not in name} | SIZES | vit
    template, search = (CropSpec(n * patch(name), 2.0) for n in PATCHES.values())
    online = Online(min_size=4.0, size_smoothing=0.0)
    tracker = OSTrack(template, search, name, options, elimination, [6, 4], LOSS, RECIPE, online)
    vary(tracker.network)
    return tracker.eval()


def crops(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(2, 3, n * patch(name), n * patch(name), generator=generator).to(dtype) for n in PATCHES.values()
    )


@pytest.mark.parametrize("name", VITS)
@torch.no_grad()
def test_with_the_weights_of_the_vit_it_computes_what_the_vit_computes(name: str) -> None:
    search = crops(name, torch.float32)[1]
    tracker = vit_tracker(name, elimination=None)
    vit: Any = timm.create_model(name, **SIZES, num_classes=3, img_size=search.shape[2]).eval()
    vary(vit)
    backbone = tracker.network.backbone
    tracker.load_backbone(vit.state_dict(), "timm")
    prefix = sum(backbone.prefix.values())
    assert prefix == vit.num_prefix_tokens
    if backbone.rotary is not None:  # without the entries of template tokens
        backbone.rotary = torch.cat([backbone.rotary[:, :prefix], backbone.rotary[:, -16:]], 1)
    features = backbone(torch.zeros(2, 0, 24), search)
    expected = vit.fc_norm(vit.forward_features(search))[:, prefix:]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", VITS)
@torch.no_grad()
def test_masked_is_cut(name: str) -> None:
    tracker = vit_tracker(name).double()
    network, groups = tracker.network, check_groups(tracker.network, tracker.groups())
    inputs = dict(zip(("template", "search"), crops(name), strict=True))
    for seed in range(3):
        plan, child = random_plan(groups, seed), copy.deepcopy(network)
        gates = Gates(network, groups)
        gates.close(plan)
        with gates.folded():
            masked = network(**inputs)
        compact(child, groups, plan)
        assert count_params(child) == ParamCost(network, groups)([len(plan.units(g)) for g in groups])
        for key, value in child(**inputs).items():
            torch.testing.assert_close(value, masked[key], rtol=1e-9, atol=1e-10)


def test_costs_of_rotary_attention_are_exact() -> None:
    name = "eva02_base_patch14_224"
    network, groups = (tracker := vit_tracker(name)).network, tracker.groups()
    inputs = dict(zip(("template", "search"), crops(name, torch.float32), strict=True))
    plan = random_plan(groups, 1)
    macs = MacCost(network, groups, lambda _: inputs)([len(plan.units(g)) for g in groups])
    assert count_macs(compact(network, groups, plan), inputs).total == macs


@pytest.mark.parametrize("name", ["eva02_base_patch14_224", "vit_pe_core_tiny_patch16_384", "aimv2_large_patch14_224"])
def test_no_gate_acts_twice(name: str) -> None:
    network = vit_tracker(name).network
    draws = dict(zip(("template", "search"), crops(name, torch.float32), strict=True))
    try_cuts(network, network.groups(), lambda _: draws)


def test_units_of_rotary_heads_are_pairs_of_dims() -> None:
    groups = {g.name: g for g in vit_tracker("vit_small_patch16_dinov3").groups()}
    attention = groups["backbone.blocks.0.attn"]
    assert (attention.size, attention.runs) == (12, (4, 4, 4))  # 24 dims in 3 heads
    assert {s.inner for s in attention.slices} == {2}


@torch.no_grad()
def test_tokens_in_front_of_the_search_tokens_are_never_eliminated() -> None:
    tracker = vit_tracker("vit_small_patch16_dinov3").double()
    backbone, seen = tracker.network.backbone, []
    backbone.blocks[1].register_forward_pre_hook(lambda _, args: seen.append(args))
    template, search = crops("vit_small_patch16_dinov3")
    features = backbone(backbone.embed_template(template), search)
    tokens, rotary = seen[0]
    front = 5 + 4  # class token and 4 register tokens, 4 template tokens
    assert tokens.shape[1] == rotary.shape[1] == front + 8
    assert (features == 0).all(2).sum(1).tolist() == [8, 8]
    torch.testing.assert_close(rotary[:, :front], backbone.rotary[:, :front].expand(2, -1, -1))
    # The positions of the search tokens that stay are their own.
    stays = (features != 0).any(2)
    for sample in range(2):
        torch.testing.assert_close(rotary[sample, front:], backbone.rotary[0, front:][stays[sample]])


def test_a_child_is_saved_and_loaded(tmp_path: Any) -> None:
    name = "vit_small_patch16_dinov3"
    crop = {"_target_": "trackers.crops.CropSpec", "factor": 2.0}
    recipe = {
        "_target_": "trackers.ostrack.OSTrack",
        "template": crop | {"size": 32},
        "search": crop | {"size": 64},
        "backbone": name,
        "vit": SIZES | {"class_token": True},
        "elimination": None,
        "head_channels": [6, 4],
        "loss": LOSS,
        "recipe": {
            "_target_": "trackers.base.Recipe",
            **{"lr": 1e-3, "rates": {}, "weight_decay": 0, "decay_vectors": False, "clip": 1},
            "schedule": {"_target_": "trackers.schedules.StepDrop", "at": 0.8, "factor": 0.1},
        },
        "online": {"_target_": "trackers.base.Online", "min_size": 4.0, "size_smoothing": 0.0},
    }
    tracker = build_tracker(recipe).eval()
    vary(tracker.network)
    plan = random_plan(tracker.groups(), 1)
    compact(tracker.network, tracker.groups(), plan)
    Checkpoint(tracker, recipe, plan).save(tmp_path / "child.safetensors")
    loaded = load_checkpoint(tmp_path / "child.safetensors").tracker
    inputs = crops(name, torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(*inputs), tracker.network(*inputs), rtol=0, atol=0)


def test_it_tracks() -> None:
    tracker = vit_tracker("eva02_tiny_patch14_224")
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    online = OnlineTracker(tracker)
    online.init(image, (40, 30, 20, 16))
    box, score = online.update(image)
    assert np.isfinite([*box, score]).all()


def test_registers_take_part_and_the_class_token_only_on_demand() -> None:
    name = "vit_small_patch14_reg4_dinov2"
    assert vit_tracker(name, class_token=False).network.backbone.prefix == {"reg_token": 4}
    assert vit_tracker(name).network.backbone.prefix == {"cls_token": 1, "reg_token": 4}
    assert vit_tracker("vit_base_patch16_224", class_token=False).network.backbone.prefix_tokens is None
    with pytest.raises(ValueError, match="class_token=true, but vit_base_patch16_siglip_224 has no class token"):
        vit_tracker("vit_base_patch16_siglip_224", class_token=True)


def test_position_embeddings_are_resized_without_the_entries_of_prefix_tokens() -> None:
    vit = timm.create_model("vit_so150m_patch16_reg4_gap_256", **SIZES, img_size=48)
    weights = vit.state_dict()
    weights["pos_embed"][:, :4], weights["pos_embed"][:, 4:] = 7.0, 3.0
    weights["reg_token"][:] = 1.0
    tracker = vit_tracker("vit_so150m_patch16_reg4_gap_256")
    tracker.load_backbone(weights, "timm")
    backbone = tracker.network.backbone
    torch.testing.assert_close(backbone.prefix_tokens, torch.full((1, 4, 24), 8.0))
    torch.testing.assert_close(backbone.pos_embed_x, torch.full((1, 16, 24), 3.0))


def test_weights_without_the_register_tokens_are_refused() -> None:
    weights = timm.create_model("vit_small_patch14_reg4_dinov2", **SIZES).state_dict()
    del weights["reg_token"]
    with pytest.raises(CheckpointError, match=r"missing: prefix_tokens"):
        vit_tracker("vit_small_patch14_reg4_dinov2").load_backbone(weights, "mine.pth")


def test_crops_that_patches_do_not_fill() -> None:
    sizes = r"tracker\.template\.size=128 and tracker\.search\.size=256 must be a multiple of 14"
    with pytest.raises(ValueError, match=f"{sizes}.*template.size=126 tracker.search.size=252"):
        OneStreamViT("vit_small_patch14_dinov2", 128, 256, **SIZES)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet50", r"no plain ViT, but a model of timm\.models\.resnet"),
        ("beit_base_patch16_224", r"no plain ViT, but a model of timm\.models\.beit"),
        ("vit_giant_of_mine", "timm has no plain ViT named"),
        ("deit_tiny_distilled_patch16_224", "the form of a VisionTransformerDistilled"),
        ("vit_base_patch16_rpn_224", "blocks that are ResPostBlock"),
        ("vit_dwee_patch16_reg1_gap_256", "attention that is DiffAttention"),
        ("vit_pwee_patch16_reg1_gap_256", "blocks that are ParallelScalingBlock"),
        ("vit_small_patch16_rope_mixed_224", "rotary positions that are RotaryEmbeddingMixed"),
        ("beit3_base_patch16_224", "a norm inside attention, a norm inside an MLP without gates"),
        ("eva02_base_patch16_clip_224", "a norm inside attention"),
        ("vit_base_patch16_sapiens2", "norms of queries and keys"),
    ],
)
def test_a_vit_that_has_no_one_stream_form_is_refused_by_name(name: str, found: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=f"{found}.*vit_base_patch16_224"):
        OneStreamViT(name, 128, 256)


def test_a_file_cannot_ask_for_a_table_that_fills_the_memory() -> None:
    sizes = {"embed_dim": 2**20, "depth": 1, "num_heads": 1}
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="256 x 256 tokens in heads of 1048576 dims"),
    ):
        OneStreamViT("vit_small_patch16_dinov3", 4096, 4096, **sizes)


def test_sizes_that_timm_cannot_build() -> None:
    with pytest.raises(ValueError, match="cannot build vit_small_patch16_224"):
        OneStreamViT("vit_small_patch16_224", 32, 64, embed_dim=10, num_heads=3)
    with pytest.raises(ValueError, match=r"cannot build eva02_tiny_patch14_224 with .*'embed_dim': 15"):
        OneStreamViT("eva02_tiny_patch14_224", 28, 56, embed_dim=15, num_heads=3)
