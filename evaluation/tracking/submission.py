"""Archives for evaluation servers. Result files are read and never changed."""

import io
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.files import atomic_write
from evaluation.tracking.result_files import read_track

if TYPE_CHECKING:
    from datamodules.sequences.table import SequenceTable

log = logging.getLogger(__name__)

EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of all members, so that equal results give equal archives


def pack_got10k(results: Path, sequences: "SequenceTable", archive: Path) -> None:
    """Writes an archive for http://got-10k.aitestunion.com: one folder for each sequence, with boxes and times.

    It holds one run, since our trackers are deterministic. The got10k toolkit has the same layout: it can score the
    archive after it is unpacked to `results/GOT-10k/<tracker>/`.

    Args:
        results: folder of result files.
        sequences: of the benchmark.
        archive: the file to write.

    Raises:
        DataError: a result is missing or damaged, or does not have one row for each frame.
    """
    _pack(archive, _got10k_members(results, sequences), len(sequences), expected=180)


def pack_trackingnet(results: Path, sequences: "SequenceTable", archive: Path) -> None:
    """Writes an archive for TrackingNet's server: one file for each sequence, without folders; see `pack_got10k`."""
    _pack(archive, _trackingnet_members(results, sequences), len(sequences), expected=511)


def _got10k_members(results: Path, sequences: "SequenceTable") -> Iterator[tuple[str, str]]:
    for s in sequences:
        boxes, seconds = read_track(results, s)
        yield f"{s.name}/", ""
        yield f"{s.name}/{s.name}_001.txt", _text(boxes, "%.3f")
        yield f"{s.name}/{s.name}_time.txt", _text(seconds, "%.8f")


def _trackingnet_members(results: Path, sequences: "SequenceTable") -> Iterator[tuple[str, str]]:
    for s in sequences:
        yield f"{s.name}.txt", _text(read_track(results, s)[0], "%.2f")


def _pack(archive: Path, members: Iterator[tuple[str, str]], count: int, expected: int) -> None:
    if count != expected:
        log.warning("%s has %d sequences; the server needs all %d", archive, count, expected)
    with atomic_write(archive) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members:
            file.writestr(zipfile.ZipInfo(name, EPOCH), text, zipfile.ZIP_DEFLATED)


def _text(rows: np.ndarray, form: str) -> str:
    text = io.StringIO()
    np.savetxt(text, rows, fmt=form, delimiter=",")
    return text.getvalue()
