"""A comparison of many sequences in the terminal and on its page: evidence, attributes, and names with markup."""

import csv
import io
import re

import numpy as np
import pytest
from rich.console import Console

from datamodules.sequences.attributes import Attributes
from evaluation.report.comparison.page import comparison_page
from evaluation.report.comparison.tables import terminal_tables
from evaluation.report.comparison.words import headline, notes
from evaluation.report.formatting import DASH
from evaluation.tracking.comparison_result import describe_comparison, write_sequences
from evaluation.tracking.metrics.bootstrap import score_intervals
from evaluation.tracking.metrics.sequence_scores import SequenceScores
from evaluation.tracking.sequence_results import SequenceResults

COUNT = 24
NAMES = [f"video-{i}" for i in range(COUNT)]
GROUPS = {
    "fast motion": frozenset(NAMES[:12]),
    "rare": frozenset(NAMES[:2]),
    "few": frozenset(NAMES[:4]),
    "always": frozenset(NAMES),
}


def results(values):
    scores = SequenceScores(NAMES, {"AUC": values}, np.ones(COUNT))
    report = {"protocol": "kit", "AUC": float(values.mean()), "coverage": 1.0, "sequences": COUNT, "frames": 240}
    about = {"metrics": {"net": report}, "intervals": {"net": score_intervals(scores)}, "interval_protocol": "method"}
    about |= {
        "still_box": {"net": report | {"AUC": 0.4}},
        "checkpoint": "a.pth",
        "params": 1000,
        "macs": {"total": 2e6},
    }
    return about, SequenceResults([10] * COUNT, [30.0] * COUNT, [None] * COUNT, {"net": scores})


@pytest.fixture(scope="module")
def compared():
    base = np.linspace(0.3, 0.8, COUNT)
    worse = base - np.where(np.arange(COUNT) < 12, 0.2, 0.0) + 0.001 * np.cos(np.arange(COUNT))
    found = {"parent": results(base), "child": results(worse), "[b]<b>copy": results(base)}
    sequences = {name: of for name, (_, of) in found.items()}
    attributes = Attributes(GROUPS, "put files there")
    comparison = describe_comparison({name: about for name, (about, _) in found.items()}, sequences, attributes)
    speed = {"ratio": 1.5, "low": 1.4, "high": 1.6, "noise": {"ratio": 1.0, "low": 0.98, "high": 1.03}}
    made = {"speedup": {"child": {"cpu": speed}}, "versions": {}, "machine": {}, "commit": None}
    return comparison | made, sequences, attributes


def test_the_terminal_shows_what_is_evidence(compared):
    comparison, _, _ = compared
    console = Console(width=120, file=(text := io.StringIO()))
    for table in terminal_tables(comparison):
        console.print(table)
    told = text.getvalue()
    assert "coverage" not in told
    assert "1.50" in told
    assert re.search(r"fast motion +12 ", told)
    assert "[b]<b>copy" in told
    assert "rare" not in told
    assert "always" not in told
    worse, same = headline(comparison)
    assert worse.startswith(
        "child is worse than parent: AUC 0.450 against 0.550, a difference of \N{MINUS SIGN}0.100 ("
    )
    assert same.startswith("No evidence of a difference between [b]<b>copy and parent: AUC 0.550 against 0.550")
    assert [change["sequence"] for change in comparison["changes"]["[b]<b>copy"]] == []
    assert "A box that never moves has AUC 0.400." in notes(comparison)


def test_trackers_that_tell_neither_size_nor_time_have_dashes(compared):
    comparison, sequences, _ = compared
    about = {name: value for name, value in comparison["trackers"]["child"].items() if name not in ("params", "macs")}
    other = comparison | {"trackers": comparison["trackers"] | {"child": about}, "speedup": {}}
    console = Console(width=120, file=(text := io.StringIO()))
    console.print(next(terminal_tables(other)))
    assert re.search(rf"\n child +{DASH} +{DASH} +{DASH} +0.450", text.getvalue())
    assert any(note.startswith("No speed of parent, child and [b]<b>copy: action=profile") for note in notes(other))
    assert not any(note.startswith("No speed") for note in notes(all_timed(comparison)))
    rows = [{"sequence": name, "frames": 10, "scores": dict.fromkeys(sequences, np.nan)} for name in NAMES]
    assert comparison_page(other, [], {}, rows, "python eval.py")


def test_presence_stands_beside_the_trackers_and_what_is_not_known_is_a_dash(compared):
    comparison, _, _ = compared
    report = {"present": 90, "absent": 10, "AUC": 0.75, "found_AUC": np.nan, "false_alarms": 0.25, "misses": 0.5}
    about = comparison["trackers"]["child"] | {"presence": {"net": report}}
    other = comparison | {"trackers": comparison["trackers"] | {"child": about}}
    console = Console(width=120, file=(text := io.StringIO()))
    for table in terminal_tables(other):
        console.print(table)
    assert "presence: 90 frames show the object, 10 do not" in text.getvalue()
    assert re.search(rf"\n child +0.750 +{DASH} +0.250 +0.500", text.getvalue())


def all_timed(comparison):
    (speed,) = comparison["speedup"]["child"].values()
    return comparison | {"speedup": {name: {"cpu": speed} for name in ("child", "[b]<b>copy")}}


def test_the_page_shows_attributes_and_escapes_names(compared):
    comparison, sequences, _ = compared
    rows = [{"sequence": name, "frames": 10, "scores": dict.fromkeys(sequences, np.nan)} for name in NAMES]
    page = comparison_page(comparison, [], {"a sheet": np.zeros((8, 8, 3), np.uint8)}, rows, "python eval.py")
    attributes = page[page.index('id="attributes"') : page.index('id="reading"')]
    assert "fast motion" in attributes
    assert "few" in attributes
    assert "rare" not in attributes
    assert "put files there" in attributes
    assert "[b]<b>copy" not in page
    assert "[b]&lt;b&gt;copy" in page


def test_the_table_of_sequences_names_their_attributes(compared, tmp_path):
    _, sequences, attributes = compared
    write_sequences(tmp_path / "sequences.csv", sequences, attributes)
    with (tmp_path / "sequences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sequence"] for row in rows] == NAMES
    assert rows[0]["attributes"] == "fast motion; rare; few; always"
    assert rows[0]["child lost_at"] == ""
    assert float(rows[3]["parent AUC"]) == pytest.approx(sequences["parent"].scores["net"].values["AUC"][3])
