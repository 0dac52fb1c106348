"""Groups and slices: how a network declares which of its units can be pruned.

A *group* is one index set that several tensors share. A unit of the group is cut from all these tensors at once. A
network declares its groups; gates, criteria, budgets, surgery and reports are written once against them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pruning.errors import PruningError, describe_value


@dataclass(frozen=True)
class Slice:
    """Entries of one tensor that belong to one group.

    Unit `u` of the group owns the entries `offset + u * inner + [0, inner)` along `dim`, for every offset. Examples:
    `qkv.weight` of an attention of width D has `dim=0, offsets=(0, D, 2 * D)`; a linear layer behind a flattened 5 x 5
    map has `dim=1, inner=25`; one part of a concatenation has the offset at which the part starts. Units without
    such regular positions, e.g. behind a channel shuffle, list their entries in `table`.
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
        table: the entries of each unit along `dim`, one row per unit, instead of `offsets` and `inner`. All rows have
            the same length.
        rescaled: whether the cut multiplies the kept entries by sqrt(kept units / units). It is set on the tensors that
            make the queries, if the units are the dims of a head and the attention divides its logits by the root of
            its own width, as `F.scaled_dot_product_attention` does. The logits then stay those of the masked network.

    Raises:
        PruningError: an attribute has the wrong type, or `table` is given together with `offsets` or `inner`.
    """

    path: str
    dim: int
    offsets: tuple[int, ...] = (0,)
    inner: int = 1
    gated: bool = False
    masked: bool = False
    whole: bool = True
    table: tuple[tuple[int, ...], ...] = ()
    rescaled: bool = False

    def __post_init__(self) -> None:
        place = f"Slice({self.path!r}, {self.dim!r}, ...)"
        _check_type(isinstance(self.path, str), place, "path", self.path, "the name of a tensor, e.g. 'conv1.weight'")
        _check_type(_is_count(self.dim), place, "dim", self.dim, "the number of a dimension, e.g. 0")
        _check_type(_is_count(self.inner), place, "inner", self.inner, "a number of entries, e.g. 1")
        counts = isinstance(self.offsets, tuple | list) and all(map(_is_count, self.offsets))
        _check_type(counts, place, "offsets", self.offsets, "a tuple of starts, e.g. (0,)")
        object.__setattr__(self, "offsets", tuple(self.offsets))
        self._check_table(place)

    def _check_table(self, place: str) -> None:
        """Checks `table`, and turns lists into tuples."""
        rows = self.table
        fits = isinstance(rows, tuple | list) and all(isinstance(row, tuple | list) and row for row in rows)
        fits = fits and len(set(map(len, rows))) <= 1 and all(_is_count(n) and n >= 0 for row in rows for n in row)
        _check_type(fits, place, "table", rows, "a tuple of equally long tuples of entries, e.g. ((0, 4), (1, 5))")
        if rows and (self.offsets, self.inner) != ((0,), 1):
            raise PruningError(
                f"{place}: table replaces offsets={self.offsets} and inner={self.inner}; give one of both"
            )
        object.__setattr__(self, "table", tuple(map(tuple, rows)))

    @property
    def per_unit(self) -> int:
        """Number of entries along `dim` per unit."""
        return len(self.table[0]) if self.table else len(self.offsets) * self.inner

    def positions(self, units: Tensor) -> Tensor:
        """Returns the entries along `dim` of `units` (k,): (rows, k * inner).

        There is one row per offset, or, with a table, one row per entry of a unit. The entries of a unit are neighbours
        within a row.
        """
        if self.table:
            return torch.tensor(self.table, device=units.device)[units].T
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
        norms: paths of the modules that normalize over these units, e.g. a LayerNorm or RMSNorm, or a GroupNorm with
            one group. While units are masked, these norms must compute their statistics over the kept units only, for
            which `gates.norms` replaces their class. The slices of a norm's weight tell which entries belong to a
            unit; a norm over a concatenation may belong to several groups. A norm without weights has one entry per
            unit.
        owner: path of a module that stores structure besides its tensors (e.g. the widths of ragged heads). Surgery
            calls `keep(units)` of this module with the kept units.
        vanish: None if at least one unit must stay. Otherwise all units may be removed (an attention or an MLP inside
            a residual branch, of which the output bias remains), and `vanish` lists the paths of the modules that then
            have no effect, e.g. the LayerNorm in front of the branch. No two groups may list the same module.
        branch: name of the residual branch that contains the group, if several groups share one branch; depth pruning
            empties these groups together. A group that may vanish and has no `branch` is a branch of its own.
        runs: lengths of the runs of units that are computed together (the heads of an attention), if there is more than
            one run. Rounding applies to each run separately.
        attributes: paths of the numbers in modules that count units, each with the number per unit. The cut subtracts
            this number for every removed unit. Examples are ("attn.num_heads", 1) if the units are heads,
            ("conv.groups", 1) for a depthwise convolution, and ("split_sizes.1", 1) for an entry of a list or tuple.
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
    attributes: tuple[tuple[str, int], ...] = ()

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
        pairs = isinstance(self.attributes, tuple | list) and all(map(_counts_units, self.attributes))
        wanted = "a tuple of names with the number per unit, e.g. (('attn.num_heads', 1),)"
        _check_type(pairs, place, "attributes", self.attributes, wanted)
        object.__setattr__(self, "attributes", tuple(map(tuple, self.attributes)))

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
            attributes=tuple((prefix + path, per_unit) for path, per_unit in self.attributes),
        )

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.kind}): {self.size} units{', may vanish' if self.vanish is not None else ''}"]
        lines += [
            f"  {s.path}[{':, ' * s.dim}{s.per_unit} per unit]"
            f"{' gated' * s.gated}{' masked' * s.masked}{' rescaled' * s.rescaled}"
            for s in self.slices
        ]
        lines += [f"  {path}: {per_unit} per unit" for path, per_unit in self.attributes]
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


def slices_of_norm(group: Group, norm: str) -> list[Slice]:
    """Returns the slices of one tensor of a norm of the group, which tell the entries of its units; [] without any."""
    own = [s for s in group.slices if s.path.rpartition(".")[0] == norm]
    return [s for s in own if s.path == own[0].path]


def entries_first(tensor: Tensor, dim: int) -> Tensor:
    """Returns the tensor as a matrix with one row per entry along `dim`."""
    rows = tensor.shape[dim]
    return tensor.transpose(0, dim).reshape(rows, tensor.numel() // max(rows, 1))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _counts_units(pair: Any) -> bool:
    """Returns whether an entry of `Group.attributes` is a name with a positive number per unit."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    return isinstance(pair[0], str) and _is_count(pair[1]) and pair[1] > 0


def _check_type(fits: bool, place: str, key: str, value: Any, wanted: str) -> None:
    if not fits:
        raise PruningError(
            f"{place}: {key}={value if isinstance(value, tuple | list) else describe_value(value)} must be {wanted}"
        )
