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
from tests.trackers.networks import small_ostrack
from trackers.base import Tracker

CONF = str(Path(__file__).parents[2] / "conf")


def units_of(group: Group) -> frozenset[frozenset[tuple[str, int, int]]]:
    """Returns the entries that each unit owns: (tensor, dim, position)."""
    entries: list[set[tuple[str, int, int]]] = [set() for _ in range(group.size)]
    for s in group.slices:
        rows = s.positions(torch.arange(group.size)).reshape(len(s.offsets), group.size, s.inner)
        for unit, owned in enumerate(rows.transpose(0, 1).flatten(1).tolist()):
            entries[unit] |= {(s.path, s.dim, position) for position in owned}
    return frozenset(map(frozenset, entries))


def compare(tracker: str, scale: str) -> None:
    with initialize_config_dir(CONF, version_base=None):
        model = instantiate(compose("train", [f"tracker={tracker}", f"scale={scale}"]).tracker)
    inputs = tree_map_only(Tensor, lambda t: t.to("meta"), dict(model.example_inputs()))
    network = copy_to_meta(model.network)
    found, _ = groups_of_recording(network, record(network, lambda n: n(**inputs)))
    declared = {units_of(g): g for g in model.groups()}
    assert {units_of(g) for g in found} == declared.keys()
    for group in found:
        assert set(group.norms) == set(declared[units_of(group)].norms)


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
