"""Sizes of torch's layers: which tensors of a layer can only be cut together, and which declaration a layer lacks."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from pruning.errors import PruningError
from pruning.groups import Group, Slice
from pruning.plan import Plan


def unit_tensors(layer: nn.Module) -> list[str]:
    """Returns the names of the tensors of a layer that have an entry for each of its outputs along dim 0.

    The list is empty for layers that surgery does not support. A weight that is computed from other tensors (a
    parametrization) is no parameter and is not listed.
    """
    if isinstance(layer, _NormBase):
        names = ("weight", "bias", "running_mean", "running_var")
    elif isinstance(layer, nn.Linear | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm) or (
        isinstance(layer, _ConvNd) and not layer.transposed
    ):
        names = ("weight", "bias")
    else:
        return []
    tensors: dict[str, Tensor | None] = layer._parameters | layer._buffers
    return [name for name in names if tensors.get(name) is not None]


def check_layers(network: nn.Module, groups: Sequence[Group]) -> None:
    """Checks that every group cuts a layer in all tensors that have an entry for each of the layer's outputs.

    Raises:
        PruningError: a group forgets such a tensor, e.g. the statistics of a BatchNorm. The message has its slice.
    """
    for group in groups:
        cuts: dict[str, list[Slice]] = defaultdict(list)
        for s in group.slices:
            if s.dim == 0:
                cuts[s.path].append(s)
        for path, slices in list(cuts.items()):
            prefix, _, name = path.rpartition(".")
            layer = network.get_submodule(prefix)
            names = unit_tensors(layer)
            for other in names if name in names else ():
                place = f"{prefix}.{other}".lstrip(".")
                if _entries(cuts[place]) != _entries(slices):
                    missing = ", ".join(_slice_like(s, place, other in layer._buffers) for s in slices)
                    raise PruningError(
                        f"group '{group.name}' cuts '{path}' along dim 0, but not the same entries of '{place}': this "
                        f"{type(layer).__name__} has one entry for each channel in both. Declare {missing}"
                    )


def _entries(slices: Sequence[Slice]) -> set[tuple[Any, ...]]:
    """Returns the entries of the units as a set that is equal for equal slices, whatever their order."""
    regular = {(offset, s.inner) for s in slices if not s.table for offset in s.offsets}
    return regular | {("table", *column) for s in slices for column in zip(*s.table, strict=True)}


def _slice_like(s: Slice, path: str, is_buffer: bool) -> str:
    """Returns the code of a slice that cuts another tensor like `s`."""
    options = f", offsets={s.offsets}" * (s.offsets != (0,)) + f", inner={s.inner}" * (s.inner != 1)
    options += f", table={s.table}" * bool(s.table) + ", rescaled=True" * s.rescaled
    options += ", gated=True" * (s.gated and not is_buffer) + ", masked=True" * s.masked
    return f"Slice('{path}', 0{options})"


def explain_failure(path: str, layer: nn.Module, arguments: Sequence[Any], groups: Sequence[Group], plan: Plan) -> str:
    """Returns why a layer of a cut network cannot read its input, and the slice that is missing; "" if it can.

    Args:
        path, layer: the layer in the cut network.
        arguments: of its forward.
        groups: the groups of the network.
        plan: the cut.
    """
    known = unit_tensors(layer) and getattr(layer, "groups", 1) == 1
    if not (known and arguments and isinstance(arguments[0], Tensor)):
        return ""
    reads, dim, axis = _reader(layer)
    tensor = getattr(layer, reads[0])
    if arguments[0].dim() < abs(axis) or (given := arguments[0].shape[axis]) == (read := tensor.shape[dim]):
        return ""
    names = " and ".join(f"'{path}.{name}'" for name in reads)
    words = f"its input has {given} channels, but {names} {'reads' if len(reads) == 1 else 'read'} {read}"
    cut = [group for group in groups if len(plan.units(group)) < group.size]
    if len(cut) != 1:
        return f"{words}. A group lacks a slice of one of them"
    (group,) = cut
    if given > read:
        return (
            f"{words}. The layer that produces this input is not cut: declare a slice along dim 0 of its weight in the "
            f"group '{group.name}'"
        )
    per_unit, rest = divmod(read - given, group.size - len(plan.units(group)))
    inner = f", inner={per_unit}" if per_unit > 1 else ""
    start = ", offsets=(START,)" if per_unit * group.size != read else ""
    missing = ", ".join(f"Slice('{path}.{name}', {dim}{start}{inner})" for name in reads)
    where = ", where START is the first entry of the group's units" if start else ""
    return f"{words}. Declare {missing} in the group '{group.name}'{where}" if not rest else words


def undeclared_tensors(path: str, module: nn.Module, groups: Sequence[Group], plan: Plan) -> str:
    """Returns which tensors of a module a group may have forgotten, "" if there are none.

    Args:
        path, module: a module of the cut network, with tensors of its own such as a positional embedding.
        groups: the groups of the network.
        plan: the cut, of one group.
    """
    cut = [group for group in groups if len(plan.units(group)) < group.size]
    if len(cut) != 1:
        return ""
    (group,) = cut
    known = {(s.path, s.dim) for s in group.slices}
    found = [
        f"Slice('{place}', {dim})"
        for name, tensor in (module._parameters | module._buffers).items()
        for dim, size in enumerate(() if tensor is None else tensor.shape)
        if size == group.size and ((place := f"{path}.{name}".lstrip(".")), dim) not in known
    ]
    return f"The group may lack {' or '.join(found)}, with {group.size} entries" if found else ""


def _reader(layer: Any) -> tuple[list[str], int, int]:
    """Returns the tensors of a layer that read its input, the dim that does, and the dim of the input."""
    if isinstance(layer, nn.Linear):
        return ["weight"], 1, -1
    if isinstance(layer, _ConvNd):
        return ["weight"], 1, -len(layer.kernel_size) - 1
    return unit_tensors(layer), 0, 1 if isinstance(layer, _NormBase | nn.GroupNorm) else -1
