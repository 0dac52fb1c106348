"""Surgery: cuts a network to the kept units of a plan. The result is ordinary modules with smaller tensors."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim import Optimizer

from pruning.errors import PruningError, describe_value
from pruning.groups import Group, Slice, branches
from pruning.plan import Plan

# Layers that hold the number of their units in attributes or compute statistics over units.
UNSUPPORTED = (nn.GroupNorm, nn.RMSNorm, _InstanceNorm, nn.MultiheadAttention, nn.RNNBase)


class Constant(nn.Module):
    """Replacement of a convolution that has lost all its inputs. Its output is the bias at every position, or zeros.

    Attributes:
        bias: bias of the convolution (C,); a buffer of zeros if the convolution has none.
    """

    def __init__(self, conv: _ConvNd, channels: int):
        super().__init__()
        self.kernel, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        assert not isinstance(conv.padding, str)  # surgery refuses convolutions with such a padding
        self.padding = conv.padding
        if conv.bias is None:
            self.register_buffer("bias", conv.weight.new_zeros(channels))
        else:
            self.bias = conv.bias

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return len(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the output of the convolution for x (B, any, *positions): (B, C, *output positions)."""
        sizes = zip(x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        positions = [(n + 2 * pad - dilation * (k - 1) - 1) // step + 1 for n, k, step, pad, dilation in sizes]
        bias = self.bias.to(x.dtype).view(-1, *[1] * len(positions))
        return x.new_zeros(len(x), self.out_channels, *positions) + bias


def compact(network: nn.Module, groups: Sequence[Group], plan: Plan, optimizer: Optimizer | None = None) -> nn.Module:
    """Cuts `network` in place to the units that `plan` keeps and returns it.

    The network may be on the meta device, so the architecture of a cut network can be rebuilt without its weights. Cut
    parameters are new objects. Modules that vanish with the last unit of a group become `nn.Identity`; a
    convolution that has lost all its inputs becomes a `Constant`.

    Args:
        network: the network.
        groups: the groups of the network.
        plan: the units to keep.
        optimizer: optimizer of the network's parameters, if it is to continue with the cut parameters and with their
            part of its state (e.g. momenta).

    Raises:
        PruningError: the plan does not fit the groups; it empties a group that must keep a unit, or only a part of a
            branch; a convolution or norm would lose its last channel; or surgery does not support a layer. The network
            is unchanged then.
    """
    if not isinstance(plan, Plan):
        raise PruningError(
            f"the plan must be a Plan, not {describe_value(plan)}; e.g. Plan.from_dict({{'hidden': [0, 2]}})"
        )
    plan.check(groups)
    check_untied(network, [group for group in groups if len(plan.units(group)) < group.size])
    cuts: dict[str, list[tuple[Slice, Group, Tensor]]] = defaultdict(list)
    vanished = _vanished(groups, plan)
    for group in groups:
        kept = plan.units(group)
        if len(kept) < group.size:
            for s in group.slices:
                cuts[s.path].append((s, group, torch.tensor(kept, dtype=torch.long)))
    kept_entries: dict[tuple[nn.Module, str], dict[int, Tensor]] = {}
    without_inputs: list[str] = []
    for path, parts in cuts.items():
        if path.startswith(tuple(f"{module}." for module in vanished)):
            continue
        owner_path, _, name = path.rpartition(".")
        module = network.get_submodule(owner_path)
        tensor = getattr(module, name)
        if isinstance(module, UNSUPPORTED):
            raise PruningError(f"surgery does not support {type(module).__name__}: '{owner_path}'")
        if isinstance(module, _ConvNd) and (module.groups != 1 or module.transposed):
            raise PruningError(f"surgery does not support grouped or transposed convolutions: '{owner_path}', {module}")
        kept_of_dim = {}
        for dim in {s.dim for s, _, _ in parts}:
            kept_of_dim[dim] = _kept_entries(tensor.shape[dim], [(s, g, k) for s, g, k in parts if s.dim == dim])
            if len(kept_of_dim[dim]) or isinstance(module, nn.Linear):
                continue
            if not isinstance(module, _ConvNd) or dim != 1 or isinstance(module.padding, str):
                raise PruningError(f"the plan leaves '{path}' without entries in dim {dim}; keep at least one unit")
            without_inputs.append(owner_path)
        kept_entries[module, name] = kept_of_dim
    removed = [p for path in vanished for p in network.get_submodule(path).parameters()]
    replaced = {getattr(m, name): (_narrow(m, name, kept), kept) for (m, name), kept in kept_entries.items()}
    for module in {module for module, _ in kept_entries}:
        _sync_sizes(module)
    for group in groups:
        if group.owner is not None and group.name in plan.kept:
            owner: Any = network.get_submodule(group.owner)
            owner.keep(plan.units(group))
    for path in vanished:
        network.set_submodule(path, nn.Identity())
    for path in without_inputs:
        conv: Any = network.get_submodule(path)
        removed.append(conv.weight)
        network.set_submodule(path, Constant(conv, conv.out_channels))
    if optimizer is not None:
        _update_optimizer(optimizer, replaced, removed)
    return network


def compacted(network: nn.Module, groups: Sequence[Group], plan: Plan) -> nn.Module:
    """Returns a cut copy of the network; see `compact`."""
    return compact(copy.deepcopy(network), groups, plan)


def check_untied(network: nn.Module, groups: Sequence[Group]) -> None:
    """Raises PruningError if a group cuts a tensor that another module uses as well: only one of both would be cut."""
    names: dict[Tensor, list[str]] = defaultdict(list)
    for prefix, module in network.named_modules():  # a module with two names is one module, of which both names are cut
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                names[tensor].append(f"{prefix}.{name}".lstrip("."))
    for group in groups:
        for s in group.slices:
            owner, _, name = s.path.rpartition(".")
            tied = names[getattr(network.get_submodule(owner), name)]
            if len(tied) > 1:
                raise PruningError(
                    f"group '{group.name}' cuts '{s.path}', which is one tensor with several names: {tied}. Surgery "
                    f"does not support tied weights; leave the group out of the pruning: protect=['{group.name}']"
                )


def _vanished(groups: Sequence[Group], plan: Plan) -> list[str]:
    """Returns the paths of the modules that have no effect after the cut."""
    empty = {i for i, group in enumerate(groups) if group.size and not plan.units(group)}
    for members in branches(groups):
        if 0 < len(empty & {*members}) < len(members):
            names = [groups[i].name for i in members]
            raise PruningError(f"the plan empties a part of the branch of groups {names}; empty all of them or none")
    for group in (groups[i] for i in sorted(empty)):
        if group.vanish is None:
            raise PruningError(
                f"the plan empties group '{group.name}' ({group.kind}, {group.size} units), which must keep at "
                "least one unit: it does not declare the modules that would vanish with the last unit"
            )
    return [path for i in sorted(empty) for path in groups[i].vanish or ()]


def _kept_entries(size: int, parts: list[tuple[Slice, Group, Tensor]]) -> Tensor:
    """Returns the kept entries of a dimension of length `size`, ascending.

    Args:
        size: length of the dimension.
        parts: slices along the dimension, each with its group and the kept units of the group.
    """
    keep = torch.ones(size, dtype=torch.bool)
    for s, group, kept in parts:
        keep[s.positions(torch.arange(group.size))] = False
        keep[s.positions(kept)] = True
    return keep.nonzero().flatten()


def _select(tensor: Tensor, kept_of_dim: Mapping[int, Tensor]) -> Tensor:
    """Returns the kept entries of a tensor."""
    for dim, entries in kept_of_dim.items():
        tensor = tensor.index_select(dim, entries.to(tensor.device))
    return tensor


def _narrow(module: nn.Module, name: str, kept_of_dim: Mapping[int, Tensor]) -> Tensor:
    """Replaces a tensor of a module by its kept entries and returns the new tensor."""
    old = getattr(module, name)
    new = _select(old.detach(), kept_of_dim)
    if name in module._parameters:
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, name, new)
    return new


def _update_optimizer(
    optimizer: Optimizer, replaced: Mapping[Tensor, tuple[Tensor, Mapping[int, Tensor]]], removed: Sequence[Tensor]
) -> None:
    """Replaces cut parameters in an optimizer, cuts their state alike, and drops removed parameters.

    Args:
        optimizer: the optimizer.
        replaced: for each cut parameter the new one and the kept entries by dim.
        removed: parameters, old or new, that are no longer in the network.
    """
    removed_ids = {id(p) for p in removed}
    for settings in optimizer.param_groups:
        settings["params"] = [
            replaced[p][0] if p in replaced else p
            for p in settings["params"]
            if id(p) not in removed_ids and id(replaced.get(p, (p,))[0]) not in removed_ids
        ]
    for old in [p for p in optimizer.state if p in replaced or id(p) in removed_ids]:
        state = optimizer.state.pop(old)
        new, kept_of_dim = replaced.get(old, (old, {}))
        if id(old) in removed_ids or id(new) in removed_ids:
            continue
        optimizer.state[new] = {
            key: _select(value, kept_of_dim) if isinstance(value, Tensor) and value.shape == old.shape else value
            for key, value in state.items()
        }


def _sync_sizes(module: nn.Module) -> None:
    """Sets the size attributes of a layer, which exporters and `print` read, to the sizes of its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _ConvNd):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, _BatchNorm):
        module.num_features = (module.weight if module.running_mean is None else module.running_mean).numel()
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)
