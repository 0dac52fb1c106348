"""Small networks that declare groups, and random weights and plans for them."""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.gates import Gates
from pruning.groups import Group, Slice
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.layers.attention import Attention
from trackers.ostrack.network import OSTrackNetwork


def tiny_ostrack(
    dim: int = 16,
    depth: int = 2,
    heads: int = 2,
    mlp_ratio: float = 2.0,
    head_channels: Sequence[int] = (6, 4),
    stem_hidden: int | None = None,
    template: int = 32,
    search: int = 64,
) -> OSTrackNetwork:
    sizes = {"embed_dim": dim, "depth": depth, "num_heads": heads, "mlp_ratio": mlp_ratio, "stem_hidden": stem_hidden}
    return OSTrackNetwork("vit_tiny_patch16_224", template, search, sizes, None, head_channels)


def full_ostrack() -> OSTrackNetwork:
    """OSTrack-256 as published, without weights."""
    with torch.device("meta"):
        return OSTrackNetwork("vit_base_patch16_224", 128, 256, {}, None, (256, 128, 64, 32))


def crops(network: OSTrackNetwork, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator, stride = torch.Generator().manual_seed(seed), network.backbone.stride
    sides = {"template": round(network.backbone.pos_embed_z.shape[1] ** 0.5) * stride, "search": network.cells * stride}
    dtype = network.backbone.pos_embed_z.dtype
    return {
        k: torch.randn(batch, 3, s, s, generator=generator, dtype=torch.float64).to(dtype) for k, s in sides.items()
    }


class ConvNet(nn.Module):
    """CNN with conv-bn-relu, a residual block, a branch, a concatenation and a flattened map before a linear layer."""

    def __init__(self, stream: int = 6, inner: int = 5, branch: int = 4, hidden: int = 7):
        super().__init__()
        self.conv0, self.bn0 = nn.Conv2d(3, stream, 3, padding=1), nn.BatchNorm2d(stream)
        self.conv1, self.bn1 = nn.Conv2d(stream, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, stream, 1), nn.BatchNorm2d(stream)
        self.conv3, self.bn3 = nn.Conv2d(stream, branch, 3, stride=2), nn.BatchNorm2d(branch)
        self.fc1, self.fc2 = nn.Linear((stream + branch) * 4, hidden), nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a = self.bn0(self.conv0(x)).relu()
        c = (a + self.bn2(self.conv2(self.bn1(self.conv1(a)).relu()))).relu()
        d = self.bn3(self.conv3(c)).relu()
        flat = torch.cat([F.adaptive_avg_pool2d(c, 2), F.adaptive_avg_pool2d(d, 2)], 1).flatten(1)
        return {"out": self.fc2(F.silu(self.fc1(flat) + 0.3))}

    def groups(self) -> list[Group]:
        def produced(conv: str, bn: str) -> tuple[Slice, ...]:
            names = [f"{conv}.weight", *([f"{conv}.bias"] if self.get_submodule(conv).bias is not None else [])]
            buffers = (Slice(f"{bn}.running_mean", 0), Slice(f"{bn}.running_var", 0))
            gated = tuple(Slice(f"{bn}.{p}", 0, gated=True) for p in ("weight", "bias"))
            return (*(Slice(name, 0) for name in names), *gated, *buffers)

        stream = (
            *produced("conv0", "bn0"),
            *produced("conv2", "bn2"),
            *(Slice(f"{reader}.weight", 1) for reader in ("conv1", "conv3")),
            Slice("fc1.weight", 1, inner=4),
        )
        inner = (*produced("conv1", "bn1"), Slice("conv2.weight", 1))
        offset = 4 * self.conv0.out_channels
        branch = (*produced("conv3", "bn3"), Slice("fc1.weight", 1, offsets=(offset,), inner=4))
        hidden = (Slice("fc1.weight", 0), Slice("fc1.bias", 0), Slice("fc2.weight", 1, gated=True))
        return [
            Group("stream", "stream", self.conv0.out_channels, stream),
            Group("inner", "inner", self.conv1.out_channels, inner),
            Group("branch", "inner", self.conv3.out_channels, branch),
            Group("hidden", "hidden", self.fc1.out_features, hidden, vanish=()),
        ]


class NormNet(nn.Module):
    """Residual stream with LayerNorms, and a square matrix that one group cuts in both dims."""

    def __init__(self, width: int = 8, hidden: int = 5, inputs: int = 6):
        super().__init__()
        self.embed, self.norm = nn.Linear(inputs, width), nn.LayerNorm(width, eps=1e-3)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.last, self.out = nn.LayerNorm(width), nn.Linear(width, 2)
        self.square = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.fc2(F.gelu(self.fc1(self.norm(x))))
        return self.out(self.last(x + self.square(x)))

    def groups(self) -> list[Group]:
        gated = ("embed.weight", "embed.bias", "fc2.weight", "fc2.bias", "square.weight")
        norms = tuple(n for n in ("norm", "last") if isinstance(self.get_submodule(n), nn.LayerNorm))
        width = (
            *(Slice(path, 0, gated=True) for path in gated),
            *(Slice(f"{norm}.{p}", 0) for norm in norms for p in ("weight", "bias")),
            *(Slice(f"{reader}.weight", 1) for reader in ("fc1", "out", "square")),
        )
        hidden = (Slice("fc1.weight", 0), Slice("fc1.bias", 0), Slice("fc2.weight", 1, gated=True))
        return [
            Group("hidden", "hidden", self.fc1.out_features, hidden, vanish=("norm",)),
            Group("width", "width", self.embed.out_features, width, norms=norms),
        ]


class Branch(nn.Module):
    """Residual branch: norm, linear, norm, linear. Without hidden units both norms vanish."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm, self.fc1 = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.inside, self.fc2 = nn.LayerNorm(hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.inside(self.fc1(self.norm(x)).relu()))

    def groups(self) -> list[Group]:
        size = self.fc1.out_features
        if not size:
            return []
        produced = tuple(Slice(f"fc1.{p}", 0, gated=True) for p in ("weight", "bias"))
        cut = (Slice("inside.weight", 0), Slice("inside.bias", 0), Slice("fc2.weight", 1))
        return [Group("", "branch", size, (*produced, *cut), norms=("inside",), vanish=("norm", "inside"))]


class BranchNet(nn.Module):
    """Residual stream with branches that may vanish, each with one norm in front and one inside."""

    def __init__(self, width: int = 7, hidden: int = 5, depth: int = 3, inputs: int = 6):
        super().__init__()
        self.embed, self.last, self.out = nn.Linear(inputs, width), nn.LayerNorm(width), nn.Linear(width, 2)
        self.branches = nn.ModuleList(Branch(width, hidden) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for branch in self.branches:
            x = x + branch(x)
        return self.out(self.last(x))

    def groups(self) -> list[Group]:
        branches = [(f"branches.{i}.", branch) for i, branch in enumerate(self.branches)]
        norms = ("last", *(f"{at}norm" for at, branch in branches if branch.groups()))
        writers = ("embed", *(f"{at}fc2" for at, _ in branches))
        readers = ("out", *(f"{at}fc1" for at, _ in branches))
        width = (
            *(Slice(f"{writer}.{p}", 0, gated=True) for writer in writers for p in ("weight", "bias")),
            *(Slice(f"{norm}.{p}", 0) for norm in norms for p in ("weight", "bias")),
            *(Slice(f"{reader}.weight", 1) for reader in readers),
        )
        inner = [g.with_prefix(at) for at, branch in branches for g in branch.groups()]
        return [*inner, Group("width", "width", self.embed.out_features, width, norms=norms)]


class Filtered(nn.Module):
    """Network whose channels are multiplied by a filter; the norm of the filter scales the output (as in DiMP).

    Rows of `mixed` are masked with the channels of `code` and gated with those of `other`; its columns are masked.
    """

    table: Tensor

    def __init__(self, channels: int = 6, others: int = 4, inputs: int = 5):
        super().__init__()
        self.code, self.other = nn.Linear(inputs, channels), nn.Linear(inputs, others)
        self.filter = nn.Parameter(torch.empty(channels))
        self.register_buffer("table", torch.empty(channels))
        self.mixed = nn.Parameter(torch.empty(channels + others, channels))

    def forward(self, x: Tensor) -> Tensor:
        code, both = self.code(x) + self.table, torch.cat([self.code(x), self.other(x)], 1)
        energy = 1 + self.filter.square().sum() + self.mixed.square().sum() + self.table.square().sum()
        return ((code @ self.filter)[:, None] + (both @ self.mixed) @ self.filter[:, None]) / energy

    def groups(self) -> list[Group]:
        channels, others = self.code.out_features, self.other.out_features
        code = (
            *(Slice(f"code.{p}", 0, gated=True) for p in ("weight", "bias")),
            *(Slice(path, 0, masked=True) for path in ("filter", "table", "mixed")),
            Slice("mixed", 1, masked=True),
        )
        other = (*(Slice(f"other.{p}", 0) for p in ("weight", "bias")), Slice("mixed", 0, (channels,), gated=True))
        return [Group("code", "code", channels, code), Group("other", "other", others, other)]


class Recipe(NamedTuple):
    """Sizes of a `Mixed` network.

    Attributes:
        stages: of maps: width of the residual stream, of the branch that is concatenated with the stage's input (0 for
            none), and of the inside of every residual block.
        heads, head: number and width of the heads of the tokens' attention.
        blocks: of tokens: hidden units of the MLP, and whether it works beside the attention, not after it.
        hidden: units behind the flattened tokens.
    """

    stages: tuple[tuple[int, int, tuple[int, ...]], ...]
    heads: int
    head: int
    blocks: tuple[tuple[int, bool], ...]
    hidden: int


class ResidualConv(nn.Module):
    """Residual block of convolutions; without inner units it adds a constant."""

    def __init__(self, stream: int, inner: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(stream, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, stream, 1), nn.BatchNorm2d(stream)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Stage(nn.Module):
    """Residual stream that starts from the input, concatenated with a branch of the input."""

    def __init__(self, inputs: int, width: int, branch: int, inner: Sequence[int]):
        super().__init__()
        self.branch = nn.Conv2d(inputs, branch, 3, padding=1) if branch else None
        self.conv, self.bn = nn.Conv2d(inputs + branch, width, 1), nn.BatchNorm2d(width)
        self.residual = nn.ModuleList(ResidualConv(width, n) for n in inner)

    def forward(self, x: Tensor) -> Tensor:
        if self.branch is not None:
            x = torch.cat([x, self.branch(x).relu()], 1)
        x = self.bn(self.conv(x)).relu()
        for block in self.residual:
            x = block(x)
        return x

    def groups(self) -> list[Group]:
        """Returns the groups of the branch, of the inner units and (last) of the stream."""
        groups = []
        if self.branch is not None:
            size = self.branch.out_channels
            read = Slice("conv.weight", 1, (self.conv.in_channels - size,))
            written = (Slice(f"branch.{p}", 0, gated=True) for p in ("weight", "bias"))
            groups.append(Group("branch", "branch", size, (*written, read)))
        stream = [*(Slice(f"conv.{p}", 0) for p in ("weight", "bias")), *_batch_norm("bn")]
        for i, block in enumerate(self.residual):
            at = f"residual.{i}."
            inner = (Slice(f"{at}conv1.weight", 0), *_batch_norm(f"{at}bn1"), Slice(f"{at}conv2.weight", 1))
            vanish = (f"{at}conv1", f"{at}bn1")
            groups.append(Group(f"{at}inner", "inner", getattr(block.conv1, "out_channels", 0), inner, vanish=vanish))
            stream += [Slice(f"{at}conv1.weight", 1), *(Slice(f"{at}conv2.{p}", 0) for p in ("weight", "bias"))]
            stream += _batch_norm(f"{at}bn2")
        return [*groups, Group("stream", "stream", self.conv.out_channels, tuple(stream))]


def _batch_norm(path: str) -> list[Slice]:
    gated = [Slice(f"{path}.{p}", 0, gated=True) for p in ("weight", "bias")]
    return [*gated, *(Slice(f"{path}.{p}", 0) for p in ("running_mean", "running_var"))]


class Block(nn.Module):
    """Attention and MLP in sequence or in parallel; in parallel they vanish together."""

    def __init__(self, width: int, heads: int, hidden: int, beside: bool):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.beside = beside

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.attn(self.norm1(x))
        return y + self.fc2(F.gelu(self.fc1(self.norm2(x if self.beside else y))))

    def groups(self) -> list[Group]:
        branch = "both" if self.beside else None
        cut = (Slice("fc1.weight", 0), Slice("fc1.bias", 0), Slice("fc2.weight", 1, gated=True))
        attention = [replace(g.with_prefix("attn."), vanish=("norm1",), branch=branch) for g in self.attn.groups()]
        return [*attention, Group("mlp", "mlp", self.fc1.out_features, cut, vanish=("norm2",), branch=branch)]


class Mixed(nn.Module):
    """Network of a recipe: streams of maps and tokens, concatenations, attention and a flattened map, in float64."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        width, sizes = recipe.heads * recipe.head, [2, *(stage[0] for stage in recipe.stages)]
        self.stages = nn.ModuleList(Stage(n, *stage) for n, stage in zip(sizes, recipe.stages, strict=False))
        self.embed, self.last = nn.Linear(sizes[-1], width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, recipe.heads, *block) for block in recipe.blocks)
        self.fc1, self.fc2 = nn.Linear(width * 4, recipe.hidden), nn.Linear(recipe.hidden, 2)
        self.double().eval()

    @staticmethod
    def inputs(network: nn.Module | None = None) -> dict[str, Tensor]:
        return {"x": torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for stage in self.stages:
            x = stage(x)
        x = self.embed(x.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        flat = self.last(x).transpose(1, 2).flatten(1)
        return {"out": self.fc2(F.silu(self.fc1(flat)))}

    def groups(self) -> list[Group]:
        groups = []
        for i, stage in enumerate(self.stages):
            if i:
                readers = tuple(Slice(f"stages.{i}.{reader}.weight", 1) for reader in ("conv", "branch"))
                groups[-1] = replace(groups[-1], slices=groups[-1].slices + readers)
            groups += [g.with_prefix(f"stages.{i}.") for g in stage.groups()]
        groups[-1] = replace(groups[-1], slices=(*groups[-1].slices, Slice("embed.weight", 1)))
        width, norms = [*(Slice(f"embed.{p}", 0, gated=True) for p in ("weight", "bias"))], ["last"]
        for i, block in enumerate(self.blocks):
            at = f"blocks.{i}."
            groups += [g.with_prefix(at) for g in block.groups()]
            width += [Slice(f"{at}{w}.{p}", 0, gated=True) for w in ("attn.proj", "fc2") for p in ("weight", "bias")]
            width += [Slice(f"{at}{reader}.weight", 1) for reader in ("attn.qkv", "fc1")]
            norms += [f"{at}norm1", f"{at}norm2"]
        width += [*(Slice(f"{n}.{p}", 0) for n in norms for p in ("weight", "bias")), Slice("fc1.weight", 1, inner=4)]
        groups.append(Group("width", "width", self.embed.out_features, tuple(width), norms=tuple(norms)))
        hidden = (Slice("fc1.weight", 0), Slice("fc1.bias", 0), Slice("fc2.weight", 1, gated=True))
        groups.append(Group("hidden", "hidden", self.fc1.out_features, hidden, vanish=()))
        there = {*dict(self.named_parameters()), *dict(self.named_buffers())}
        return [
            replace(
                g,
                slices=tuple(s for s in g.slices if s.path in there),
                norms=tuple(n for n in g.norms if f"{n}.weight" in there),
            )
            for g in groups
            if g.size
        ]


def shake(network: nn.Module, seed: int = 0) -> nn.Module:
    """Sets random weights, biases, norms and batch statistics, none at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in [*network.named_parameters(), *network.named_buffers()]:
            if not p.is_floating_point():
                continue
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                noise = noise.abs() + 0.3
            elif p.dim() > 1:
                noise = noise * p[0].numel() ** -0.5
            elif name.endswith("weight"):  # of a norm
                noise = 1 + 0.5 * noise
            else:
                noise = 0.5 * noise
            p.copy_(noise)
    return network


def random_plan(groups: Sequence[Group], seed: int) -> Plan:
    """Returns a plan for a random subset of groups: random units, one, all, none if allowed, or a run of units."""
    rng, kept = random.Random(seed), {}
    for group in groups:
        n, how = group.size, rng.choice(["unnamed", "some", "some", "one", "all", "run", "none"])
        if how == "unnamed" or not n:
            continue
        if how == "none" and group.vanish is not None and group.branch is None:
            kept[group.name] = ()
            continue
        units = list(range(n))
        if how == "one":
            units = [rng.randrange(n)]
        elif how == "run":
            start = rng.randrange(n)
            units = units[start : start + max(1, n // 2)]
        elif how != "all":
            units = [u for u in units if rng.random() < 0.6] or [n - 1]
        kept[group.name] = tuple(units)
    return Plan(kept)


def random_gates(network: nn.Module, groups: Sequence[Group], plan: Plan, seed: int, soft: bool = True) -> Gates:
    """Returns gates closed by the plan; open gates have values between 0.2 and 1.7."""
    gates = Gates(network, groups)
    gates.close(plan)
    if soft:
        values = torch.rand(len(gates.values), generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.2
        gates.values.data.copy_(values)
    return gates


def compacted(network: nn.Module, gates: Gates, plan: Plan) -> nn.Module:
    """Returns a compacted copy of the network."""
    child = copy.deepcopy(network)
    own = Gates(child, gates.groups)
    own.values.data.copy_(gates.values.data)
    own.mask.copy_(gates.mask)
    own.fold_permanently()
    return compact(child, gates.groups, plan)


def largest_error(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Returns the largest difference relative to the largest entry of each output; `a` is the reference."""
    assert a.keys() == b.keys()
    return float(torch.stack([(a[k] - b[k]).abs().max() / a[k].abs().max() for k in a]).max())  # nan stays nan
