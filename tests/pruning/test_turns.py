import pytest

from pruning import turns


def test_calls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SECONDS", 0.0)
    order: list[str] = []
    times, rounds = turns.milliseconds_in_turns([lambda: order.append("a"), lambda: order.append("b")], "cpu")
    assert rounds == turns.FEWEST
    assert order == ["a", "b"] * (2 + rounds)
    assert len(times) == 2
    assert min(times) >= 0
