import json

import pytest

from pruning.groups import Group
from pruning.plan import Plan

GROUPS = [Group("a", "mlp", 5, ()), Group("b", "mlp", 3, ())]


def test_an_unlisted_group_keeps_everything() -> None:
    assert Plan({"a": ()}).units(GROUPS[1]) == (0, 1, 2)
    assert Plan({"a": ()}).units(GROUPS[0]) == ()
    assert Plan().units(GROUPS[0]) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("kept", [{}, {"a": ()}, {"a": (0, 4), "b": (0, 1, 2)}])
def test_plans_that_fit_their_groups_pass(kept: dict) -> None:
    Plan(kept).check(GROUPS)


@pytest.mark.parametrize("units", [(0, 0), (2, 1), (-1, 2), (1, 5)])
def test_units_that_are_not_distinct_ascending_and_in_range_are_refused(units: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"group 'a' must list distinct ascending units below 5"):
        Plan({"a": units}).check(GROUPS)


def test_unknown_groups_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'c', but the network has the groups \['a', 'b'\]"):
        Plan({"c": (0,)}).check(GROUPS)


def test_a_plan_survives_json() -> None:
    plan = Plan({"a": (0, 3), "b": ()})
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_a_plan_after_a_plan_counts_in_the_units_that_the_first_one_kept() -> None:
    first, second = Plan({"a": (1, 2, 4)}), Plan({"a": (0, 2), "b": (1,)})
    assert first.followed_by(second) == Plan({"a": (1, 4), "b": (1,)})
    assert first.followed_by(Plan()) == first
    assert Plan().followed_by(second) == second
