"""Surgery: cuts a network down to a plan. What stays is smaller tensors in ordinary modules."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from pruning.groups import Group, Slice, branches
from pruning.plan import Plan


class Constant(nn.Module):
    """What a convolution without inputs is: its bias at every place, or zeros.

    Attributes:
        bias: (C,), the convolution's; zeros in a buffer if it had none.
    """

    def __init__(self, conv: _ConvNd, channels: int):
        super().__init__()
        self.kernel, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.padding = conv.padding
        if conv.bias is None:
            self.register_buffer("bias", conv.weight.new_zeros(channels))
        else:
            self.bias = conv.bias

    @property
    def out_channels(self) -> int:
        """Channels that it makes."""
        return len(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, any, *places) to (B, C, *the convolution's places)."""
        sizes = zip(x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        places = [(n + 2 * pad - apart * (k - 1) - 1) // step + 1 for n, k, step, pad, apart in sizes]
        bias = self.bias.to(x.dtype).view(-1, *[1] * len(places))
        return x.new_zeros(len(x), self.out_channels, *places) + bias


def compact(network: nn.Module, groups: Sequence[Group], plan: Plan, optimizer: Optimizer | None = None) -> nn.Module:
    """Cuts `network` in place to the units that `plan` keeps and returns it.

    Works on the meta device too, so that a child's architecture can be rebuilt without its weights. Parameters are new
    objects afterwards. Modules that vanish with a group's last unit become `nn.Identity`, and a convolution that has
    lost its last input a `Constant`.

    Args:
        network: the network.
        groups: its groups.
        plan: what stays.
        optimizer: of its parameters. It goes on with those that are left, and with what it knows of them (momenta).

    Raises:
        ValueError: the plan does not fit the groups, empties one that must keep a unit, or only a part of a branch; a
            convolution or norm would lose its last channel, or a convolution is grouped or transposed. Nothing is cut
            then.
    """
    plan.check(groups)
    cuts: dict[str, list[tuple[Slice, Group, Tensor]]] = defaultdict(list)
    vanished = _vanished(groups, plan)
    for group in groups:
        kept = plan.units(group)
        if len(kept) < group.size:
            for s in group.slices:
                cuts[s.path].append((s, group, torch.tensor(kept, dtype=torch.long)))
    changed: dict[tuple[nn.Module, str], dict[int, Tensor]] = {}
    silent: list[str] = []
    for path, parts in cuts.items():
        if path.startswith(tuple(f"{module}." for module in vanished)):
            continue
        owner_path, _, name = path.rpartition(".")
        module = network.get_submodule(owner_path)
        tensor = getattr(module, name)
        if isinstance(module, _ConvNd) and (module.groups != 1 or module.transposed):
            raise ValueError(f"surgery does not support grouped or transposed convolutions: '{owner_path}', {module}")
        stays = {}
        for dim in {s.dim for s, _, _ in parts}:
            stays[dim] = _stays(tensor.shape[dim], [(s, g, k) for s, g, k in parts if s.dim == dim])
            if len(stays[dim]) or isinstance(module, nn.Linear):
                continue
            if not isinstance(module, _ConvNd) or dim != 1 or isinstance(module.padding, str):
                raise ValueError(f"the plan leaves '{path}' without entries in dim {dim}; keep at least one unit")
            silent.append(owner_path)
        changed[module, name] = stays
    gone = [p for path in vanished for p in network.get_submodule(path).parameters()]
    replaced = {getattr(m, name): (_narrow(m, name, stays), stays) for (m, name), stays in changed.items()}
    for module in {module for module, _ in changed}:
        _sync_sizes(module)
    for group in groups:
        if group.owner is not None and group.name in plan.kept:
            network.get_submodule(group.owner).keep(plan.units(group))
    for path in vanished:
        network.set_submodule(path, nn.Identity())
    for path in silent:
        conv = network.get_submodule(path)
        gone.append(conv.weight)
        network.set_submodule(path, Constant(conv, conv.out_channels))
    if optimizer is not None:
        _follow(optimizer, replaced, gone)
    return network


def compacted(network: nn.Module, groups: Sequence[Group], plan: Plan) -> nn.Module:
    """A compacted copy, see `compact`; the network stays as it is."""
    return compact(copy.deepcopy(network), groups, plan)


def _vanished(groups: Sequence[Group], plan: Plan) -> list[str]:
    """Paths of the modules that have no effect any more."""
    empty = {i for i, group in enumerate(groups) if group.size and not plan.units(group)}
    for members in branches(groups):
        if 0 < len(empty & {*members}) < len(members):
            names = [groups[i].name for i in members]
            raise ValueError(f"the plan empties a part of the branch of groups {names}; empty all of them or none")
    for group in (groups[i] for i in sorted(empty)):
        if group.vanish is None:
            raise ValueError(
                f"the plan empties group '{group.name}' ({group.kind}, {group.size} units), which must keep at "
                "least one unit: it does not declare what would vanish with the last one"
            )
    return [path for i in sorted(empty) for path in groups[i].vanish]


def _stays(size: int, parts: list[tuple[Slice, Group, Tensor]]) -> Tensor:
    """Ascending entries of one dimension of length `size` that no group cuts."""
    keep = torch.ones(size, dtype=torch.bool)
    for s, group, kept in parts:
        keep[s.positions(torch.arange(group.size))] = False
        keep[s.positions(kept)] = True
    return keep.nonzero().flatten()


def _select(tensor: Tensor, stays: Mapping[int, Tensor]) -> Tensor:
    """The entries that stay, by dim."""
    for dim, entries in stays.items():
        tensor = tensor.index_select(dim, entries.to(tensor.device))
    return tensor


def _narrow(module: nn.Module, name: str, stays: Mapping[int, Tensor]) -> Tensor:
    """Cuts one of a module's tensors and returns the new one."""
    old = getattr(module, name)
    new = _select(old.detach(), stays)
    if name in module._parameters:
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, name, new)
    return new


def _follow(
    optimizer: Optimizer, replaced: Mapping[Tensor, tuple[Tensor, Mapping[int, Tensor]]], gone: Sequence[Tensor]
) -> None:
    """Puts new parameters in the place of old ones, with the same entries of whatever has a parameter's shape."""
    lost = {id(p) for p in gone}
    for settings in optimizer.param_groups:
        settings["params"] = [
            replaced[p][0] if p in replaced else p
            for p in settings["params"]
            if id(p) not in lost and id(replaced.get(p, (p,))[0]) not in lost
        ]
    for old in [p for p in optimizer.state if p in replaced or id(p) in lost]:
        state = optimizer.state.pop(old)
        new, stays = replaced.get(old, (old, {}))
        if id(old) in lost or id(new) in lost:
            continue
        optimizer.state[new] = {
            key: _select(value, stays) if isinstance(value, Tensor) and value.shape == old.shape else value
            for key, value in state.items()
        }


def _sync_sizes(module: nn.Module) -> None:
    """Makes a layer's size attributes agree with its tensors: they are what people and exporters read."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _ConvNd):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, _BatchNorm):
        module.num_features = module.running_mean.numel()
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)
