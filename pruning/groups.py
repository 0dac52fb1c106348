"""Groups and slices: how a network declares which of its units can be pruned.

A *group* is one index set that several tensors share. A unit of the group is cut from all these tensors at once. A
network declares its groups; gates, criteria, budgets, surgery and reports are written once against them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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
    """

    path: str
    dim: int
    offsets: tuple[int, ...] = (0,)
    inner: int = 1
    gated: bool = False
    masked: bool = False

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

    Raises:
        PruningError: a name is used twice; a path does not exist; a slice reaches outside its tensor or overlaps
            another slice; a slice is gated on a buffer, or both gated and masked; a norm is not over exactly the
            group's units; a module vanishes with more than one group; runs do not add up to the size; or a group has no
            gated slice.
    """
    groups = list(groups)
    duplicates = [name for name, count in Counter(g.name for g in groups).items() if count > 1]
    if duplicates:
        raise PruningError(f"group names must be unique; declared more than once: {duplicates}")
    shared = [path for path, count in Counter(v for g in groups for v in g.vanish or ()).items() if count > 1]
    if shared:
        raise PruningError(f"a module can vanish with one group only; declared more than once: {shared}")
    buffers = dict(network.named_buffers(remove_duplicate=False))
    tensors = dict(network.named_parameters(remove_duplicate=False)) | buffers
    modules = dict(network.named_modules(remove_duplicate=False))
    owned: dict[tuple[str, int], list[Tensor]] = {}
    for group in groups:
        if group.runs and (sum(group.runs) != group.size or min(group.runs) < 0):
            raise PruningError(f"the runs {group.runs} of group '{group.name}' must add up to its {group.size} units")
        for path in (*group.norms, *(group.vanish or ()), *([group.owner] if group.owner is not None else [])):
            if path not in modules:
                raise PruningError(f"group '{group.name}' names the module '{path}', which the network does not have")
        for path in group.norms:
            if getattr(modules[path], "normalized_shape", None) != (group.size,) or modules[path].weight is None:
                raise PruningError(
                    f"'{path}' must be a LayerNorm with weights over exactly the {group.size} units of group "
                    f"'{group.name}', not {modules[path]}"
                )
        for s in group.slices:
            if s.path not in tensors:
                raise PruningError(f"group '{group.name}' cuts '{s.path}', which the network does not have")
            shape = tensors[s.path].shape
            reach = max(s.offsets, default=0) + group.size * s.inner
            if not 0 <= s.dim < len(shape) or min(s.offsets, default=-1) < 0 or s.inner < 1 or reach > shape[s.dim]:
                raise PruningError(
                    f"group '{group.name}' reaches entry {reach} of dim {s.dim} of '{s.path}', of shape {tuple(shape)} "
                    f"(offsets={s.offsets}, inner={s.inner})"
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
