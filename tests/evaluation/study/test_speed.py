"""Ways to train faster leave the network as it was, and train the same up to rounding."""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as L
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch._dynamo.utils import counters

from evaluation.study.speed import Speed
from evaluation.study.training import fit
from tests.conftest import CONF, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD
from trackers.checkpoints.checkpoint import build_tracker


@pytest.fixture
def trained(cache: Path, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Trains a tiny tracker in a sparsity stage and returns its weights."""

    def train(*overrides: str) -> dict[str, Tensor]:
        small = [] if "tracker=dimp" in overrides else SMALL_NETWORK
        given = [*SMALL_WORLD, *small, *SHORT_STAGES, "pruning.every=1", f"paths.cache={cache}", "paths.job=."]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [*given, "stages.sparsity.steps=4", *overrides])
        L.seed_everything(cfg.seed, verbose=False)
        tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
        pruning = instantiate(cfg.pruning, ratio=0.5)
        fit(cfg, tracker, "sparsity", tmp_path / "_".join(overrides), False, pruning)
        return tracker.network.state_dict()

    return train


def test_the_network_is_sped_up_in_the_block_alone(monkeypatch):
    network, modes = nn.Conv2d(3, 4, 3), []
    layout = network.weight.stride()
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: modes.append(mode))
    with Speed("reduce-overhead", channels_last=True, matmul_precision="high").applied(network, gated=False):
        assert network.weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.get_float32_matmul_precision() == "high"
    assert network.weight.stride() == layout
    assert torch.get_float32_matmul_precision() == "highest"
    for mode in ("default", "reduce-overhead", "max-autotune"):
        with Speed(mode).applied(network, gated=True):
            pass
    assert modes == ["reduce-overhead", "default", "default", "max-autotune-no-cudagraphs"]


def test_a_compiled_network_is_a_plain_one_afterwards():
    network = nn.Linear(2, 2)
    with Speed("default").applied(network, gated=False):
        assert network._compiled_call_impl is not None
    assert network._compiled_call_impl is None


def test_steps_are_fused_also_in_bf16_and_gradients_clipped(trained, monkeypatch):
    fused, norms = [], []
    adamw, clip = torch.optim.AdamW, torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.optim, "AdamW", lambda *a, **k: fused.append(k["fused"]) or adamw(*a, **k))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda ps, norm: norms.append(norm) or clip(ps, norm))
    weights = trained("trainer.precision=bf16-mixed", "tracker.recipe.clip=0.2")
    assert fused == [True]
    assert norms == [0.2] * 4
    assert all(w.isfinite().all() for w in weights.values())


@pytest.mark.attack
@pytest.mark.parametrize("tracker", ["ostrack", "dimp"])
def test_a_compiled_sparsity_stage_ends_as_an_eager_one(trained, monkeypatch, tracker):
    real = nn.Module.compile
    # The backend runs the traced graphs as they are: tracing is what gates and masks could break.
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: real(module, backend="aot_eager"))
    # AdamW turns tiny gradients of any sign into whole steps, so steps are small; and no rounding changes this ranking.
    given = (f"tracker={tracker}", "pruning=magnitude", "stages.sparsity.lr_scale=0.001")
    eager = trained(*given)
    counters.clear()
    compiled = trained(*given, "speed.compile=default", "speed.channels_last=true")
    assert 1 <= counters["stats"]["unique_graphs"] <= 2, "no mask is compiled anew"
    for name, weight in eager.items():
        assert weight.stride() == compiled[name].stride()
        assert torch.allclose(weight, compiled[name], rtol=1e-3, atol=1e-4), name
