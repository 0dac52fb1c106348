"""Surgery: cuts a network to the kept units of a plan. The result is ordinary modules with smaller tensors."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from pruning.errors import PruningError, describe_value
from pruning.groups import Group, Slice, branches
from pruning.groups.attributes import CountAttribute
from pruning.plan import Plan
from pruning.surgery.layer_cuts import LayerCut, check_layer_cut, sync_sizes
from pruning.surgery.multihead_attention import leave_nested_tensors
from pruning.surgery.tensor_places import Place, find_places


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
    vanished = _vanished(groups, plan)
    tensors = _cut_tensors(network, groups, plan, tuple(f"{path}." for path in vanished))
    gone = {module for path in vanished for module in network.get_submodule(path).modules()}
    attributes = [
        (attribute, per_unit * (group.size - len(plan.units(group))))
        for group in groups
        for path, per_unit in group.attributes
        if (attribute := CountAttribute(network, path)).module not in gone
    ]
    layers = [cut for cut in _layer_cuts(network, groups, plan, tensors, attributes) if cut.module not in gone]
    without_inputs = [place.parent for cut in tensors if (place := cut.conv_without_inputs()) is not None]
    for layer in layers:
        check_layer_cut(layer)
    removed = [p for path in vanished for p in network.get_submodule(path).parameters()]
    replaced = {cut.tensor: (cut.replace(), cut.kept) for cut in tensors}
    for attribute, count in attributes:
        attribute.subtract(count)
    for layer in layers:
        sync_sizes(layer)
    if any(isinstance(layer.module, nn.MultiheadAttention) for layer in layers):
        leave_nested_tensors(network)
    for group in groups:
        if group.owner is not None and group.name in plan.kept:
            owner: Any = network.get_submodule(group.owner)
            owner.keep(plan.units(group))
    for path in vanished:
        network.set_submodule(path, nn.Identity())
        _write_no_inputs(network.get_submodule(path.rpartition(".")[0]))
    for path in without_inputs:
        conv: Any = network.get_submodule(path)
        removed.append(conv.weight)
        network.set_submodule(path, Constant(conv, conv.out_channels))
    if optimizer is not None:
        left = {id(p) for p in network.parameters()}
        _update_optimizer(optimizer, replaced, [p for p in removed if id(p) not in left])
    return network


def compacted(network: nn.Module, groups: Sequence[Group], plan: Plan) -> nn.Module:
    """Returns a cut copy of the network; see `compact`."""
    return compact(copy.deepcopy(network), groups, plan)


@dataclass(frozen=True)
class _CutTensor:
    """A parameter or buffer that loses entries.

    Attributes:
        tensor: the tensor before the cut.
        places: where modules hold the tensor; a tied weight has several places.
        kept: kept entries by dim.
        factors: factors of the entries by dim, before the cut; see `Slice.rescaled`.
    """

    tensor: Tensor
    places: tuple[Place, ...]
    kept: Mapping[int, Tensor]
    factors: Mapping[int, Tensor]

    def conv_without_inputs(self) -> Place | None:
        """Returns the weight of a convolution that loses all its inputs, None if this is no such weight.

        Raises:
            PruningError: a dimension loses all its entries, and the layer does not work without them.
        """
        for dim in (dim for dim, entries in self.kept.items() if not len(entries)):
            for place in (p for p in self.places if not _runs_empty(p.module)):
                conv = place.module
                usable = isinstance(conv, _ConvNd) and not conv.transposed and not isinstance(conv.padding, str)
                if not usable or dim != 1:
                    raise PruningError(
                        f"the plan leaves '{place.path}' without entries in dim {dim}; keep at least one unit"
                    )
                return place
        return None

    def replace(self) -> Tensor:
        """Replaces the tensor by its kept entries, wherever modules hold it, and returns the new tensor."""
        new = _select(self.tensor.detach(), self.kept)
        for dim, factors in self.factors.items():
            factors = _select(factors, {0: self.kept[dim]}).to(new)
            new = new * factors.view([-1 if d == dim else 1 for d in range(new.dim())])
        if isinstance(self.tensor, nn.Parameter):
            new = nn.Parameter(new, requires_grad=self.tensor.requires_grad)
        for place in self.places:
            setattr(place.module, place.name, new)
        return new


def _cut_tensors(
    network: nn.Module, groups: Sequence[Group], plan: Plan, vanished: tuple[str, ...]
) -> list[_CutTensor]:
    """Returns all tensors that the plan cuts, without those whose modules all start with one of `vanished`."""
    places, parts = find_places(network), defaultdict(list)
    for group in groups:
        kept = plan.units(group)
        if len(kept) < group.size:
            for s in group.slices:
                owner, _, name = s.path.rpartition(".")
                tensor = getattr(network.get_submodule(owner), name)
                parts[tensor].append((s, group, torch.tensor(kept, dtype=torch.long)))
    tensors = []
    for tensor, of_tensor in parts.items():
        if all(place.path.startswith(vanished) for place in places[tensor]) and vanished:
            continue
        kept_of_dim, factors = {}, {}
        for dim in {s.dim for s, _, _ in of_tensor}:
            of_dim = [(s, g, k) for s, g, k in of_tensor if s.dim == dim]
            kept_of_dim[dim] = _kept_entries(tensor.shape[dim], of_dim)
            if any(s.rescaled for s, _, _ in of_dim):
                factors[dim] = _rescaling(tensor.shape[dim], of_dim)
        tensors.append(_CutTensor(tensor, tuple(places[tensor]), kept_of_dim, factors))
    return tensors


def _layer_cuts(
    network: nn.Module,
    groups: Sequence[Group],
    plan: Plan,
    tensors: Sequence[_CutTensor],
    attributes: Sequence[tuple[CountAttribute, int]],
) -> list[LayerCut]:
    """Returns what each module loses: entries of its tensors, and units that its attributes count."""
    layers = {module: LayerCut(path, module) for path, module in network.named_modules()}
    for cut in tensors:
        for place in cut.places:
            layers[place.module].kept[place.name] = cut.kept
    for attribute, count in attributes:
        layers[attribute.module].fewer[attribute.name] = layers[attribute.module].fewer.get(attribute.name, 0) + count
    for group in groups:
        for path in group.norms:
            layers[network.get_submodule(path)].norm_size = len(plan.units(group))
    for attention in (m for m in layers if isinstance(m, nn.MultiheadAttention)):
        layers[attention].kept |= {f"out_proj.{name}": kept for name, kept in layers[attention.out_proj].kept.items()}
    return [
        layer for layer in layers.values() if layer.kept or any(layer.fewer.values()) or layer.norm_size is not None
    ]


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


def _rescaling(size: int, parts: list[tuple[Slice, Group, Tensor]]) -> Tensor:
    """Returns the factors of the entries of a dimension of length `size`; see `Slice.rescaled`."""
    factors = torch.ones(size, dtype=torch.float64)
    for s, group, kept in parts:
        if s.rescaled:
            factors[s.positions(kept)] = (len(kept) / group.size) ** 0.5
    return factors


def _write_no_inputs(parent: nn.Module) -> None:
    """Makes all activations of a module write into new memory.

    Behind a convolution that has vanished, they would overwrite the input of the branch, which is added to its output.
    """
    for module in parent.modules():
        if getattr(module, "inplace", None) is True:
            cast(Any, module).inplace = False


def _runs_empty(module: nn.Module) -> bool:
    """Returns whether a module may run with a tensor without entries, as far as its class tells."""
    if isinstance(module, nn.Linear | nn.MultiheadAttention):
        return True
    bases = {kind.__module__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules.")}
    return bases <= {"torch.nn.modules.module", "torch.nn.modules.container"}


def _select(tensor: Tensor, kept_of_dim: Mapping[int, Tensor]) -> Tensor:
    """Returns the kept entries of a tensor."""
    for dim, entries in kept_of_dim.items():
        tensor = tensor.index_select(dim, entries.to(tensor.device))
    return tensor


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
