"""Archives for evaluation servers against those of the public packers."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from evaluation.tracking.result_files import save_track
from evaluation.tracking.submission import pack_got10k, pack_trackingnet

from .cases import Case, each, load

PACK = {"got10k": pack_got10k, "trackingnet": pack_trackingnet}
# Whose archives ours are; others differ in rounding and in how many runs there are.
OURS = {"got10k": "got10k_toolkit_deterministic", "trackingnet": "pytracking_from_float_results"}


def servers(case: Case) -> Iterator[tuple[str, str]]:
    for server in PACK:
        if server in case.about:
            yield server, server


def sequences_of(inputs: dict[str, Any]) -> SequenceTable:
    golden = load("metrics/inputs")
    return SequenceTable.from_sequences(
        Sequence(s["name"], Path("/"), [str(i) for i in range(s["frames"])], truth[:1], np.zeros(1, bool))
        for s in inputs["sequences"]
        for truth in [golden.ground_truth(inputs, s)]
    )


def packed(server: str, results: Path, sequences: SequenceTable) -> dict[str, str]:
    before = {p: p.read_bytes() for p in results.iterdir()}
    archive = results.parent / "archive.zip"
    PACK[server](results, sequences, archive)
    assert {p: p.read_bytes() for p in results.iterdir()} == before, "raw results are never touched"
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


@pytest.fixture
def members(case: Case, part: str, tmp_path: Path) -> dict[str, str]:
    """Our archive of the case's tracker."""
    golden, inputs = load("metrics/inputs"), case.about[part]["inputs"]
    assert golden.checks(inputs) == case.about[part]["checks"], "the inputs differ from those of the reference"
    sequences = sequences_of(inputs)
    for s, spec in zip(sequences, inputs["sequences"], strict=True):
        boxes, seconds = golden.prediction(inputs, spec, "trk"), golden.times(inputs, spec, "trk", gaps=False)
        save_track(tmp_path / "trk", s, boxes, seconds)
    return packed(part, tmp_path / "trk", sequences)


@each("metrics", "submission", by=servers)
def test_archives_are_the_same(case: Case, part: str, members: dict[str, str]) -> None:
    wanted = case.about[part]["archives"][OURS[part]]
    assert [name for name in members if name.endswith("/")] == wanted["folder_entries"]
    assert {name: text for name, text in members.items() if not name.endswith("/")} == wanted["members"]


@each("metrics", "submission", by=servers)
def test_archives_of_other_packers_hold_the_same_files_and_boxes(
    case: Case, part: str, members: dict[str, str]
) -> None:
    others = {name: a for name, a in case.about[part]["archives"].items() if name != OURS[part]}
    assert others
    for archive in others.values():
        # Further runs are those of trackers that are not deterministic, and their columns in the times.
        first = {n: t for n, t in archive["members"].items() if not n.endswith(("_002.txt", "_003.txt"))}
        assert first.keys() == {name for name in members if not name.endswith("/")}
        for name, text in first.items():
            if not name.endswith("_time.txt"):
                theirs, mine = (np.loadtxt(io.StringIO(t), delimiter=",") for t in (text, members[name]))
                assert np.abs(theirs - mine).max() < 1  # they write whole pixels


def raw_results(case: Case) -> Iterator[tuple[str, tuple[str, str]]]:
    for server in PACK:
        for tracker in case.about.get(server, {}).get("raw_results", {}):
            yield f"{server}, {tracker}", (server, tracker)


@each("metrics", "submission", by=raw_results)
def test_raw_results_of_other_runners_can_be_packed(case: Case, part: tuple[str, str], tmp_path: Path) -> None:
    server, tracker = part
    load("metrics/inputs").write(case.about[server]["raw_results"][tracker], tmp_path / "raw")
    mine = packed(server, tmp_path / "raw", sequences_of(case.about[server]["inputs"]))
    by = "pytracking" if tracker.startswith("pytracking") else tracker
    theirs = case.about[server]["archives"][by]["members"]
    for name in theirs:
        if name in mine and not name.endswith("_time.txt"):
            ours, wanted = (np.loadtxt(io.StringIO(t), delimiter=",") for t in (mine[name], theirs[name]))
            assert (ours == wanted).all()
