"""Tests of norms of any kind while units are masked: they compute what the norm of the kept units computes."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from timm.layers import GroupNorm1, LayerNorm2d, RmsNorm, RmsNorm2d, SimpleNorm
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm import LayerNormExp2d
from torch import Tensor, nn

from pruning import Group, Pruner, PruningError, Slice, compact
from pruning.criteria import Magnitude
from pruning.gates import Gates
from pruning.gates.kept_statistics import KeptStatistics
from pruning.gates.norms import MaskedLayerNorm, UnitMask, clear_mask, set_mask
from pruning.groups.checks import check_groups
from tests.pruning.networks import compacted, random_gates, random_plan, shake


class Handmade(nn.Module):
    """LayerNorm of maps, written with means, as in the published code of several networks."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x / torch.sqrt(x.pow(2).mean(dim=(1,), keepdim=True) + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ByVariance(Handmade):
    """The same with the functions for variances."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, 1, keepdim=True, unbiased=False)
        same = x.var(1, keepdim=True, correction=0) + x.std(1, False).unsqueeze(1) ** 2
        x = (x - mean) / (variance / 2 + same / 4 + self.eps).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Last(nn.Module):
    """A norm over the last dimension, applied to maps."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer norm": lambda n: Last(nn.LayerNorm(n)),
    "layer norm without weights": lambda n: Last(nn.LayerNorm(n, elementwise_affine=False)),
    "RMS norm": lambda n: Last(nn.RMSNorm(n)),
    "RMS norm without weights": lambda n: Last(nn.RMSNorm(n, elementwise_affine=False, eps=1e-3)),
    "group norm": lambda n: nn.GroupNorm(1, n),
    "group norm without weights": lambda n: nn.GroupNorm(1, n, affine=False),
    "timm's group norm": GroupNorm1,
    "timm's layer norm of maps": LayerNorm2d,
    "timm's experimental layer norm": LayerNormExp2d,
    "timm's RMS norm": lambda n: Last(RmsNorm(n)),
    "timm's RMS norm of maps": RmsNorm2d,
    "timm's simple norm": lambda n: Last(SimpleNorm(n)),
    "timm's response norm": lambda n: GlobalResponseNorm(n, channels_last=False),
    "handmade": Handmade,
    "by variance": ByVariance,
}


class Stream(nn.Module):
    """A norm between two convolutions and around a residual branch."""

    def __init__(self, norm: Callable[[int], nn.Module], channels: int = 10):
        super().__init__()
        self.up, self.norm, self.down = nn.Conv2d(3, channels, 1), norm(channels), nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.norm(self.up(x)).relu())

    def groups(self) -> list[Group]:
        norm = "norm.norm" if isinstance(self.norm, Last) else "norm"
        weights = [name for name, _ in self.named_parameters() if name.startswith("norm.")]
        gated = (Slice("up.weight", 0, gated=True), Slice("up.bias", 0, gated=True))
        slices = (*gated, *(Slice(name, 0) for name in weights), Slice("down.weight", 1))
        return [Group("stream", "width", self.up.out_channels, slices, norms=(norm,))]


def stream(name: str, seed: int = 0) -> tuple[Stream, Tensor]:
    network = shake(Stream(NORMS[name]).double(), seed).eval()
    return network, torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NORMS)
def test_masked_equals_cut_and_may_be_cut_again(name: str, seed: int) -> None:
    network, x = stream(name, seed)
    for again in range(2):
        groups = check_groups(network, network.groups())
        plan = random_plan(groups, seed + again)
        gates = random_gates(network, groups, plan, seed)
        kinds = [type(m) for m in network.modules()]
        with torch.no_grad():
            with gates.folded():
                masked = copy.deepcopy(network)(x)
                assert torch.equal(network(x), masked)
            assert [type(m) for m in network.modules()] == kinds
            network = compacted(network, gates, plan)
            torch.testing.assert_close(network(x), masked, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NORMS)
def test_a_pruner_prunes_it(name: str) -> None:
    network, x = stream(name)
    pruner = Pruner(0.5, Magnitude())
    pruner.attach(network, network.groups(), inputs=lambda _: {"x": x})
    pruner.update()
    assert pruner.finish([{"x": x}])["masked_vs_compacted"] < 1e-9
    rebuilt = compact(Stream(NORMS[name]).double().eval(), Stream(NORMS[name]).groups(), pruner.plan)
    rebuilt.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), network(x))
        assert torch.equal(copy.deepcopy(network)(x), network(x))
    assert str(rebuilt) == str(network)


@pytest.mark.parametrize("name", NORMS)
def test_there_is_no_jump_between_open_and_closed(name: str) -> None:
    network, x = stream(name)
    plan, outputs = random_plan(network.groups(), 1), []
    for step in range(21):
        gates = Gates(network, network.groups())
        gates.close(plan, before=None if step == 20 else random_plan([], 0), progress=step / 20)
        with torch.no_grad(), gates.folded():
            outputs.append(network(x))
    with torch.no_grad():
        torch.testing.assert_close(outputs[0], network(x), rtol=1e-9, atol=1e-9)
    steps = torch.stack(outputs).diff(dim=0).flatten(1).norm(dim=1)
    assert steps.max() < 0.2 * steps.sum()


def test_gradients_are_those_of_the_cut_network() -> None:
    for name in ("handmade", "timm's layer norm of maps", "timm's response norm"):
        network, x = stream(name)
        plan = random_plan(network.groups(), 0)
        gates = random_gates(network, network.groups(), plan, 0, soft=False)
        child = compacted(network, gates, plan)
        child(x).square().sum().backward()
        gates.fold()
        network(x).square().sum().backward()
        gates.unfold()
        assert gates.values.grad.isfinite().all()
        kept = list(plan.units(network.groups()[0]))
        torch.testing.assert_close(network.up.weight.grad[kept], child.up.weight.grad, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(network.down.weight.grad[:, kept], child.down.weight.grad, rtol=1e-8, atol=1e-8)


def test_a_norm_gets_its_class_back_and_the_class_is_made_once() -> None:
    first, second, plain = LayerNorm2d(6), LayerNorm2d(6), nn.LayerNorm(6)
    before = set(vars(first))
    for norm in (first, second, plain):
        set_mask(norm, UnitMask.of(torch.tensor([1.0, 0, 1, 1, 0.5, 1])))
    assert type(first) is type(second)
    assert issubclass(type(first), LayerNorm2d)
    assert type(plain) is MaskedLayerNorm
    clear_mask(first)
    assert (type(first), set(vars(first))) == (LayerNorm2d, before)


def test_a_bfloat16_input_has_the_eps_of_torch() -> None:
    kept = torch.tensor([1.0, 0, 1, 1])
    x = (0.01 * torch.randn(50, 4) * kept).bfloat16()
    norm = nn.RMSNorm(4, dtype=torch.bfloat16)
    set_mask(norm, UnitMask.of(kept))
    expected = nn.RMSNorm(3, dtype=torch.bfloat16)(x[:, kept.bool()])
    torch.testing.assert_close(norm(x)[:, kept.bool()], expected, rtol=0.02, atol=0.02)


def test_other_dims_keep_their_statistics() -> None:
    x = torch.rand(3, 4, 5, dtype=torch.float64)
    with KeptStatistics(torch.tensor([1.0, 0, 1, 0], dtype=torch.float64), 0.5):
        assert torch.equal(x.mean(2), torch.mean(x, dim=-1))
        mean, total = x.mean((0, 1)), x.mean()
    torch.testing.assert_close(mean, x[:, ::2].mean((0, 1)))
    torch.testing.assert_close(total, x[:, ::2].mean())
    square = torch.rand(4, 4)
    with KeptStatistics(torch.tensor([1.0, 0, 1, 0]), 0.5), pytest.raises(PruningError, match="does not tell which"):
        square.mean()


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 10), nn.BatchNorm2d(10), nn.LayerNorm((10, 5))])
def test_a_module_that_is_no_norm_over_the_units_is_refused(norm: nn.Module) -> None:
    network = Stream(lambda _: norm)
    with pytest.raises(
        PruningError, match=r"'norm' must be a norm over exactly the 10 entries of 'norm.weight' of group 'stream'"
    ):
        check_groups(network, network.groups())


class Merged(nn.Module):
    """A norm over the concatenation of one group, its neighbours in space, another group, and channels that stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 8, 1)
        self.norm, self.down = nn.LayerNorm(6 + 6 + 8 + 3), nn.Conv2d(6 + 6 + 8 + 3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        joined = torch.cat([first[..., ::2], first[..., 1::2], self.second(x)[..., ::2], x[..., ::2]], 1)
        return self.down(self.norm(joined.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    def groups(self) -> list[Group]:
        a, b = self.first.out_channels, self.second.out_channels
        groups = []
        # Units of the second group are pairs of channels.
        for name, size, offsets, inner in (("first", a, (0, a), 1), ("second", b // 2, (2 * a,), 2)):
            own = [Slice(f"{name}.{t}", 0, inner=inner, gated=True) for t in ("weight", "bias")]
            reads = [Slice(f"norm.{t}", 0, offsets, inner) for t in ("weight", "bias")]
            slices = (*own, *reads, Slice("down.weight", 1, offsets, inner))
            groups.append(Group(name, "width", size, slices, norms=("norm",)))
        return groups


@pytest.mark.parametrize("seed", range(3))
def test_a_norm_over_a_concatenation_counts_the_kept_entries_of_all_its_groups(seed: int) -> None:
    network = shake(Merged().double(), seed).eval()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    for again in range(2):
        groups = check_groups(network, network.groups())
        plan = random_plan(groups, seed + again)
        gates = random_gates(network, groups, plan, seed)
        with torch.no_grad():
            with gates.folded():
                masked = network(x)
            network = compacted(network, gates, plan)
            torch.testing.assert_close(network(x), masked, rtol=1e-9, atol=1e-9)
    assert network.norm.normalized_shape == tuple(network.norm.weight.shape)


def test_all_groups_of_a_norm_must_list_it() -> None:
    network = Merged()
    first, second = network.groups()
    with pytest.raises(
        PruningError, match=r"group 'second' cuts the norm 'norm', .* list it in both: norms=\('norm',\)"
    ):
        check_groups(network, [first, replace(second, norms=())])


class Encoder(nn.Module):
    """An encoder of torch, whose fast path reads the weights of its norms."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, 8), nn.Linear(8, 4)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.encoder(self.up(x)))


def test_a_fast_path_does_not_pass_by_a_masked_norm() -> None:
    network = shake(Encoder()).eval()
    # The attention is left out: the group is closed in the norm behind it, to see whether the norm is called.
    slices = (Slice("encoder.norm2.weight", 0), Slice("encoder.norm2.bias", 0), Slice("down.weight", 1, gated=True))
    gates = Gates(network, [Group("width", "width", 8, slices, norms=("encoder.norm2",))])
    calls: list[nn.Module] = []
    network.encoder.norm2.forward = lambda x: calls.append(network) or x  # an attribute, as the class is replaced
    with torch.no_grad():
        network(torch.rand(2, 5, 3))
        assert not calls
        with gates.folded():
            network(torch.rand(2, 5, 3))
    assert len(calls) == 1
    assert torch.backends.mha.get_fastpath_enabled()
