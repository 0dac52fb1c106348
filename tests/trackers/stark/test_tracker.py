"""Tests of STARK beyond the reference vectors: pruning, caches, template updates, two-stage training."""

import random

import numpy as np
import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from pruning.cost import ParamCost, count_macs, count_params
from pruning.gates import Gates
from pruning.groups.checks import check_groups
from pruning.plan import Plan
from pruning.surgery import compact
from tests.conftest import CONF
from tests.pruning.networks import random_plan
from trackers.base import Recipe
from trackers.checkpoints.checkpoint import build_tracker
from trackers.crops import CropSpec
from trackers.errors import CheckpointError
from trackers.layers.attention import Attention, SingleQueryAttention
from trackers.layers.backbones import ResNet
from trackers.stark import STARK
from trackers.stark.position import SinePosition
from trackers.stark.tracker import Updating

RECIPE = Recipe(
    lr=1e-3, rates={"backbone.": 0.1}, weight_decay=0, decay_vectors=False, clip=1, schedule=lambda progress: 1
)
LOSS = {"giou": 2.0, "l1": 5.0, "class": 1.0, "corners": 0.5, "similarity": 0.2}


def small_stark(seed: int = 0, **changes: object) -> STARK:
    """Returns a tracker of random weights in evaluation mode, with biases, norms and statistics away from 0 and 1."""
    torch.manual_seed(seed)
    transformer = {"width": 24, "heads": 3, "hidden": 32, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.1}
    options = {
        "template": CropSpec(32, 2.0, count=2),
        "search": CropSpec(64, 4.0),
        "backbone": {"stem": 6, "width": 10, "blocks": 2},
        "transformer": transformer | changes.pop("transformer", {}),
        "head_channels": [8, 4],
        "class_head": True,
        "corner_offset": 0.0,
        "loss": LOSS,
        "objective": "box",
        "freeze_stem": False,
        "compat": "exact",
        "recipe": RECIPE,
        "online": Updating(min_size=4.0, size_smoothing=0.0, update_interval=2, update_threshold=0.5),
    }
    tracker = STARK(**options | changes)
    for name, tensor in [*tracker.network.named_parameters(), *tracker.network.named_buffers()]:
        if tensor.is_floating_point() and tensor.dim() == 1 and not name.startswith("position."):
            tensor.data += 0.3 * torch.rand_like(tensor)
    return tracker.eval()


def inputs(padded: bool, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    template = torch.randn(2, 2, 3, 32, 32, generator=generator, dtype=torch.float64)
    given = {"search": torch.randn(2, 3, 64, 64, generator=generator, dtype=torch.float64), "template": template}
    if padded:
        search, templates = torch.zeros(2, 2, 64, dtype=torch.bool), torch.zeros(2, 2, 2, 32, dtype=torch.bool)
        search[0, 0, :20] = search[1, 1, 40:] = templates[1, 0, 1, :9] = True
        given |= {"search_padding": search, "template_padding": templates}
    return given


# Pruning


@pytest.mark.parametrize("seed", range(10))
@torch.no_grad()
def test_masked_is_compacted(seed):
    extras = {"position_in_values": True, "template_heads": 1, "matching_init": True} if seed % 2 else {}
    tracker = small_stark(seed, transformer=extras).double()
    network, groups, plan = tracker.network, tracker.groups(), random_plan(tracker.groups(), seed)
    given = inputs(padded=seed % 3 > 0)
    gates = Gates(network, groups)
    gates.close(plan)
    with gates.folded():
        masked = network(**given)
    expected = ParamCost(network, groups)([len(plan.units(g)) for g in groups])
    compact(network, groups, plan)
    compacted = network(**given)
    for name in masked:
        torch.testing.assert_close(compacted[name], masked[name], rtol=1e-9, atol=1e-10)
    assert count_params(network) == expected
    left = {g.name: g.size for g in check_groups(network, tracker.groups())}
    assert left == {g.name: len(plan.units(g)) for g in groups if plan.units(g)}


@pytest.mark.parametrize(("name", "frozen"), [("resnet18", True), ("resnet50", True), ("resnet50", False)])
@torch.no_grad()
def test_a_cut_resnet_is_the_masked_one(name, frozen):
    torch.manual_seed(0)
    network = ResNet(name, frozen).double().eval()
    for key, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.data = torch.rand_like(buffer) * (0.1 if key.endswith("var") else 1) + 0.5
    groups = network.groups()
    rng = random.Random(1)
    plan = Plan({g.name: tuple(sorted(rng.sample(range(g.size), rng.randint(1, g.size)))) for g in groups})
    kept = list(plan.units(groups[-1]))  # the last stream is masked where the caller reads it
    pictures = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gates = Gates(network, groups)
    gates.close(plan)
    with gates.folded():
        masked = network(pictures)[:, kept]
    compact(network, groups, plan)
    assert network.width == len(kept)
    torch.testing.assert_close(network(pictures), masked, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracker", "params", "gmacs"),
    [
        ("stark", 28.10, 12.26),
        ("stark_st50", 28.23, 13.01),
        ("stark_st101", 47.17, 20.59),
        ("stark_mini", 11.52, 7.86),
    ],
)
def test_the_published_networks_have_their_published_sizes(tracker, params, gmacs):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"tracker={tracker}", "scale=full"])
    with torch.device("meta"):
        built = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).eval()
    width = cfg.tracker.transformer.width
    dead = cfg.tracker.transformer.decoder_layers * 2 * (width**2 + width)  # queries and keys of one token's attention
    assert (count_params(built.network) + dead) / 1e6 == pytest.approx(params, abs=0.005)
    assert count_macs(built.network, built.frame_inputs()).total / 1e9 == pytest.approx(gmacs, abs=0.005)
    templates = count_macs(built.network, built.example_inputs()).total - 1e9 * gmacs
    assert templates / 1e9 / cfg.tracker.template.count == pytest.approx(2.3 if "101" in tracker else 1.08, abs=0.02)


# Attention


@pytest.mark.parametrize("padded", [True, False])
def test_attention_is_torchs(padded):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True).double()
    nn.init.normal_(theirs.in_proj_bias)
    ours = Attention(24, 3).double()
    ours.qkv.weight.data, ours.qkv.bias.data = theirs.in_proj_weight.data, theirs.in_proj_bias.data
    ours.proj.load_state_dict(theirs.out_proj.state_dict())
    query, key, value = (torch.randn(2, n, 24, dtype=torch.float64) for n in (5, 7, 7))
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[0, 2:4] = mask[1, 6] = padded
    bias = ~mask[:, None, None] if padded else None
    for q, k, v in ((query, key, value), (key, key, value), (key, key, key)):
        expected = theirs(q, k, v, key_padding_mask=mask)[0]
        torch.testing.assert_close(ours.attend(q, k, v, bias), expected, rtol=1e-10, atol=1e-12)


def test_attention_of_one_token_needs_no_query():
    torch.manual_seed(0)
    theirs, ours = nn.MultiheadAttention(24, 3, batch_first=True), SingleQueryAttention(24)
    ours.value.weight.data, ours.value.bias.data = theirs.in_proj_weight.data[48:], theirs.in_proj_bias.data[48:]
    ours.proj.load_state_dict(theirs.out_proj.state_dict())
    token, query = torch.randn(4, 1, 24), torch.randn(4, 1, 24)
    torch.testing.assert_close(ours(token), theirs(token + query, token + query, token)[0])


def test_the_position_of_a_crop_without_padding_is_computed_once():
    position = SinePosition(16)
    nowhere = torch.zeros(1, 5, 5, dtype=torch.bool)
    with torch.inference_mode():
        constant = position.unpadded(5)
    torch.testing.assert_close(constant, position(nowhere))
    assert position.unpadded(5) is constant
    assert not constant.is_inference()  # it may go into a training
    position.amplitude.data = (torch.arange(16) < 4).float()  # as a mask does
    assert (position.unpadded(5)[..., 4:] == 0).all()
    assert (position.unpadded(5)[..., :4] == constant[..., :4]).all()


def test_a_mask_that_is_remembered_keeps_its_memory():
    position = SinePosition(2**16)
    own = position.amplitude.data
    position.amplitude.data = own.clone()
    address = position.amplitude.data_ptr()
    position.unpadded(2)
    position.amplitude.data = own
    # Otherwise the next mask could be allocated there and be taken for the last one.
    assert address not in {mask.data_ptr() for mask in [own.clone() for _ in range(64)]}


# Online


def test_the_second_template_is_renewed_when_it_is_due_and_the_target_is_there():
    tracker, image = small_stark(), np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    box, (rules, runtime) = (40.0, 30.0, 20.0, 16.0), tracker.open()
    state = rules.start(runtime, rules.crop(image, box, rules.template)[0])
    first = state.templates
    assert len(first) == 2
    for frame, score, renewed in ((1, 0.9, False), (2, 0.4, False), (3, 0.9, False), (4, 0.9, True)):
        rules.step(runtime, state, rules.crop(image, box, rules.search)[0])
        before = state.templates
        rules.observe(runtime, state, image, (50.0, 35.0, 20.0, 16.0), score)
        assert state.frame == frame
        assert (state.templates is not before) == renewed
        assert state.templates[0] is first[0]
    expected = rules.start(runtime, rules.crop(image, (50.0, 35.0, 20.0, 16.0), rules.template)[0])
    torch.testing.assert_close(state.templates[1].features, expected.templates[0].features)
    torch.testing.assert_close(state.joined.features[:, -len(first[0].padded[0]) :], expected.templates[0].features)


def test_stark_s_has_one_template_and_a_score_of_its_own():
    tracker = small_stark(class_head=False, template=CropSpec(32, 2.0))
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    rules, runtime = tracker.open()
    state = rules.start(runtime, rules.crop(image, (40, 30, 20, 16), rules.template)[0])
    score = rules.step(runtime, state, rules.crop(image, (40, 30, 20, 16), rules.search)[0]).score
    before = state.templates
    for _ in range(2):
        rules.observe(runtime, state, image, (40, 30, 20, 16), 0.9)
        state.frame += 1
    assert state.templates is before
    assert 1 / 64 <= score <= 1


# Training


def batch(present: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "template": torch.randint(0, 255, (2, 2, 3, 32, 32), generator=generator).byte(),
        "search": torch.randint(0, 255, (2, 1, 3, 64, 64), generator=generator).byte(),
        "template_padding": torch.zeros(2, 2, 2, 32, dtype=torch.bool),
        "search_padding": torch.zeros(2, 1, 2, 64, dtype=torch.bool),
        "search_box": torch.tensor([[[0.2, 0.3, 0.4, 0.3]], [[0.5, 0.5, 0.3, 0.2]]]),
        "present": torch.tensor([[1.0], [present]]),
    }


def test_the_second_stage_trains_the_class_head_alone():
    tracker = small_stark(objective="class").train()
    tracker.setup("fit")
    head = {name: b.clone() for name, b in tracker.network.box_head.named_buffers()}
    losses = tracker.losses(batch(present=0.0))
    losses["total"].backward()
    moved = {name for name, p in tracker.network.named_parameters() if p.grad is not None}
    assert moved == {name for name, _ in tracker.network.named_parameters() if name.startswith("cls_head.")}
    assert set(losses) == {"class", "total"}
    assert all((b == head[name]).all() for name, b in tracker.network.box_head.named_buffers())


def test_a_frozen_stem_is_left_alone():
    tracker = small_stark(freeze_stem=True)
    tracker.setup("fit")
    still = {name.split(".")[0] for name, p in tracker.network.backbone.named_parameters() if not p.requires_grad}
    assert still == {"conv1", "bn1", "layer1"}


def test_a_box_without_area_costs_the_whole_batch_its_giou_loss_only_as_in_the_reference():
    found = {"boxes": torch.tensor([[0.5, 0.5, -0.1, 0.2], [0.5, 0.5, 0.3, 0.2]])}
    boxes = torch.tensor([[0.2, 0.3, 0.4, 0.3], [0.4, 0.4, 0.3, 0.2]])
    plain = {"giou": 2.0, "l1": 5.0, "corners": 0.0, "similarity": 0.0}
    exact, reference = (
        small_stark(compat=compat, loss=plain).box_losses(dict(found), boxes) for compat in ("exact", "reference")
    )
    assert exact["giou"] > 0.5
    assert reference["giou"] == reference["iou"] == 0
    torch.testing.assert_close(reference["total"], 5 * exact["l1"])


def test_an_objective_without_its_head():
    with pytest.raises(ValueError, match="objective=class"):
        small_stark(objective="class", class_head=False)


def test_it_starts_from_torchvisions_weights(monkeypatch, tmp_path):
    tracker = small_stark(backbone={"name": "resnet18", "frozen_norm": True})
    weights = torchvision.models.resnet18(weights=None).state_dict()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / "resnet18-f37072fd.pth")  # the cache of torchvision
    tracker.load_backbone(tracker.pretrained_backbone(), "torchvision")
    loaded = tracker.network.backbone.state_dict()
    torch.testing.assert_close(loaded["layer3.1.conv2.weight"], weights["layer3.1.conv2.weight"])
    del weights["layer2.0.bn1.bias"]
    with pytest.raises(CheckpointError, match=r"missing: layer2\.0\.bn1\.bias"):
        tracker.load_backbone(weights, "torchvision")
