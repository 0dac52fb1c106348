import copy

import pytest
import torch
from timm.layers import LayerNorm as TimmLayerNorm
from torch import nn

from pruning.gates.norms import MaskedLayerNorm, UnitMask, clear_mask, set_mask

KEPT = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1], dtype=torch.float32)  # 7 of 11: no exact float32 share


def stream(scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return KEPT * (scale * torch.randn(4, 9, len(KEPT), dtype=torch.float64, generator=generator) + 0.7 * scale)


def norms(bias: bool = True, eps: float = 1e-5) -> tuple[nn.LayerNorm, nn.LayerNorm]:
    """Returns a norm with random weights, and the norm of the kept channels alone."""
    generator = torch.Generator().manual_seed(1)
    full = nn.LayerNorm(len(KEPT), eps=eps, bias=bias, dtype=torch.float64)
    for p in full.parameters():
        p.data = torch.randn(p.shape, dtype=torch.float64, generator=generator)
    small = nn.LayerNorm(int(KEPT.sum()), eps=eps, bias=bias, dtype=torch.float64)
    for p, q in zip(small.parameters(), full.parameters(), strict=True):
        p.data = q.data[KEPT.bool()]
    return full, small


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("eps", [1e-6, 1e-1])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_layer_norm_of_the_kept_channels(scale: float, eps: float, bias: bool) -> None:
    full, small = norms(bias, eps)
    set_mask(full, UnitMask.of(KEPT))
    x = stream(scale)
    out = full(x)
    torch.testing.assert_close(out[..., KEPT.bool()], small(x[..., KEPT.bool()]), rtol=1e-12, atol=1e-12)
    assert not out[..., ~KEPT.bool()].any()


def test_gradients_of_kept_channels_are_those_of_the_small_norm() -> None:
    full, small = norms()
    set_mask(full, UnitMask.of(KEPT))
    x = stream().requires_grad_()
    y = x.detach()[..., KEPT.bool()].requires_grad_()
    up = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    full(x)[..., KEPT.bool()].backward(up)
    small(y).backward(up)
    torch.testing.assert_close(x.grad[..., KEPT.bool()], y.grad, rtol=1e-11, atol=1e-11)
    for p, q in zip(full.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(p.grad[KEPT.bool()], q.grad, rtol=1e-11, atol=1e-11)
        assert not p.grad[~KEPT.bool()].any()


def test_an_open_mask_changes_nothing() -> None:
    full, _ = norms()
    x = stream() + 0.1
    before = full(x)
    set_mask(full, UnitMask.of(torch.ones(len(KEPT))))
    torch.testing.assert_close(full(x), before, rtol=1e-13, atol=1e-13)


def test_without_channels_it_is_zero_and_so_are_its_gradients() -> None:
    full, _ = norms()
    set_mask(full, UnitMask.of(torch.zeros(len(KEPT))))
    x = torch.zeros(3, len(KEPT), dtype=torch.float64, requires_grad=True)
    out = full(x)
    out.sum().backward()
    for tensor in (out, x.grad, full.weight.grad, full.bias.grad):
        assert tensor.eq(0).all()  # and not nan


SOFT = torch.tensor([1, 0.3, 0, 1, 0, 0.3, 1, 1, 0.3, 1, 0.7], dtype=torch.float64)


def test_channels_that_leave_count_in_part() -> None:
    """The mean of channels m * u is weighted by m, and so are the deviations from it."""
    full, _ = norms(eps=1e-2)
    set_mask(full, UnitMask.of(SOFT))
    u = torch.randn(4, 9, len(SOFT), dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.7
    mean = (SOFT * u).sum(-1, keepdim=True) / SOFT.sum()
    deviation = SOFT * (u - mean)
    variance = deviation.square().sum(-1, keepdim=True) / SOFT.sum()
    expected = SOFT * (deviation * (variance + 1e-2).rsqrt() * full.weight + full.bias)
    torch.testing.assert_close(full(SOFT * u), expected, rtol=1e-11, atol=1e-11)


def test_there_is_no_jump_between_open_and_closed() -> None:
    full, small = norms()
    u, kept = stream() + 0.1, KEPT.bool()
    dense, outputs = full(u), []
    for step in range(101):
        mask = KEPT.double() + (1 - KEPT.double()) * (1 - step / 100)
        set_mask(full, UnitMask.of(mask))
        outputs.append(full(mask * u))
    torch.testing.assert_close(outputs[0], dense, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(outputs[-1][..., kept], small(u[..., kept]), rtol=1e-12, atol=1e-12)
    assert not outputs[-1][..., ~kept].any()
    steps = torch.stack(outputs).detach().diff(dim=0).flatten(1).norm(dim=1)
    assert steps.max() < 0.05 * steps.sum()


@pytest.mark.parametrize("kind", [nn.LayerNorm, TimmLayerNorm])
def test_set_and_clear_leave_no_trace(kind: type[nn.LayerNorm]) -> None:
    norm = kind(len(KEPT))
    parameters, attributes = list(norm.parameters()), set(vars(norm))
    state = copy.deepcopy(norm.state_dict())
    set_mask(norm, UnitMask.of(KEPT))
    set_mask(norm, UnitMask.of(1 - KEPT))  # twice is one mask, the later one
    assert type(norm) is MaskedLayerNorm
    assert torch.equal(norm.mask, 1 - KEPT)
    assert norm.state_dict().keys() == state.keys()  # the mask is not saved
    clear_mask(norm)
    assert type(norm) is kind
    assert not list(norm.named_buffers())
    assert set(vars(norm)) == attributes
    assert all(p is q for p, q in zip(norm.parameters(), parameters, strict=True))
    clear_mask(norm)  # of a plain norm: nothing to do
    norm.load_state_dict(state, strict=True)


def test_a_bfloat16_norm_stays_bfloat16() -> None:
    norm = nn.LayerNorm(len(KEPT), dtype=torch.bfloat16)
    set_mask(norm, UnitMask.of(KEPT))
    assert norm(stream().bfloat16()).dtype == torch.bfloat16
