"""Archives that evaluation servers accept. Result files are read, and never changed."""

import io
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.sequences.table import SequenceTable
from evaluation.files import replacing
from evaluation.tracking.result_files import read_whole

log = logging.getLogger(__name__)

EPOCH = (1980, 1, 1, 0, 0, 0)  # of all members: equal results give equal archives


def pack_got10k(results: Path, sequences: SequenceTable, archive: Path) -> None:
    """For http://got-10k.aitestunion.com: a folder a sequence, with one run (our trackers are deterministic) and times.

    It is also what the got10k toolkit keeps in its result folder: unpacked to `results/GOT-10k/<tracker>/`, it can be
    reported there.

    Args:
        results: folder of result files.
        sequences: the benchmark's.
        archive: the file to write.

    Raises:
        DataError: a result is missing or damaged, or has not a row a frame.
    """
    _pack(archive, _got10k_members(results, sequences), len(sequences), expected=180)


def pack_trackingnet(results: Path, sequences: SequenceTable, archive: Path) -> None:
    """For TrackingNet's server: a file a sequence, without folders; arguments and errors as those of `pack_got10k`."""
    _pack(archive, _trackingnet_members(results, sequences), len(sequences), expected=511)


def _got10k_members(results: Path, sequences: SequenceTable) -> Iterator[tuple[str, str]]:
    for s in sequences:
        boxes, seconds = read_whole(results, s)
        yield f"{s.name}/", ""
        yield f"{s.name}/{s.name}_001.txt", _text(boxes, "%.3f")
        yield f"{s.name}/{s.name}_time.txt", _text(seconds, "%.8f")


def _trackingnet_members(results: Path, sequences: SequenceTable) -> Iterator[tuple[str, str]]:
    for s in sequences:
        yield f"{s.name}.txt", _text(read_whole(results, s)[0], "%.2f")


def _pack(archive: Path, members: Iterator[tuple[str, str]], count: int, expected: int) -> None:
    if count != expected:
        log.warning("%s has %d sequences; the server wants all %d", archive, count, expected)
    with replacing(archive) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members:
            file.writestr(zipfile.ZipInfo(name, EPOCH), text, zipfile.ZIP_DEFLATED)


def _text(rows: np.ndarray, form: str) -> str:
    text = io.StringIO()
    np.savetxt(text, rows, fmt=form, delimiter=",")
    return text.getvalue()
