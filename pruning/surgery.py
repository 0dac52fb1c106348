"""Surgery: cuts a network down to a plan. What stays is smaller tensors in ordinary modules."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning.groups import Group, Slice
from pruning.plan import Plan


def compact(network: nn.Module, groups: Sequence[Group], plan: Plan) -> nn.Module:
    """Cuts `network` in place to the units that `plan` keeps and returns it.

    Works on the meta device too, so that a child's architecture can be rebuilt without its weights. Parameters are new
    objects afterwards: build optimisers after surgery. Modules that vanish with a group's last unit become
    `nn.Identity`.

    Raises:
        ValueError: the plan does not fit the groups, or empties one that must keep a unit; a convolution or norm would
            lose its last channel, or a convolution is grouped or transposed. Nothing is cut then.
    """
    plan.check(groups)
    cuts: dict[str, list[tuple[Slice, Group, Tensor]]] = defaultdict(list)
    vanished: list[str] = []
    for group in groups:
        kept = plan.units(group)
        if len(kept) == group.size:
            continue
        if not kept:
            if group.vanish is None:
                raise ValueError(
                    f"the plan empties group '{group.name}' ({group.kind}, {group.size} units), which must keep at "
                    "least one unit: it does not declare what would vanish with the last one"
                )
            vanished += group.vanish
        for s in group.slices:
            cuts[s.path].append((s, group, torch.tensor(kept, dtype=torch.long)))
    changed: dict[tuple[nn.Module, str], Tensor] = {}
    for path, parts in cuts.items():
        if path.startswith(tuple(f"{module}." for module in vanished)):
            continue
        owner_path, _, name = path.rpartition(".")
        module = network.get_submodule(owner_path)
        tensor = getattr(module, name)
        if isinstance(module, _ConvNd) and (module.groups != 1 or module.transposed):
            raise ValueError(f"surgery does not support grouped or transposed convolutions: '{owner_path}', {module}")
        for dim in {s.dim for s, _, _ in parts}:
            stays = _stays(tensor.shape[dim], [(s, g, k) for s, g, k in parts if s.dim == dim])
            if not len(stays) and not isinstance(module, nn.Linear):
                raise ValueError(f"the plan leaves '{path}' without entries in dim {dim}; keep at least one unit")
            tensor = tensor.detach().index_select(dim, stays.to(tensor.device))
        if name in module._parameters:
            tensor = nn.Parameter(tensor, requires_grad=getattr(module, name).requires_grad)
        changed[module, name] = tensor
    for (module, name), tensor in changed.items():
        setattr(module, name, tensor)
    for module in {module for module, _ in changed}:
        _sync_sizes(module)
    for group in groups:
        if group.owner is not None and group.name in plan.kept:
            network.get_submodule(group.owner).keep(plan.units(group))
    for path in vanished:
        network.set_submodule(path, nn.Identity())
    return network


def _stays(size: int, parts: list[tuple[Slice, Group, Tensor]]) -> Tensor:
    """Ascending entries of one dimension of length `size` that no group cuts."""
    keep = torch.ones(size, dtype=torch.bool)
    for s, group, kept in parts:
        keep[s.positions(torch.arange(group.size))] = False
        keep[s.positions(kept)] = True
    return keep.nonzero().flatten()


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
