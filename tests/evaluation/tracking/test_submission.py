"""Archives for servers: incomplete results are refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.metrics import GOT10k
from evaluation.tracking.result_files import save_track
from evaluation.tracking.submission import pack_got10k, pack_trackingnet

BOXES = np.array([[1.0, 2, 3, 4]] * 3)


@pytest.fixture
def sequences():
    return SequenceTable.from_sequences(
        Sequence(name, Path("/"), ["1", "2", "3"], BOXES[:1], np.zeros(1, bool)) for name in ("one", "two")
    )


@pytest.fixture
def results(sequences, tmp_path):
    for s in sequences:
        save_track(tmp_path / "results", s, BOXES, np.full(3, 0.1))
    return tmp_path / "results"


@pytest.mark.parametrize("pack", [pack_got10k, pack_trackingnet])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "run the tracker on this sequence first"),
        ("1,2,3,4\n" * 2, "2 rows for 3 frames"),
        ("1,2,3\n" * 3, "line 1"),
        ("nan,2,3,4\n" * 3, "NaN"),
    ],
)
def test_a_result_that_is_not_whole_is_named_and_nothing_is_written(sequences, results, pack, text, words):
    path = results / "two.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=f"two.txt.*{words}"):
        pack(results, sequences, results.parent / "archive.zip")
    assert [p.name for p in results.parent.iterdir()] == ["results"]


def test_equal_results_give_equal_archives_and_partial_ones_a_warning(sequences, results, caplog):
    archives = [results.parent / f"{i}.zip" for i in range(2)]
    for archive in archives:
        pack_trackingnet(results, sequences, archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert zipfile.ZipFile(archives[0]).namelist() == ["one.txt", "two.txt"]
    assert "2 sequences; the server needs all 511" in caplog.text


def test_what_only_a_server_scores_is_not_scored_and_the_other_way_round(sequences):
    with pytest.raises(ValueError, match=r"benchmark=secret cannot be scored.*action=submit"):
        Benchmark("secret", sequences, [], pack_got10k).check_scorable()
    with pytest.raises(ValueError, match=r"only the first frame of one is annotated.*annotate every frame"):
        Benchmark("half", sequences, [GOT10k()]).check_scorable()
    with pytest.raises(ValueError, match="benchmark=plain has no server"):
        Benchmark("plain", sequences, [GOT10k()]).check_packable()
