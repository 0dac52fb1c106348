"""Tests of the attention that a cut leaves of torch's multi-head attention."""

import copy
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from pruning import Group, Plan, Pruner, PruningError, Slice, compact
from pruning.cost import MacCost, ParamCost, count_macs, count_params
from pruning.cost.latency import LatencyCost
from pruning.criteria import Magnitude
from pruning.gates import Gates
from pruning.groups.checks import check_groups
from pruning.surgery.multihead_attention import CutMultiheadAttention, allow_any_width
from tests.pruning.networks import compacted, random_gates, random_plan, shake

KINDS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "other widths": {"kdim": 6, "vdim": 10},
    "without biases": {"bias": False},
    "more positions": {"add_bias_kv": True, "add_zero_attn": True},
}


def inputs_of(attention: nn.MultiheadAttention, kind: str) -> list[Tensor]:
    """Returns query, key and value for one of "self", "cross", "apart" and "unbatched"."""
    query, key, value = (torch.randn(3, n, d).double() for n, d in ((5, 8), (4, attention.kdim), (4, attention.vdim)))
    if attention.kdim == attention.vdim:
        value = {"self": query, "cross": key}.get(kind, value)
        key = query if kind == "self" else key
    if kind == "unbatched":
        return [query[0], key[0], value[0]]
    swapped = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
    query, key, value = (query, key, value) if attention.batch_first else swapped
    if attention.kdim == attention.vdim:  # torch tells the kinds apart by the identity of the inputs
        key, value = {"self": (query, query), "cross": (key, key)}.get(kind, (key, value))
    return [query, key, value]


def masks_of(kind: str, queries: int, keys: int) -> list[dict[str, Tensor]]:
    padding = torch.zeros(3, keys, dtype=torch.bool)
    padding[1, -1] = padding[2, 0] = True
    pair = torch.rand(queries, keys) > 0.8
    pair[:, 1] = False
    by_head = torch.rand(12, queries, keys).double()
    if kind == "unbatched":
        return [{}, {"key_padding_mask": padding[1]}, {"attn_mask": pair}, {"attn_mask": by_head[:4]}]
    both = {"key_padding_mask": padding, "attn_mask": pair}
    return [{}, {"key_padding_mask": padding.double()}, {"attn_mask": by_head}, both]


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", ["self", "cross", "apart", "unbatched"])
def test_outputs_and_weights_are_those_of_torchs_attention(kind: str, use: str) -> None:
    torch.manual_seed(0)
    plain = shake(nn.MultiheadAttention(8, 4, **KINDS[kind]).double()).eval()
    other = copy.deepcopy(plain)
    allow_any_width(other)
    inputs = inputs_of(plain, use)
    length = 1 if plain.batch_first and inputs[0].dim() == 3 else 0
    for masks in masks_of(use, inputs[0].shape[length], inputs[1].shape[length]):
        for weights, average in product((True, False), (True, False)):
            options = {**masks, "need_weights": weights, "average_attn_weights": average}
            expected, got = plain(*inputs, **options), other(*inputs, **options)
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
            got[0].sum().backward()
    for key, parameter in other.named_parameters():
        assert parameter.grad is not None, key


def test_dropout_and_causal_masks_are_those_of_torch() -> None:
    torch.manual_seed(0)
    plain = shake(nn.MultiheadAttention(8, 4, dropout=0.5).double())
    other = copy.deepcopy(plain)
    allow_any_width(other)
    x = torch.randn(5, 3, 8).double()
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    for weights in (True, False):
        torch.manual_seed(1)
        expected = plain(x, x, x, attn_mask=causal, is_causal=True, need_weights=weights)
        torch.manual_seed(1)
        torch.testing.assert_close(other(x, x, x, attn_mask=causal, is_causal=True, need_weights=weights), expected)
    with pytest.raises(RuntimeError, match="is_causal=True needs attn_mask"):
        other(x, x, x, is_causal=True)


class Attends(nn.Module):
    """An attention over a stream, with groups of whole heads, or of the dims of all heads, and of its width."""

    def __init__(self, whole_heads: bool, separate: bool = False, encoder: bool = False):
        super().__init__()
        self.whole_heads = whole_heads
        self.up, self.memory, self.down = nn.Linear(3, 12), nn.Linear(3, 6), nn.Linear(12, 2)
        if encoder:
            layer = nn.TransformerEncoderLayer(12, 2, 5, batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 2)
        else:
            self.layers = None
            widths = {"kdim": 6, "vdim": 6} if separate else {}
            self.attn = nn.MultiheadAttention(12, 2, batch_first=True, add_bias_kv=True, **widths)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        if self.layers is not None:
            return self.down(self.layers(y, src_key_padding_mask=x[..., 0] > 1))
        memory = y if self.attn.in_proj_weight is not None else self.memory(x)
        return self.down(y + self.attn(y, memory, memory, need_weights=False)[0])

    def attention_group(self, path: str, attention: nn.MultiheadAttention) -> Group:
        heads, total = attention.num_heads, attention.out_proj.in_features
        d = total // heads
        names = [f"{name}_proj_weight" for name in "qkv"]
        tensors = [("in_proj_bias", 0, i * total, i) for i in range(3)]
        if attention.in_proj_weight is None:
            tensors += [(name, 0, 0, i) for i, name in enumerate(names)]
        else:
            tensors += [("in_proj_weight", 0, i * total, i) for i in range(3)]
        if attention.bias_k is not None:
            tensors += [("bias_k", 2, 0, 1), ("bias_v", 2, 0, 2)]
        layout = {"inner": d} if self.whole_heads else {}
        slices = []
        for name, dim, start, i in tensors:
            offsets = (start,) if self.whole_heads else tuple(start + h * d for h in range(heads))
            rescaled = i == 0 and not self.whole_heads
            slices.append(Slice(f"{path}.{name}", dim, offsets, gated=i != 1, rescaled=rescaled, **layout))
        offsets = (0,) if self.whole_heads else tuple(h * d for h in range(heads))
        slices.append(Slice(f"{path}.out_proj.weight", 1, offsets, **layout))
        attributes = ((f"{path}.num_heads", 1),) if self.whole_heads else ()
        return Group(path, "attention", heads if self.whole_heads else d, tuple(slices), attributes=attributes)

    def groups(self) -> list[Group]:
        groups, norms = [], []
        width = [Slice("up.weight", 0, gated=True), Slice("up.bias", 0, gated=True), Slice("down.weight", 1)]
        attentions = {path: m for path, m in self.named_modules() if isinstance(m, nn.MultiheadAttention)}
        for path, attention in attentions.items():
            groups.append(self.attention_group(path, attention))
            reads = "q_proj_weight" if attention.in_proj_weight is None else "in_proj_weight"
            out = Slice(f"{path}.out_proj.weight", 0, gated=True), Slice(f"{path}.out_proj.bias", 0, gated=True)
            width += [Slice(f"{path}.{reads}", 1), *out]
            layer = path.removesuffix(".self_attn")
            if layer != path:
                norms += [f"{layer}.norm1", f"{layer}.norm2"]
                width += [Slice(f"{norm}.{t}", 0) for norm in norms[-2:] for t in ("weight", "bias")]
                width += [Slice(f"{layer}.linear1.weight", 1)]
                width += [Slice(f"{layer}.linear2.{t}", 0, gated=True) for t in ("weight", "bias")]
        return [*groups, Group("stream", "width", self.up.out_features, tuple(width), norms=tuple(norms))]


NETWORKS: dict[str, Callable[[], Attends]] = {
    "heads": lambda: Attends(True),
    "dims": lambda: Attends(False),
    "heads, separate weights": lambda: Attends(True, separate=True),
    "dims, separate weights": lambda: Attends(False, separate=True),
    "encoder": lambda: Attends(False, encoder=True),
}


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NETWORKS)
def test_masked_equals_cut_and_may_be_cut_again(name: str, seed: int) -> None:
    network = shake(NETWORKS[name]().double(), seed).eval()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    x[..., 0].clamp_(max=1)  # no padding, and no mask that leaves nothing
    x[0, -1, 0] = 2
    for again in range(2):
        groups = check_groups(network, network.groups())
        plan = random_plan(groups, seed + again)
        gates = random_gates(network, groups, plan, seed)
        counts = [len(plan.units(g)) for g in groups]
        params = ParamCost(network, groups)(counts)
        macs = MacCost(network, groups, lambda _: {"x": x})(counts)
        with torch.no_grad():
            with gates.folded():
                masked = network(x)
            network = compacted(network, gates, plan)
            torch.testing.assert_close(network(x), masked, rtol=1e-9, atol=1e-9)
            assert torch.equal(copy.deepcopy(network)(x), network(x))
        assert (params, round(macs)) == (count_params(network), count_macs(network, {"x": x}).total)
    assert any(isinstance(m, CutMultiheadAttention) for m in network.modules())


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_pruner_prunes_it_and_the_plan_rebuilds_it(name: str) -> None:
    network, x = shake(NETWORKS[name]()).eval(), torch.randn(2, 4, 3).clamp(max=1)
    pruner = Pruner(0.6, Magnitude())
    pruner.attach(network, network.groups(), inputs=lambda _: {"x": x})
    pruner.update()
    assert pruner.finish([{"x": x}])["masked_vs_compacted"] < 1e-4
    with torch.device("meta"):
        rebuilt = NETWORKS[name]().eval()
    compact(rebuilt, rebuilt.groups(), pruner.plan)
    rebuilt.load_state_dict(network.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), network(x))


def test_latency_of_an_attention_is_a_sum_of_the_times_of_its_operations() -> None:
    network, x = shake(Attends(True)).eval(), torch.randn(2, 4, 3)
    cost = LatencyCost(network, network.groups(), lambda _: {"x": x})
    assert 0 < cost([1, 6]) <= cost([2, 12])


def without(group: Group, path: str) -> Group:
    slices = tuple(s for s in group.slices if s.path != path)
    return Group(group.name, group.kind, group.size, slices, attributes=group.attributes)


def test_a_cut_that_does_not_fit_the_heads_is_refused_by_name() -> None:
    network = Attends(True)
    heads = network.groups()[0]
    with pytest.raises(PruningError, match=r"leaves \[6, 0\] dims .* heads of 'attn', with 2 .*'attn.num_heads', 1"):
        compact(network, [Group("attn", "attention", 2, heads.slices)], Plan({"attn": (0,)}))
    for path in ("attn.in_proj_bias", "attn.out_proj.weight", "attn.bias_k"):
        with pytest.raises(PruningError, match=f"attention 'attn' keeps other entries along dim . of '{path}'"):
            compact(network, [without(heads, path)], Plan({"attn": (0,)}))
    network.attn.__class__ = type("Other", (nn.MultiheadAttention,), {"forward": lambda self, x: x})
    with pytest.raises(PruningError, match="surgery does not support Other: 'attn'"):
        compact(network, [heads], Plan({"attn": (0,)}))


def test_values_may_have_fewer_dims_than_queries() -> None:
    network, x = shake(Attends(False).double()).eval(), torch.randn(2, 4, 3, dtype=torch.float64)
    values = ("attn.bias_v", "attn.out_proj.weight", "attn.in_proj_weight", "attn.in_proj_bias")
    slices = [s for s in network.groups()[0].slices if s.path in values]
    slices = tuple(s for s in slices if "in_proj" not in s.path or s.offsets[0] == 24)
    group = Group("values", "attention", 6, slices)
    gates = Gates(network, [group])
    gates.close(Plan({"values": (0, 1, 4)}))
    with torch.no_grad():
        with gates.folded():
            masked = network(x)
        torch.testing.assert_close(compacted(network, gates, Plan({"values": (0, 1, 4)}))(x), masked)
