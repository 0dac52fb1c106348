from itertools import pairwise

import pytest

from pruning.schedules import Cubic, OneShot


@pytest.mark.parametrize("target", [1.0, 0.5, 0.01])
def test_cubic_goes_from_one_to_the_target_and_never_up(target: float) -> None:
    schedule = Cubic(start=0.1, end=0.8)
    ratios = [schedule(i / 100, target) for i in range(101)]
    assert ratios[0] == ratios[10] == 1
    assert ratios[80] == ratios[100] == pytest.approx(target, abs=1e-15)
    assert all(a >= b for a, b in pairwise(ratios))
    assert all(0 < r <= 1 for r in ratios)


def test_cubic_is_zhu_and_gupta() -> None:
    assert Cubic(start=0.2, end=0.6)(0.4, 0.25) == pytest.approx(0.25 + 0.75 * 0.5**3)


def test_progress_outside_of_the_stage_is_held() -> None:
    assert Cubic()(-1.0, 0.3) == 1
    assert Cubic()(2.0, 0.3) == pytest.approx(0.3)


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.1, 1.1)])
def test_impossible_schedules_are_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="0 <= start < end <= 1"):
        Cubic(start, end)


def test_one_shot_is_dense_until_it_is_not() -> None:
    assert [OneShot(0.5)(progress, 0.1) for progress in (0, 0.499, 0.5, 0.7, 1)] == [1, 1, 0.1, 0.1, 0.1]
    assert [OneShot()(progress, 0.1) for progress in (0, 0.999, 1)] == [1, 1, 0.1]


@pytest.mark.parametrize("at", [0, -0.1, 1.1, float("nan")])
def test_a_shot_outside_of_the_stage_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match=rf"at={at} must lie in \(0, 1\]"):
        OneShot(at)
