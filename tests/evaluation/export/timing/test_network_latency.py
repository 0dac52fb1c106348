"""Paired speeds, with clocks that the tests set."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.export.timing import network_latency
from evaluation.export.timing.paired_ratio import paired_ratio
from pruning.cost import turns


@pytest.fixture
def compare(monkeypatch):
    """`compare(child, parent)` compares trackers whose forwards take these seconds; other work slows some of them."""
    clock, rng = SimpleNamespace(now=0.0), np.random.default_rng(0)
    noise = 0.0

    def forward(tracker, device):
        def call():
            disturbed = rng.random() < 0.1
            clock.now += tracker.seconds * (1 + noise * rng.random() + 3 * disturbed)

        return call

    monkeypatch.setattr(network_latency, "_forward", forward)
    monkeypatch.setattr(turns, "synchronised_time", lambda device: clock.now)
    for module in (network_latency, turns):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def compare(child, parent, by=0.02):
        nonlocal noise
        noise = by
        return network_latency.compare_speed(*(SimpleNamespace(seconds=s) for s in (child, parent)))

    return compare


def test_a_speedup_is_the_ratio_of_times_of_one_round_and_its_noise_holds_one(compare):
    clocks, speedup = compare(child=0.002, parent=0.003)
    assert speedup["low"] <= 1.5 <= speedup["high"]
    assert speedup["ratio"] == pytest.approx(1.5, abs=0.03)
    assert speedup["noise"]["low"] <= 1 <= speedup["noise"]["high"]
    assert speedup["rounds"] == clocks["child"]["runs"] == clocks["parent"]["runs"] == turns.RUNS
    assert clocks["child"]["ms"] == pytest.approx(2, rel=0.05)
    assert list(clocks) == ["child", "parent"]


def test_a_child_that_equals_its_parent_is_as_fast(compare):
    _, speedup = compare(child=0.003, parent=0.003)
    assert speedup["low"] <= 1 <= speedup["high"]
    assert speedup["ratio"] == pytest.approx(1, abs=0.02)


def test_a_busy_machine_gets_more_rounds_of_fast_networks_and_a_slow_network_does_not(compare):
    clocks, speedup = compare(child=0.002, parent=0.003, by=2)
    assert speedup["rounds"] == clocks["child"]["runs"] == network_latency.BLOCKS * turns.RUNS
    assert speedup["low"] <= 1.5 <= speedup["high"]
    _, speedup = compare(child=0.2, parent=0.3, by=2)
    assert speedup["rounds"] <= turns.RUNS


def test_the_rounds_are_those_that_the_module_says_when_it_is_called(compare, monkeypatch):
    monkeypatch.setattr(turns, "RUNS", 7)
    monkeypatch.setattr(network_latency, "BLOCKS", 1)
    assert compare(child=0.002, parent=0.003, by=0)[1]["rounds"] == 7


def test_slow_networks_are_timed_in_fewer_rounds_which_the_protocol_tells(compare):
    clocks, speedup = compare(child=2, parent=4)
    assert speedup["rounds"] == turns.FEWEST
    assert f"median of {turns.FEWEST} " in clocks["child"]["protocol"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_no_call_runs_twice_in_succession_and_each_round_has_all(count):
    names = list(range(count))
    orders = turns._orders(names)
    taken = [next(orders) for _ in range(60)]
    assert all(sorted(order) == names for order in taken)
    assert count == 1 or all(a[-1] != b[0] for a, b in pairwise(taken))
    assert count < 3 or {order[0] for order in taken} == {*names}


@pytest.mark.parametrize("rounds", [6, 10, 50])
def test_the_interval_holds_the_median_ratio_in_95_percent_of_draws(rounds):
    rng = np.random.default_rng(1)
    shared = np.exp(rng.standard_t(2, (1000, rounds)))  # of the whole machine in a round
    own = np.exp(0.3 * rng.standard_t(2, (2, 1000, rounds)))  # of each call
    found = [paired_ratio(1.5 * a * s, b * s) for s, a, b in zip(shared, *own, strict=True)]
    held = np.mean([f["low"] <= 1.5 <= f["high"] for f in found])
    assert 0.94 <= held <= 0.985


def test_very_few_rounds_have_the_whole_range_as_interval():
    assert paired_ratio(np.array([1.0, 2, 3]), np.ones(3)) == {"ratio": 2, "low": 1, "high": 3}
    assert paired_ratio(np.array([2.0]), np.ones(1)) == {"ratio": 2, "low": 2, "high": 2}
