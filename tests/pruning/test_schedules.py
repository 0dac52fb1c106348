from itertools import pairwise

import pytest

from pruning.schedules import Annealed, Cubic, Exponential, Linear, OneShot

ANNEALED = [Linear, Cubic, Exponential]


@pytest.mark.parametrize("target", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("kind", ANNEALED)
def test_every_schedule_goes_from_one_to_the_target_exactly_and_never_up(kind: type[Annealed], target: float) -> None:
    schedule = kind(start=0.1, end=0.8)
    ratios = [schedule(i / 100, target) for i in range(101)]
    assert set(ratios[:11]) == {1.0}
    assert set(ratios[80:]) == {target}  # exactly: the mask stands still from then on
    assert all(a >= b for a, b in pairwise(ratios))
    if target < 1:
        assert all(target < b < a < 1 for a, b in pairwise(ratios[11:80]))


def test_linear_takes_the_same_share_of_the_dense_network_each_time() -> None:
    schedule = Linear(start=0.2, end=0.6)
    assert [schedule(p, 0.2) for p in (0.3, 0.4, 0.5)] == pytest.approx([0.8, 0.6, 0.4])


def test_cubic_is_zhu_and_gupta() -> None:
    assert Cubic(start=0.2, end=0.6)(0.4, 0.25) == pytest.approx(0.25 + 0.75 * 0.5**3)


def test_exponential_takes_the_same_share_of_what_is_left_each_time() -> None:
    schedule = Exponential(start=0.2, end=0.6)
    assert [schedule(p, 1 / 16) for p in (0.3, 0.4, 0.5)] == pytest.approx([1 / 2, 1 / 4, 1 / 8])


@pytest.mark.parametrize("target", [0.5, 0.05])
def test_cubic_is_ahead_of_linear_and_so_is_exponential(target: float) -> None:
    for progress in (0.15, 0.3, 0.5, 0.75):
        linear, cubic, exponential = (kind(0.1, 0.8)(progress, target) for kind in ANNEALED)
        assert max(cubic, exponential) < linear


@pytest.mark.parametrize("kind", ANNEALED)
def test_progress_outside_of_the_stage_is_held(kind: type[Annealed]) -> None:
    assert kind()(-1.0, 0.3) == 1
    assert kind()(2.0, 0.3) == 0.3


@pytest.mark.parametrize("kind", ANNEALED)
@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.1, 1.1), (float("nan"), 0.5)])
def test_impossible_schedules_are_refused(kind: type[Annealed], start: float, end: float) -> None:
    with pytest.raises(ValueError, match=rf"0 <= start < end <= 1, not start={start}, end={end}"):
        kind(start, end)


def test_one_shot_is_dense_until_it_is_not() -> None:
    assert [OneShot(0.5)(progress, 0.1) for progress in (0, 0.499, 0.5, 0.7, 1)] == [1, 1, 0.1, 0.1, 0.1]
    assert [OneShot()(progress, 0.1) for progress in (0, 0.999, 1)] == [1, 1, 0.1]


@pytest.mark.parametrize("at", [0, -0.1, 1.1, float("nan")])
def test_a_one_shot_outside_of_the_stage_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match=rf"at={at} must lie in \(0, 1\]"):
        OneShot(at)


def test_only_a_shot_after_the_last_step_leaves_the_stage_dense() -> None:
    """One sparsity stage then serves all ratios."""
    assert OneShot().cuts_at_end
    assert not OneShot(0.999).cuts_at_end
    assert not any(kind().cuts_at_end for kind in ANNEALED)
