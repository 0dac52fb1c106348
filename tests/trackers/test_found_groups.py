"""Groups that are found in the networks of the trackers are those that the networks declare."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pruning import Group
from pruning.cost import copy_to_meta
from pruning.discovery.finding import groups_of_recording
from pruning.discovery.recording import record
from pruning.groups import branches
from tests.trackers.networks import small_ostrack
from trackers.base import Tracker

# Groups of which either the declared or the found one may vanish, by tracker and scale. OSTrack ranks its tokens by the
# scores of three attentions, which is more than a constant that is added; its attention knows what to do without heads.
# DiMP does not offer the one residual block of its classifier.
DIFFERENT = {
    ("ostrack", "full"): [f"backbone.blocks.{i}.attn" for i in (3, 6, 9)],
    ("prdimp18", "full"): ["classifier.features.blocks.0.conv1"],
}
CONF = str(Path(__file__).parents[2] / "conf")


def units_of(group: Group) -> frozenset[frozenset[tuple[str, int, int]]]:
    """Returns the entries that each unit owns: (tensor, dim, position)."""
    entries: list[set[tuple[str, int, int]]] = [set() for _ in range(group.size)]
    for s in group.slices:
        rows = s.positions(torch.arange(group.size)).reshape(len(s.offsets), group.size, s.inner)
        for unit, owned in enumerate(rows.transpose(0, 1).flatten(1).tolist()):
            entries[unit] |= {(s.path, s.dim, position) for position in owned}
    return frozenset(map(frozenset, entries))


def branches_of(groups: list[Group]) -> set[frozenset[frozenset[frozenset[tuple[str, int, int]]]]]:
    """Returns the branches that may vanish, each as the set of its groups."""
    return {frozenset(units_of(groups[i]) for i in members) for members in branches(groups)}


def compare(tracker: str, scale: str) -> None:
    different = DIFFERENT.get((tracker, scale), [])
    with initialize_config_dir(CONF, version_base=None):
        model = instantiate(compose("train", [f"tracker={tracker}", f"scale={scale}"]).tracker)
    inputs = tree_map_only(Tensor, lambda t: t.to("meta"), dict(model.example_inputs()))
    network = copy_to_meta(model.network)
    found, _ = groups_of_recording(network, record(network, lambda n: n(**inputs)))
    declared = {units_of(g): g for g in model.groups()}
    assert {units_of(g) for g in found} == declared.keys()
    for group in found:
        known = declared[units_of(group)]
        assert set(group.norms) == set(known.norms)
        assert ((group.vanish is None) == (known.vanish is None)) == (known.name not in different)
        assert known.name in different or set(group.vanish or ()) == set(known.vanish or ())
    others = {units_of(g) for g in model.groups() if g.name in different}
    of_found, of_declared = ({b for b in branches_of(g) if not b & others} for g in (found, model.groups()))
    assert of_found == of_declared


@pytest.mark.parametrize("tracker", ["ostrack", "stark", "dimp"])
def test_found_groups_are_the_declared_ones(tracker):
    compare(tracker, "tiny")


@pytest.mark.attack
@pytest.mark.parametrize(
    ("tracker", "scale"),
    [("ostrack", "compact"), ("stark", "compact"), ("dimp", "compact")]
    + [("ostrack", "full"), ("stark_mini", "full"), ("dimp", "full"), ("prdimp18", "full")],
)
def test_found_groups_of_larger_networks_are_the_declared_ones(tracker, scale):
    compare(tracker, scale)


def test_a_tracker_that_declares_nothing_finds_its_groups():
    tracker = small_ostrack()
    found = Tracker.groups(tracker)
    assert {units_of(g) for g in found} == {units_of(g) for g in tracker.groups()}
    with torch.device("meta"):  # as when a checkpoint is loaded
        assert Tracker.groups(tracker.to("meta")) == found
