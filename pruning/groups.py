"""The two words a network needs to say what in it can be pruned: `Group` and `Slice`.

A *group* is one index set that several tensors share and that can only be cut in all of them at once. A network
declares its groups; gates, criteria, budgets, surgery and reports are written once against them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Slice:
    """Where one group meets one tensor: unit `u` cuts `offset + u * inner + [0, inner)` along `dim`, for every offset.

    `qkv.weight` of an attention of width D: `dim=0, offsets=(0, D, 2 * D)`; a linear layer behind a flattened 5 x 5
    map: `dim=1, inner=25`; one part of a concatenation: its offset.

    `gated` slices carry the group's gate: they are scaled by its value and give it its gradient. Gate either the
    producers or the consumers of a unit, never both: the gradient of a gate at 0 would vanish. Where a second tensor
    must be zero too once the unit is closed (a filter that is itself the result of an optimisation: what it holds for a
    channel that is gone would change the length of the steps), or where a buffer must be, as no gradient of it tells
    a gate anything, the slice is `masked`: zeroed with its unit, not scaled, and without a say in the gate's gradient.
    All other slices are only cut.
    """

    path: str
    dim: int
    offsets: tuple[int, ...] = (0,)
    inner: int = 1
    gated: bool = False
    masked: bool = False

    @property
    def per_unit(self) -> int:
        """How many entries of the tensor's dimension one unit takes."""
        return len(self.offsets) * self.inner

    def positions(self, units: Tensor) -> Tensor:
        """The entries along `dim` that `units` (k,) take, offset by offset: (len(offsets), k * inner)."""
        spread = (units[:, None] * self.inner + torch.arange(self.inner, device=units.device)).flatten()
        return torch.as_tensor(self.offsets, device=units.device)[:, None] + spread


@dataclass(frozen=True)
class Group:
    """One index set of `size` units and everything it cuts.

    Attributes:
        name: unique in the network; by habit the path of the module it belongs to.
        kind: what the units are ("attention", "mlp", "tower", "width", ...). Penalties and scopes are set by kind.
        size: number of units.
        slices: every tensor (parameter or buffer) that is cut.
        norms: paths of the LayerNorms whose statistics run over these units. While units are masked, those norms must
            count kept units only, which no weight can express.
        owner: path of a module that keeps structure besides its tensors (the widths of ragged heads). Surgery calls
            its `keep(units)`.
        vanish: None if at least one unit must stay. Else all may go (an attention or an MLP inside a residual branch,
            which leaves its output bias), and these are the paths of the modules that have no effect any more then: the
            LayerNorm in front of that branch. No two groups name the same module.
        branch: name of the residual branch that the group is in, if several groups share one; depth pruning empties
            them together. By itself a group that may vanish is a branch of its own.
        runs: lengths of the runs of units that are computed together (the heads of an attention), if there is more than
            one; rounding counts them one by one.
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

    def under(self, prefix: str) -> "Group":
        """The same group of a network that now sits at `prefix` of a larger one."""
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
        lines = [f"{self.name} ({self.kind}): {self.size} units{', or none' if self.vanish is not None else ''}"]
        lines += [
            f"  {s.path}[{':, ' * s.dim}{s.per_unit} per unit]{' gated' * s.gated}{' masked' * s.masked}"
            for s in self.slices
        ]
        lines += [f"  {norm}: statistics over the kept units" for norm in self.norms]
        lines += [f"  {module}: vanishes with the last unit" for module in self.vanish or ()]
        return "\n".join(lines)


def branches(groups: Sequence[Group]) -> list[list[int]]:
    """Positions of the groups that leave together when whole residual branches do, in the order of the branches."""
    found: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        if group.vanish is not None:
            found.setdefault(group.name if group.branch is None else group.branch, []).append(i)
    return list(found.values())


def entries_first(tensor: Tensor, dim: int) -> Tensor:
    """The tensor as a matrix: a row for every entry along `dim`, all else in the columns."""
    rows = tensor.shape[dim]
    return tensor.transpose(0, dim).reshape(rows, tensor.numel() // max(rows, 1))


def check_groups(network: nn.Module, groups: Iterable[Group]) -> list[Group]:
    """Returns `groups` as a list once every declaration fits `network`.

    Raises:
        ValueError: a name is used twice, a path does not exist, a slice reaches outside of its tensor or overlaps
            another one, is gated on a buffer or both gated and masked, a norm does not run over exactly the group's
            units, a module vanishes with more than one group, runs do not add up, or nothing of a group is gated.
    """
    groups = list(groups)
    twice = [name for name, count in Counter(g.name for g in groups).items() if count > 1]
    if twice:
        raise ValueError(f"group names must be unique; declared more than once: {twice}")
    shared = [path for path, count in Counter(v for g in groups for v in g.vanish or ()).items() if count > 1]
    if shared:
        raise ValueError(f"a module can vanish with one group only; declared more than once: {shared}")
    buffers = dict(network.named_buffers())
    tensors = dict(network.named_parameters()) | buffers
    modules = dict(network.named_modules())
    taken: dict[tuple[str, int], list[Tensor]] = {}
    for group in groups:
        if group.runs and (sum(group.runs) != group.size or min(group.runs) < 0):
            raise ValueError(f"the runs {group.runs} of group '{group.name}' must add up to its {group.size} units")
        for path in (*group.norms, *(group.vanish or ()), *([group.owner] if group.owner is not None else [])):
            if path not in modules:
                raise ValueError(f"group '{group.name}' names the module '{path}', which the network does not have")
        for path in group.norms:
            if getattr(modules[path], "normalized_shape", None) != (group.size,) or modules[path].weight is None:
                raise ValueError(
                    f"'{path}' must be a LayerNorm with weights over exactly the {group.size} units of group "
                    f"'{group.name}', not {modules[path]}"
                )
        for s in group.slices:
            if s.path not in tensors:
                raise ValueError(f"group '{group.name}' cuts '{s.path}', which the network does not have")
            shape = tensors[s.path].shape
            reach = max(s.offsets, default=0) + group.size * s.inner
            if not 0 <= s.dim < len(shape) or min(s.offsets, default=-1) < 0 or s.inner < 1 or reach > shape[s.dim]:
                raise ValueError(
                    f"group '{group.name}' reaches entry {reach} of dim {s.dim} of '{s.path}', of shape {tuple(shape)} "
                    f"(offsets={s.offsets}, inner={s.inner})"
                )
            if s.gated and s.masked:
                raise ValueError(f"group '{group.name}' gates and masks '{s.path}'; a gated slice is masked as well")
            if s.gated and s.path in buffers:
                raise ValueError(
                    f"group '{group.name}' gates the buffer '{s.path}', which has no gradient; declare it masked=True"
                )
            taken.setdefault((s.path, s.dim), []).append(s.positions(torch.arange(group.size)).flatten())
            entries = torch.cat(taken[s.path, s.dim])
            if len(entries.unique()) < len(entries):
                raise ValueError(f"group '{group.name}' cuts entries of dim {s.dim} of '{s.path}' that are cut already")
        if not any(s.gated for s in group.slices):
            raise ValueError(f"group '{group.name}' gates nothing: mark the slices that carry its gate with gated=True")
    return groups
