from pruning.cost.turns import FEWEST, WARMUP, time_in_turns


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = time_in_turns({name: lambda name=name: order.append(name) for name in "ab"}, seconds=0.0)
    rounds = len(times["a"])
    assert rounds <= FEWEST
    assert len(times["b"]) == rounds > 0
    assert min(min(own) for own in times.values()) >= 0
    assert order.count("a") == order.count("b")
    assert rounds < order.count("a") <= rounds + WARMUP


def test_the_clock_of_the_caller_counts() -> None:
    ticks = iter(range(100))
    times = time_in_turns({"a": lambda: next(ticks)}, runs=3, clock=lambda: float(next(ticks)))
    assert times["a"].tolist() == [2.0] * 3  # one tick in the call, one for the reading
