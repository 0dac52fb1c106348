"""Groups and slices: how a network declares which of its units can be pruned.

A *group* is one index set that several tensors share. A unit of the group is cut from all these tensors at once. A
network declares its groups; gates, criteria, budgets, surgery and reports are written once against them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from pruning.errors import PruningError


@dataclass(frozen=True)
class Slice:
    """Entries of one tensor that belong to one group.

    Unit `u` of the group owns the entries `offset + u * inner + [0, inner)` along `dim`, for every offset. Examples:
    `qkv.weight` of an attention of width D has `dim=0, offsets=(0, D, 2 * D)`; a linear layer behind a flattened 5 x 5
    map has `dim=1, inner=25`; one part of a concatenation has the offset at which the part starts.
    Slices that are neither gated nor masked are only cut.

    Attributes:
        path: name of the parameter or buffer in the network.
        dim: dimension of the tensor that is cut.
        offsets: starts of the blocks of entries along `dim`.
        inner: number of neighbouring entries per unit and offset.
        gated: whether the entries are multiplied by the unit's gate and contribute to the gate's gradient. Gate either
            the tensors that produce a unit or those that read it, never both: the gradient of a gate at 0 would vanish.
        masked: whether the entries are zeroed while the unit is closed, without being scaled by the gate's value and
            without contributing to its gradient. Buffers are masked, as they have no gradient. A filter that is the
            result of an optimization is masked, as its entries for a closed channel would change the length of the
            steps.
        whole: whether the groups of the network own all entries along `dim`, as nearly always. False says that the
            entries behind the units belong to no group, e.g. if only the first part of a concatenation is pruned.

    Raises:
        PruningError: an attribute has the wrong type.
    """

    path: str
    dim: int
    offsets: tuple[int, ...] = (0,)
    inner: int = 1
    gated: bool = False
    masked: bool = False
    whole: bool = True

    def __post_init__(self) -> None:
        place = f"Slice({self.path!r}, {self.dim!r}, ...)"
        _check_type(isinstance(self.path, str), place, "path", self.path, "the name of a tensor, e.g. 'conv1.weight'")
        _check_type(_is_count(self.dim), place, "dim", self.dim, "the number of a dimension, e.g. 0")
        _check_type(_is_count(self.inner), place, "inner", self.inner, "a number of entries, e.g. 1")
        counts = isinstance(self.offsets, tuple | list) and all(map(_is_count, self.offsets))
        _check_type(counts, place, "offsets", self.offsets, "a tuple of starts, e.g. (0,)")
        object.__setattr__(self, "offsets", tuple(self.offsets))

    @property
    def per_unit(self) -> int:
        """Number of entries along `dim` per unit."""
        return len(self.offsets) * self.inner

    def positions(self, units: Tensor) -> Tensor:
        """Returns the entries along `dim` of `units` (k,), one row per offset: (len(offsets), k * inner)."""
        relative = (units[:, None] * self.inner + torch.arange(self.inner, device=units.device)).flatten()
        return torch.as_tensor(self.offsets, device=units.device)[:, None] + relative


@dataclass(frozen=True)
class Group:
    """Index set of `size` units, with every tensor slice that the units own.

    Attributes:
        name: unique in the network; usually the path of the module that the units belong to.
        kind: type of the units ("attention", "mlp", "tower", "width", ...). Penalties and scopes are set per kind.
        size: number of units.
        slices: slices of all parameters and buffers that are cut with the units.
        norms: paths of the LayerNorms that normalize over these units. While units are masked, these norms must compute
            their statistics over the kept units only, for which `pruning.norms` replaces their class.
        owner: path of a module that stores structure besides its tensors (e.g. the widths of ragged heads). Surgery
            calls `keep(units)` of this module with the kept units.
        vanish: None if at least one unit must stay. Otherwise all units may be removed (an attention or an MLP inside
            a residual branch, of which the output bias remains), and `vanish` lists the paths of the modules that then
            have no effect, e.g. the LayerNorm in front of the branch. No two groups may list the same module.
        branch: name of the residual branch that contains the group, if several groups share one branch; depth pruning
            empties these groups together. A group that may vanish and has no `branch` is a branch of its own.
        runs: lengths of the runs of units that are computed together (the heads of an attention), if there is more than
            one run. Rounding applies to each run separately.
    """

    name: str
    kind: str
    size: int
    slices: tuple[Slice, ...]
    norms: tuple[str, ...] = ()
    owner: str | None = None
    vanish: tuple[str, ...] | None = None
    branch: str | None = None
    runs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        place = f"Group({self.name!r}, ...)"
        for key in ("name", "kind"):
            _check_type(isinstance(getattr(self, key), str), place, key, getattr(self, key), "a word, e.g. 'hidden'")
        _check_type(_is_count(self.size) and self.size >= 0, place, "size", self.size, "the number of units, e.g. 64")
        members = {
            "slices": (Slice, "(Slice('conv1.weight', 0, gated=True), Slice('conv2.weight', 1))"),
            "norms": (str, "('norm',)"),
            "vanish": (str, "('norm',)"),
            "runs": (int, "(8, 8)"),
        }
        for key, (kind, example) in members.items():
            value = getattr(self, key)
            if key == "vanish" and value is None:
                continue
            fits = isinstance(value, tuple | list) and all(isinstance(item, kind) for item in value)
            _check_type(fits, place, key, value, f"a tuple, e.g. {example}")
            object.__setattr__(self, key, tuple(value))

    def with_prefix(self, prefix: str) -> "Group":
        """Returns the group with `prefix` in front of all names and paths, for a network inside a larger one."""
        return replace(
            self,
            name=(prefix + self.name).rstrip("."),
            slices=tuple(replace(s, path=prefix + s.path) for s in self.slices),
            norms=tuple(prefix + n for n in self.norms),
            owner=None if self.owner is None else (prefix + self.owner).rstrip("."),
            vanish=None if self.vanish is None else tuple(prefix + v for v in self.vanish),
            branch=None if self.branch is None else prefix + self.branch,
        )

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.kind}): {self.size} units{', may vanish' if self.vanish is not None else ''}"]
        lines += [
            f"  {s.path}[{':, ' * s.dim}{s.per_unit} per unit]{' gated' * s.gated}{' masked' * s.masked}"
            for s in self.slices
        ]
        lines += [f"  {norm}: statistics over the kept units" for norm in self.norms]
        lines += [f"  {module}: vanishes with the last unit" for module in self.vanish or ()]
        return "\n".join(lines)


def branches(groups: Sequence[Group]) -> list[list[int]]:
    """Returns the residual branches that may vanish, each as the list of its groups' indices in `groups`."""
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        if group.vanish is not None:
            members.setdefault(group.name if group.branch is None else group.branch, []).append(i)
    return list(members.values())


def entries_first(tensor: Tensor, dim: int) -> Tensor:
    """Returns the tensor as a matrix with one row per entry along `dim`."""
    rows = tensor.shape[dim]
    return tensor.transpose(0, dim).reshape(rows, tensor.numel() // max(rows, 1))


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
            if left and s.whole and s.offsets == (0,):
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
        if group.runs and (sum(group.runs) != group.size or min(group.runs) < 0):
            raise PruningError(f"the runs {group.runs} of group '{group.name}' must add up to its {group.size} units")
        for path in (*group.norms, *(group.vanish or ()), *([group.owner] if group.owner is not None else [])):
            if path not in modules:
                raise PruningError(
                    f"group '{group.name}' names the module '{path}', which the network does not have"
                    f"{_similar(path, modules)}"
                )
        for path in group.norms:
            if getattr(modules[path], "normalized_shape", None) != (group.size,) or modules[path].weight is None:
                raise PruningError(
                    f"'{path}' must be a LayerNorm with weights over exactly the {group.size} units of group "
                    f"'{group.name}', not {modules[path]}"
                )
        for s in group.slices:
            if s.path not in tensors:
                raise PruningError(
                    f"group '{group.name}' cuts '{s.path}', which the network does not have{_similar(s.path, tensors)}"
                )
            name, shape = names.setdefault(tensors[s.path], s.path), tensors[s.path].shape
            if name != s.path:
                raise PruningError(
                    f"group '{group.name}' cuts '{s.path}', which is the same tensor as '{name}'; declare all slices "
                    "of one tensor with the same name"
                )
            if not 0 <= s.dim < len(shape):
                raise PruningError(
                    f"group '{group.name}' cuts entries of dim {s.dim} of '{s.path}', of shape {tuple(shape)}; "
                    f"choose a dim from 0 to {len(shape) - 1}"
                )
            reach = max(s.offsets, default=0) + group.size * s.inner
            if min(s.offsets, default=-1) < 0 or s.inner < 1 or reach > shape[s.dim]:
                raise PruningError(
                    f"group '{group.name}' reaches entry {reach} of dim {s.dim} of '{s.path}', of shape {tuple(shape)} "
                    f"(size={group.size}, offsets={s.offsets}, inner={s.inner})"
                )
            if s.gated and s.masked:
                raise PruningError(
                    f"group '{group.name}' declares '{s.path}' gated and masked; gated=True alone is enough"
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
    return groups


def _as_list(network: Any, groups: Any) -> list[Group]:
    """Returns the groups as a list.

    Raises:
        PruningError: `groups` is no collection of groups, or `network` no module with parameters.
    """
    if not isinstance(network, nn.Module) or next(network.parameters(), None) is None:
        raise PruningError(f"the network must be a torch.nn.Module with parameters, not {_described(network)}")
    if "_orig_mod" in network._modules:  # the class of torch.compile; its import would take seconds
        raise PruningError("torch.compile made this network for fixed sizes; prune it before: network._orig_mod")
    if isinstance(groups, Group | str | dict) or not isinstance(groups, Iterable):
        call = "call it: groups()" if callable(groups) else "e.g. [Group('hidden', 'mlp', 64, slices)]"
        raise PruningError(f"groups must be a list of Group, not {_described(groups)}; {call}")
    groups = list(groups)
    for group in groups:
        if not isinstance(group, Group):
            raise PruningError(f"groups must be a list of Group, but one entry is {_described(group)}")
    return groups


def _described(thing: Any) -> str:
    """Returns a few words for a value of a wrong type; a network or a tensor would print pages."""
    return f"{thing!r}" if isinstance(thing, str | int | float | None) else f"a {type(thing).__name__}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_type(fits: bool, place: str, key: str, value: Any, wanted: str) -> None:
    if not fits:
        raise PruningError(
            f"{place}: {key}={value if isinstance(value, tuple | list) else _described(value)} must be {wanted}"
        )


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
