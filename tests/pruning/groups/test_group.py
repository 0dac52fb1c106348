from dataclasses import replace

import pytest
import torch
from torch import nn

from pruning.groups import Group, Slice, branches, entries_first
from pruning.groups.checks import check_groups
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import BranchNet, ConvNet, NormNet, full_ostrack, tiny_ostrack


def test_positions_run_offset_by_offset() -> None:
    cut = Slice("w", 0, offsets=(0, 20), inner=3)
    assert cut.positions(torch.tensor([0, 2])).tolist() == [[0, 1, 2, 6, 7, 8], [20, 21, 22, 26, 27, 28]]
    assert cut.per_unit == 6
    assert cut.positions(torch.tensor([], dtype=torch.long)).shape == (2, 0)


def test_a_table_lists_the_entries_of_every_unit() -> None:
    cut = Slice("w", 0, table=[[0, 4], [1, 5], [7, 2]])
    assert cut == Slice("w", 0, table=((0, 4), (1, 5), (7, 2)))
    assert cut.positions(torch.tensor([0, 2])).tolist() == [[0, 7], [4, 2]]
    assert cut.per_unit == 2
    assert cut.positions(torch.tensor([], dtype=torch.long)).shape == (2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": ((0, 1), (2,))}, "must be a tuple of equally long tuples"),
        ({"table": (0, 1)}, "must be a tuple of equally long tuples"),
        ({"table": ((-1,),)}, "must be a tuple of equally long tuples"),
        ({"table": ((), ())}, "must be a tuple of equally long tuples"),
        ({"table": ((0,),), "offsets": (0, 4)}, r"table replaces offsets=\(0, 4\) and inner=1"),
        ({"table": ((0,),), "inner": 2}, r"table replaces offsets=\(0,\) and inner=2"),
    ],
)
def test_a_bad_table_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Slice("w", 0, **options)


def test_entries_first_is_a_row_for_every_entry() -> None:
    w = torch.arange(24.0).view(2, 3, 4)
    for dim in range(3):
        rows = entries_first(w, dim)
        assert rows.shape == (w.shape[dim], 24 // w.shape[dim])
        assert all(sorted(rows[i].tolist()) == sorted(w.select(dim, i).flatten().tolist()) for i in range(w.shape[dim]))
    assert entries_first(torch.zeros(0, 5), 0).sum(1).shape == (0,)
    assert entries_first(torch.zeros(0, 5), 1).sum(1).shape == (5,)


@pytest.mark.parametrize(
    "build", [ConvNet, NormNet, BranchNet, tiny_ostrack, full_ostrack, lambda: tiny_ostrack(stem_hidden=6)]
)
def test_our_networks_declare_soundly(build: type) -> None:
    network = build()
    groups = network.groups()
    assert check_groups(network, iter(groups)) == groups


def test_with_prefix_moves_everything() -> None:
    group = Group("", "attention", 3, (Slice("qkv.weight", 0, gated=True),), norms=("norm",), owner="")
    moved = group.with_prefix("blocks.0.attn.")
    assert (moved.name, moved.owner, moved.norms) == ("blocks.0.attn", "blocks.0.attn", ("blocks.0.attn.norm",))
    counted = replace(group, attributes=[("attn.num_heads", 1), ("widths.0", 2)]).with_prefix("x.")
    assert counted.attributes == (("x.attn.num_heads", 1), ("x.widths.0", 2))
    assert moved.slices == (Slice("blocks.0.attn.qkv.weight", 0, gated=True),)
    assert replace(group, owner=None).with_prefix("x.").owner is None
    assert moved.vanish is None
    assert replace(group, vanish=()).with_prefix("x.").vanish == ()
    assert replace(group, vanish=("norm", "deep.norm")).with_prefix("x.").vanish == ("x.norm", "x.deep.norm")
    assert moved.branch is None
    assert replace(group, branch="").with_prefix("blocks.0.").branch == "blocks.0."
    assert replace(group, runs=(2, 1)).with_prefix("blocks.0.").runs == (2, 1)


def test_branches_are_groups_that_vanish_together() -> None:
    groups = [
        Group("a", "mlp", 3, (), vanish=(), branch="both"),
        Group("stream", "width", 4, ()),
        Group("b", "mlp", 2, (), vanish=()),
        Group("c", "mlp", 5, (), vanish=("norm",), branch="both"),
        Group("d", "mlp", 5, (), branch="both"),  # must keep a unit: it is in no branch that can leave
    ]
    assert branches(groups) == [[0, 3], [2]]
    assert branches(groups[1:2]) == branches([]) == []
    assert branches([replace(g, branch=None) for g in groups]) == [[0], [2], [3]]


def test_heads_are_runs_and_stay_so_when_ragged() -> None:
    network = tiny_ostrack(dim=12, heads=3, depth=1)
    attention = network.groups()[0]
    assert attention.runs == (4, 4, 4)
    compact(network, network.groups(), Plan({attention.name: (0, 1, 2, 8)}))
    assert network.groups()[0].runs == (3, 0, 1)
    assert check_groups(network, network.groups())


def test_a_group_prints_what_it_cuts() -> None:
    qkv, proj = Slice("qkv.weight", 0, offsets=(0, 4, 8), gated=True), Slice("proj.weight", 1)
    table = Slice("position", 1, masked=True)
    group = Group("attn", "attention", 4, (qkv, proj, table), norms=("inside",))
    lines = [
        "attn (attention): 4 units",
        "  qkv.weight[3 per unit] gated",
        "  proj.weight[:, 1 per unit]",
        "  position[:, 1 per unit] masked",
        "  inside: statistics over the kept units",
    ]
    assert str(group).splitlines() == lines
    lines[0] += ", may vanish"
    assert str(replace(group, vanish=())).splitlines() == lines
    more = replace(group, vanish=(), slices=(replace(qkv, rescaled=True), proj, table), attributes=(("attn.dim", 2),))
    assert str(more).splitlines() == [lines[0], lines[1] + " rescaled", *lines[2:4], "  attn.dim: 2 per unit", lines[4]]
    assert str(replace(group, vanish=("norm",))).splitlines() == [*lines, "  norm: vanishes with the last unit"]


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.width, self.sizes, self.other = 4, [[4, 1], 3], "4"
        self.norm, self.bare = nn.LayerNorm(4), nn.LayerNorm(4, elementwise_affine=False)


GATED, CUT = Slice("fc1.weight", 0, gated=True), Slice("fc2.weight", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slices": (GATED, Slice("fc3.weight", 0))}, "cuts 'fc3.weight', which the network does not have"),
        ({"slices": (GATED, Slice("fc2.weight", 0))}, r"reaches entry 4 of dim 0 of 'fc2.weight', of shape \(3, 4\)"),
        ({"slices": (GATED, Slice("fc2.weight", 1, offsets=(0, 1)))}, "reaches entry 5 of dim 1"),
        ({"slices": (GATED, Slice("fc2.weight", 1, inner=2))}, "reaches entry 8 of dim 1"),
        ({"slices": (GATED, Slice("fc2.weight", 2))}, "of dim 2 of 'fc2.weight'"),
        ({"slices": (GATED, Slice("fc2.weight", -1))}, "of dim -1 of 'fc2.weight'"),
        ({"slices": (GATED, Slice("fc2.weight", 1, offsets=(-1,)))}, r"offsets=\(-1,\)"),
        ({"slices": (GATED, Slice("fc2.weight", 1, offsets=()))}, r"offsets=\(\)"),
        ({"slices": (GATED, Slice("fc2.weight", 1, inner=0))}, "inner=0"),
        ({"slices": (CUT,)}, "has no gated slice"),
        ({"slices": ()}, "has no gated slice"),
        ({"slices": (replace(CUT, masked=True),)}, "has no gated slice"),
        ({"slices": (GATED, Slice("bn.running_mean", 0, gated=True))}, "gates the buffer.*masked=True"),
        ({"slices": (replace(GATED, masked=True), CUT)}, "declares 'fc1.weight' gated and masked"),
        ({"slices": (GATED, CUT, CUT)}, "cuts entries of dim 1 of 'fc2.weight' that another slice cuts"),
        ({"runs": (2, 1)}, r"the runs \(2, 1\) of group 'g' must add up to its 4 units"),
        ({"runs": (2, 3)}, "must add up to its 4 units"),
        ({"runs": (5, -1)}, "must add up to its 4 units"),
        (
            {"slices": (GATED, replace(CUT, table=((0,), (1,))))},
            "has 4 units, but the table of 'fc2.weight' has 2 rows",
        ),
        ({"slices": (GATED, replace(CUT, table=((0,), (1,), (2,), (4,))))}, "lists entry 4 of dim 1 of 'fc2.weight'"),
        ({"slices": (GATED, replace(CUT, table=((0,), (1,), (2,), (2,))))}, "that another slice cuts"),
        ({"slices": (GATED, Slice("bn.num_batches_tracked", 0))}, "cuts entries of dim 0 of 'bn.num_batches_tracked'"),
        ({"attributes": ("width", 1)}, "must be a tuple of names with the number per unit"),
        ({"attributes": (("width", 0),)}, "must be a tuple of names with the number per unit"),
        ({"attributes": (("width", 2),)}, r"'width' is 4, but the groups up to 'g' \(4 units, 2 per unit\) count 8"),
        ({"attributes": (("sizes.0.1", 1),)}, "'sizes.0.1' is 1, but"),
        ({"attributes": (("sizes.0", 1),)}, r"'sizes.0' must be a whole number in a Pair .*; found \[4, 1\]"),
        ({"attributes": (("sizes.5", 1),)}, "'sizes.5' must be a whole number"),
        ({"attributes": (("other", 1),)}, "'other' must be a whole number in a Pair .*; found '4'"),
        ({"attributes": (("nowhere.width", 1),)}, "attributes of group 'g': 'nowhere.width' must be a whole number"),
        ({"attributes": (("width", 1), ("width", 1))}, "names the number 'width' twice"),
        ({"norms": ("nowhere",)}, "names the module 'nowhere'"),
        ({"owner": "nowhere"}, "names the module 'nowhere'"),
        ({"vanish": ("norm", "nowhere")}, "names the module 'nowhere'"),
        ({"vanish": ("norm", "norm")}, r"vanish with one group only; declared more than once: \['norm'\]"),
        ({"norms": ("bn",)}, "'bn' must be a norm over exactly the 4 units of group 'g'"),
        ({"size": 3, "norms": ("norm",)}, "over exactly the 3 units of group 'g'"),
    ],
)
def test_a_bad_declaration_is_named(change: dict, message: str) -> None:
    good = Group("g", "mlp", 4, (GATED, CUT), norms=("norm",))
    assert check_groups(Pair(), [good]) == [good]
    assert check_groups(Pair(), [replace(good, runs=(3, 0, 1), norms=("norm", "bare"))])
    with pytest.raises(ValueError, match=message):
        check_groups(Pair(), [replace(good, **change)])


def test_a_cut_makes_the_numbers_smaller_that_count_units() -> None:
    """A list is replaced, so that another module with the same list keeps its own."""
    network = Pair()
    shared = network.sizes
    group = Group("g", "mlp", 4, (GATED, CUT), attributes=(("width", 1), ("sizes.0.0", 1)))
    assert check_groups(network, [group])
    network.fc2.sizes = shared
    compact(network, [group], Plan({"g": (1,)}))
    assert (network.width, network.sizes, shared) == (1, [[1, 1], 3], [[4, 1], 3])


def test_two_groups_cannot_share_a_name_or_the_entries_of_a_tensor() -> None:
    half = Group("a", "mlp", 2, (Slice("fc1.weight", 0, gated=True), Slice("fc2.weight", 1)))
    other = Group("b", "mlp", 2, (Slice("fc1.weight", 0, offsets=(2,), gated=True), Slice("fc2.weight", 1, (2,))))
    across = Group("c", "in", 2, (Slice("fc1.weight", 1, gated=True),))  # same tensor, other dim: fine
    assert len(check_groups(Pair(), [half, other, across])) == 3
    assert check_groups(Pair(), [replace(half, vanish=("norm",)), replace(other, vanish=("bare",)), across])
    with pytest.raises(ValueError, match=r"vanish with one group only; declared more than once: \['norm'\]"):
        check_groups(Pair(), [replace(half, vanish=("norm",)), replace(other, vanish=("norm",))])
    with pytest.raises(ValueError, match=r"more than once: \['a'\]"):
        check_groups(Pair(), [half, replace(other, name="a")])
    with pytest.raises(ValueError, match=r"group 'b' cuts entries of dim 1 of 'fc2\.weight' that another slice cuts"):
        check_groups(Pair(), [half, replace(other, slices=(other.slices[0], Slice("fc2.weight", 1, (1,))))])
