"""Checks of declared groups against a network, before anything is cut."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pruning.errors import PruningError, describe_value
from pruning.groups.attributes import CountAttribute
from pruning.groups.group import Group, Slice, slices_of_norm


def check_groups(network: nn.Module, groups: Iterable[Group]) -> list[Group]:
    """Returns `groups` as a list after checking every declaration against `network`.

    Args:
        network: the network.
        groups: all groups of the network.

    Raises:
        PruningError: a name is used twice; a path does not exist; a slice reaches outside its tensor, overlaps
            another slice, or leaves entries to no group; a slice is gated on a buffer, or both gated and masked; a norm
            is not over exactly the group's units; a module vanishes with more than one group; runs do not add up to the
            size; or a group has no gated slice.
    """
    groups = check_some_groups(network, groups)
    owned: dict[tuple[str, int], int] = defaultdict(int)
    for group in groups:
        for s in group.slices:
            owned[s.path, s.dim] += group.size * s.per_unit
    for group in groups:
        for s in group.slices:
            entries, left = (n := _tensor(network, s.path).shape[s.dim]), n - owned[s.path, s.dim]
            if left and s.whole and s.offsets == (0,) and not s.table:
                fits = group.size and entries % group.size == 0
                covers = f" ({entries // group.size} would cover all)" if fits else ""
                raise PruningError(
                    f"group '{group.name}' has {group.size} units, but '{s.path}' has {entries} entries along dim "
                    f"{s.dim} (shape {tuple(_tensor(network, s.path).shape)}), of which {left} belong to no group. "
                    f"Correct size={group.size}, inner={s.inner}{covers} or offsets=(0,); or, if the others stay: "
                    f"Slice('{s.path}', {s.dim}, whole=False)"
                )
    return groups


def check_some_groups(network: nn.Module, groups: Iterable[Group]) -> list[Group]:
    """Does what `check_groups` does for a part of the network's groups; other entries may belong to other groups."""
    groups = _as_list(network, groups)
    duplicates = [name for name, count in Counter(g.name for g in groups).items() if count > 1]
    if duplicates:
        raise PruningError(f"group names must be unique; declared more than once: {duplicates}")
    shared = [path for path, count in Counter(v for g in groups for v in g.vanish or ()).items() if count > 1]
    if shared:
        raise PruningError(f"a module can vanish with one group only; declared more than once: {shared}")
    buffers = dict(network.named_buffers(remove_duplicate=False))
    tensors = dict(network.named_parameters(remove_duplicate=False)) | buffers
    modules = dict(network.named_modules(remove_duplicate=False))
    names: dict[Tensor, str] = {}
    owned: dict[tuple[str, int], list[Tensor]] = {}
    for group in groups:
        _check_modules(group, modules, tensors)
        for s in group.slices:
            _check_slice(group, s, tensors)
            if (name := names.setdefault(tensors[s.path], s.path)) != s.path:
                raise PruningError(
                    f"group '{group.name}' cuts '{s.path}', which is the same tensor as '{name}'; declare all slices "
                    "of one tensor with the same name"
                )
            if s.gated and s.path in buffers:
                raise PruningError(
                    f"group '{group.name}' gates the buffer '{s.path}', which has no gradient; declare it masked=True"
                )
            owned.setdefault((s.path, s.dim), []).append(s.positions(torch.arange(group.size)).flatten())
            entries = torch.cat(owned[s.path, s.dim])
            if len(entries.unique()) < len(entries):
                raise PruningError(
                    f"group '{group.name}' cuts entries of dim {s.dim} of '{s.path}' that another slice cuts"
                )
        if not any(s.gated for s in group.slices):
            raise PruningError(
                f"group '{group.name}' has no gated slice: declare the slices that carry its gate with gated=True"
            )
    _check_joint_norms(groups)
    _check_attributes(network, groups)
    return groups


def _check_modules(group: Group, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Checks the runs of a group, and that the modules that it names exist and are norms over its units."""
    if group.runs and (sum(group.runs) != group.size or min(group.runs) < 0):
        raise PruningError(f"the runs {group.runs} of group '{group.name}' must add up to its {group.size} units")
    for path in (*group.norms, *(group.vanish or ()), *([group.owner] if group.owner is not None else [])):
        if path not in modules:
            raise PruningError(
                f"group '{group.name}' names the module '{path}', which the network does not have"
                f"{_similar(path, modules)}"
            )
    for path in group.norms:
        known = [s for s in slices_of_norm(group, path) if s.path in tensors and s.dim < tensors[s.path].dim()]
        entries = tensors[known[0].path].shape[known[0].dim] if known else group.size
        if not _normalizes(modules[path], entries):
            over = f"the {entries} entries of '{known[0].path}'" if known else f"the {entries} units"
            raise PruningError(
                f"'{path}' must be a norm over exactly {over} of group '{group.name}', e.g. a LayerNorm or "
                f"RMSNorm, or a GroupNorm with one group, not {modules[path]}"
            )


def _check_slice(group: Group, s: Slice, tensors: Mapping[str, Tensor]) -> None:
    """Checks that a slice has entries of a tensor, and that its options go together."""
    if s.path not in tensors:
        raise PruningError(
            f"group '{group.name}' cuts '{s.path}', which the network does not have{_similar(s.path, tensors)}"
        )
    shape = tensors[s.path].shape
    if not 0 <= s.dim < len(shape):
        raise PruningError(
            f"group '{group.name}' cuts entries of dim {s.dim} of '{s.path}', of shape {tuple(shape)}; "
            f"choose a dim from 0 to {len(shape) - 1}"
        )
    reach = max(s.offsets, default=0) + group.size * s.inner
    if s.table:
        _check_table(group, s, shape)
    elif min(s.offsets, default=-1) < 0 or s.inner < 1 or reach > shape[s.dim]:
        raise PruningError(
            f"group '{group.name}' reaches entry {reach} of dim {s.dim} of '{s.path}', of shape {tuple(shape)} "
            f"(size={group.size}, offsets={s.offsets}, inner={s.inner})"
        )
    if s.gated and s.masked:
        raise PruningError(f"group '{group.name}' declares '{s.path}' gated and masked; gated=True alone is enough")
    if s.rescaled and not tensors[s.path].is_floating_point():
        raise PruningError(f"group '{group.name}' rescales '{s.path}', which holds {tensors[s.path].dtype} numbers")


def _normalizes(norm: nn.Module, size: int) -> bool:
    """Returns whether a module may be a norm over `size` entries; the forward of an unknown class is not examined."""
    if isinstance(norm, nn.GroupNorm):
        return (norm.num_groups, norm.num_channels) == (1, size)
    if isinstance(shape := getattr(norm, "normalized_shape", None), tuple | list):
        return tuple(shape) == (size,)
    return not isinstance(norm, _NormBase) and all(p.numel() == size for p in norm.parameters())


def _check_table(group: Group, s: Slice, shape: tuple[int, ...]) -> None:
    """Checks that the table of a slice has a row for each unit, with entries of the tensor."""
    if len(s.table) != group.size:
        raise PruningError(
            f"group '{group.name}' has {group.size} units, but the table of '{s.path}' has {len(s.table)} rows"
        )
    largest = max((entry for row in s.table for entry in row), default=-1)
    if largest >= shape[s.dim]:
        raise PruningError(
            f"group '{group.name}' lists entry {largest} of dim {s.dim} of '{s.path}', of shape {tuple(shape)}"
        )


def _check_joint_norms(groups: Iterable[Group]) -> None:
    """Checks that all groups that a norm normalizes together list it, as each of them changes its statistics."""
    joint = {norm for group in groups for norm in group.norms}
    for group in groups:
        for norm in sorted({s.path.rpartition(".")[0] for s in group.slices} & joint - {*group.norms}):
            raise PruningError(
                f"group '{group.name}' cuts the norm '{norm}', which another group lists in its norms; list it in "
                f"both: norms={(*group.norms, norm)}"
            )


def _check_attributes(network: nn.Module, groups: Iterable[Group]) -> None:
    """Checks that all attributes are numbers that are as large as the units they count."""
    counted: Counter[tuple] = Counter()
    for group in groups:
        places = set()
        for path, per_unit in group.attributes:
            try:
                attribute = CountAttribute(network, path)
            except PruningError as error:
                raise PruningError(f"attributes of group '{group.name}': {error}") from None
            if attribute.place in places:
                raise PruningError(f"group '{group.name}' names the number '{path}' twice in its attributes")
            places.add(attribute.place)
            counted[attribute.place] += group.size * per_unit
            if counted[attribute.place] > attribute.value:
                raise PruningError(
                    f"'{path}' is {attribute.value}, but the groups up to '{group.name}' ({group.size} units, "
                    f"{per_unit} per unit) count {counted[attribute.place]}; correct its entry in `attributes`"
                )


def _as_list(network: Any, groups: Any) -> list[Group]:
    """Returns the groups as a list.

    Raises:
        PruningError: `groups` is no collection of groups, or `network` no module with parameters.
    """
    if not isinstance(network, nn.Module) or next(network.parameters(), None) is None:
        raise PruningError(f"the network must be a torch.nn.Module with parameters, not {describe_value(network)}")
    if "_orig_mod" in network._modules:  # the class of torch.compile; its import would take seconds
        raise PruningError("torch.compile made this network for fixed sizes; prune it before: network._orig_mod")
    if isinstance(groups, Group | str | dict) or not isinstance(groups, Iterable):
        call = "call it: groups()" if callable(groups) else "e.g. [Group('hidden', 'mlp', 64, slices)]"
        raise PruningError(f"groups must be a list of Group, not {describe_value(groups)}; {call}")
    groups = list(groups)
    for group in groups:
        if not isinstance(group, Group):
            raise PruningError(f"groups must be a list of Group, but one entry is {describe_value(group)}")
    return groups


def _tensor(network: nn.Module, path: str) -> Tensor:
    """Returns the parameter or buffer with a name."""
    module, _, name = path.rpartition(".")
    return getattr(network.get_submodule(module), name)


def _similar(path: str, known: Iterable[str]) -> str:
    """Returns a question for a name that the network has, if one is similar; else an empty text."""
    known = list(known)
    inside = [name for name in known if name.startswith(f"{path}.")]
    found = get_close_matches(path, known, n=1, cutoff=0.8) or inside
    return f"; did you mean '{found[0]}'?" if found else ""
