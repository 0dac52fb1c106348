import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Attention as TimmAttention
from torch import Tensor

from pruning.gates import Gates
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.layers.attention import Attention


def make(dim: int, heads: int, seed: int = 0, **options: bool) -> Attention:
    torch.manual_seed(seed)
    attention = Attention(dim, heads, **options).double()
    for p in attention.parameters():
        torch.nn.init.normal_(p, std=dim**-0.5)
    return attention


def tokens(dim: int, seed: int = 1) -> Tensor:
    return torch.randn(2, 7, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def head_by_head(attention: Attention, x: Tensor, widths: list[int], scale: float) -> Tensor:
    """Computes attention by its formula, one head at a time."""
    q, k, v = (x @ attention.qkv.weight.T + attention.qkv.bias).chunk(3, -1)
    heads = [
        ((a @ b.transpose(1, 2)) * scale).softmax(-1) @ c
        for a, b, c in zip(q.split(widths, -1), k.split(widths, -1), v.split(widths, -1), strict=True)
    ]
    return torch.cat(heads, -1) @ attention.proj.weight.T + attention.proj.bias


@pytest.mark.parametrize("bias", [True, False])
def test_unpruned_it_is_timms_attention(bias: bool) -> None:
    ours = make(24, 3, qkv_bias=bias, proj_bias=bias)
    theirs = TimmAttention(24, 3, qkv_bias=bias, proj_bias=bias).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(ours(tokens(24)), theirs(tokens(24)), rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 2**20))
def test_ragged_heads_are_the_formula_head_by_head(widths: list[int], seed: int) -> None:
    heads, rng = len(widths), random.Random(seed)
    attention = make(20 * heads, heads, seed)
    kept = [h * 20 + u for h, width in enumerate(widths) for u in sorted(rng.sample(range(20), width))]
    x = tokens(20 * heads)
    gates, plan = Gates(attention, attention.groups()), Plan({"": tuple(kept)})
    gates.close(plan)
    with torch.no_grad():
        with gates.folded():
            masked = attention(x)
        compact(attention, attention.groups(), plan)
        assert attention.widths == widths
        assert attention.qkv.weight.shape == (3 * len(kept), 20 * heads)
        out = attention(x)
    torch.testing.assert_close(out, masked, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(out, head_by_head(attention, x, widths, 20**-0.5), rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_pairs_of_ragged_rotary_heads_keep_their_angles() -> None:
    attention, x = make(24, 2, rotary=True), tokens(24)
    angles = torch.rand(1, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    rotary = torch.cat([angles.cos(), angles.sin()], 2)
    for kept in ([(0, 2, 5), (1,)], [(0, 3), (2, 5)]):  # pairs of each head; ragged, and alike but not in place
        child = copy.deepcopy(attention)
        units = tuple(6 * head + pair for head, pairs in enumerate(kept) for pair in pairs)
        compact(child, child.groups(), Plan({"": units}))
        q, k, v = child.qkv(x).chunk(3, -1)
        heads, start = [], 0
        for pairs in kept:
            at = slice(start, start := start + 2 * len(pairs))
            turn = torch.exp(1j * angles[:, :, pairs])
            a, b = (torch.view_as_complex(t[..., at].unflatten(-1, (-1, 2)).contiguous()) * turn for t in (q, k))
            heads.append(((a @ b.mH).real * 12**-0.5).softmax(-1) @ v[..., at])
        torch.testing.assert_close(child(x, rotary), child.proj(torch.cat(heads, -1)), rtol=1e-11, atol=1e-11)


def test_heads_of_odd_width_cannot_rotate() -> None:
    with pytest.raises(ValueError, match="heads of 5 dims; try num_heads=3 and dim=18"):
        Attention(15, 3, rotary=True)


def test_gradients_flow_through_buckets_and_padding() -> None:
    attention = make(48, 4)
    kept = (*range(9), *range(12, 13), *range(36, 48))  # widths 9, 1, 0, 12: two buckets, one empty head
    compact(attention, attention.groups(), Plan({"": kept}))
    assert attention.widths == [9, 1, 0, 12]
    x, twin = tokens(48), copy.deepcopy(attention)
    attention(x).square().sum().backward()
    head_by_head(twin, x, [9, 1, 0, 12], 12**-0.5).square().sum().backward()
    for p, q in zip(attention.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-11)


def test_pruning_twice_follows_the_heads() -> None:
    attention = make(24, 3)
    compact(attention, attention.groups(), Plan({"": (0, 1, 2, 8, 9, 20, 21, 22, 23)}))
    assert attention.widths == [3, 2, 4]
    compact(attention, attention.groups(), Plan({"": (2, 5, 6, 8)}))
    assert attention.widths == [1, 0, 3]
    out = head_by_head(attention, tokens(24), [1, 0, 3], 8**-0.5)
    torch.testing.assert_close(attention(tokens(24)), out, rtol=1e-12, atol=1e-12)
    compact(attention, attention.groups(), Plan({"": ()}))
    torch.testing.assert_close(attention(tokens(24)), attention.proj.bias.expand(2, 7, 24))


def test_heads_that_stay_equally_wide_need_no_layout() -> None:
    attention = make(24, 3)
    compact(attention, attention.groups(), Plan({"": tuple(u for u in range(24) if u % 8 < 5)}))
    out = head_by_head(attention, tokens(24), [5, 5, 5], 8**-0.5)
    torch.testing.assert_close(attention(tokens(24)), out, rtol=1e-12, atol=1e-12)


def test_names_in_the_state_dict_stay_timms() -> None:
    attention = make(24, 3)
    names = attention.state_dict().keys()
    compact(attention, attention.groups(), Plan({"": (0, 9, 10)}))
    assert attention.state_dict().keys() == names == TimmAttention(24, 3, qkv_bias=True).state_dict().keys()


def test_a_child_rebuilt_on_the_meta_device_runs_once_it_has_weights() -> None:
    child = make(24, 3)
    with torch.device("meta"):
        rebuilt = Attention(24, 3)
    for attention in (child, rebuilt):
        compact(attention, attention.groups(), Plan({"": (0, 9, 10, 11)}))
    rebuilt.load_state_dict(child.state_dict(), strict=True, assign=True)
    assert torch.equal(rebuilt(tokens(24)), child(tokens(24)))


@pytest.mark.parametrize("option", [{"qk_norm": True}, {"attn_drop": 0.1}, {"gated": True}, {"attn_head_dim": 16}])
def test_what_it_cannot_do_is_refused(option: dict) -> None:
    with pytest.raises(ValueError, match=f"not support .*{next(iter(option))}"):
        Attention(24, 3, **option)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="dim=10 is not a multiple of num_heads=3"):
        Attention(10, 3)


def test_packed_weights_follow_every_change_of_the_weights() -> None:
    """The packed weights are cached between evaluation passes, and a stale cache must never be used."""
    attention = Attention(16, 2).eval()
    for s in attention.groups()[0].slices:
        parent, _, name = s.path.rpartition(".")
        module, kept = attention.get_submodule(parent), torch.tensor([0, 1, 2, 8, 9])
        weight = getattr(module, name).data.index_select(s.dim, s.positions(kept).flatten())
        setattr(module, name, torch.nn.Parameter(weight))
    attention.keep((0, 1, 2, 8, 9))
    x = torch.randn(1, 7, 16)

    @torch.no_grad()
    def kept() -> torch.Tensor:
        return attention(x)

    def fresh() -> torch.Tensor:
        return attention(x).detach()  # with gradients nothing is kept

    for p in attention.parameters():
        assert torch.equal(kept(), fresh())
        with torch.no_grad():
            p.mul_(0.5)
        assert torch.equal(kept(), fresh())
        for factor in (2, 3, 5):  # new memory each time, often at an address that was just freed
            p.data = p.data * factor
            assert torch.equal(kept(), fresh())
        p.data.mul_(0.1)
        attention.eval()
        assert torch.equal(kept(), fresh())
