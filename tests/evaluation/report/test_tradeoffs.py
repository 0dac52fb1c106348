"""The Pareto front: its definition, and the page's table of it."""

from evaluation.report.series import Point, Series
from evaluation.report.tradeoffs import front_table, pareto_front, tradeoffs_of
from tests.evaluation.report.studies import dense, job


def line(label: str, *points: tuple[float, float]) -> Series:
    return Series(label, 0, 0, (), tuple(Point(x, y, (y,), f"{x:g}") for x, y in points))


def test_a_front_is_what_no_other_point_beats():
    a = line("a", (10, 0.6), (5, 0.5), (4, 0.3), (1, 0.1))
    b = line("b", (9, 0.6), (5, 0.4), (4, 0.3), (3, 0.3))
    found = [(label, point.x, point.mean) for label, point in pareto_front([a, b])]
    assert found == [("a", 1, 0.1), ("b", 3, 0.3), ("a", 5, 0.5), ("b", 9, 0.6)]


def test_equal_points_are_both_on_the_front_and_a_still_box_beats_what_is_no_better():
    same = [line("a", (2, 0.5), (1, 0.2)), line("b", (2, 0.5))]
    assert [(label, point.x) for label, point in pareto_front(same)] == [("a", 1), ("a", 2), ("b", 2)]
    assert [(label, point.x) for label, point in pareto_front(same, floor=0.2)] == [("a", 2), ("b", 2)]
    assert pareto_front(same, floor=0.5) == ()


def test_the_table_lists_the_points_of_all_fronts_with_all_costs():
    slow = job("stark", 0.5, ao=0.45)
    slow["latency"]["cpu"]["ms"] = 50.0
    study = [dense(), job(ratio=0.5, ao=0.45), slow, job("stark", 0.1, ao=0.15)]
    tradeoffs = tradeoffs_of(study)
    table = front_table(study, tradeoffs)
    assert [column.label for column in table["columns"]] == [
        "Tracker", "Ratio", "AO", "cpu (ms)", "Parameters", "MACs (M)", "On the front of",
    ]  # fmt: skip
    rows = [[cell.text for cell in row] for row in table["rows"]]
    everything = "latency on cpu, parameters and MACs"
    assert rows == [
        ["ostrack", "1", "0.500", "9.00", "700,000", "90.00", everything],
        ["stark", "1", "0.500", "9.00", "700,000", "90.00", everything],  # its parent, which is as good
        ["ostrack", "0.5", "0.450", "5.50", "350,000", "45.00", everything],
        ["stark", "0.5", "0.450", "50.00", "350,000", "45.00", "parameters and MACs"],
    ]
