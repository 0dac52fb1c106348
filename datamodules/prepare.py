"""Rewrites a data set once, so that training decodes only the parts of its JPEG frames that it shows.

    python -m datamodules.prepare /data/got10k /prepared/got10k
    python -m datamodules.prepare --workers 8 --check sample /data/lasot /fast/lasot

Every file of SOURCE gets a place below DESTINATION. JPEG files get restart markers without loss (program jpegtran);
everything else, and what cannot be rewritten, becomes a hard link, or a copy on another file system. So a linked file
is one file with two names: replace annotations rather than edit them in place. File times stay. SOURCE is only read.

The command can be interrupted; the same command continues. Each file appears as a whole or not at all. A rewritten
frame has the same pixels: --check all (default) decodes both files and compares them, and --check sample does so for
one of 50 files; jpegtran does not touch the coefficients, and the headers are always compared.

Sizes and times of frames are part of cache keys, so stages that train on a prepared data set have keys of their own.
"""

import argparse
import errno
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from datamodules.errors import DataError
from datamodules.prepared_copy import CHECKS, KEPT, LEFT_OUT, OTHER, RECORD, REWRITTEN, Outcome, prepare
from datamodules.workers import usable_cores

NAMED = 3  # files that the report names for each reason


def main() -> None:
    """Runs the command line.

    Raises:
        SystemExit: the folders cannot be used, jpegtran is missing, or the disk is full.
    """
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m datamodules.prepare", description=__doc__, formatter_class=form)
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="folder of the data set, or any folder above frames"
    )
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="folder to write, new or unfinished")
    parser.add_argument("--check", choices=CHECKS, default="all", help="files whose pixels are compared (default: all)")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), help="processes (default: %(default)s, all cores)"
    )
    given = parser.parse_args()
    try:
        outcome = prepare(given.source, given.destination, given.check, given.workers)
    except (DataError, OSError) as error:
        hint = "; make room, and the same command continues" if getattr(error, "errno", 0) == errno.ENOSPC else ""
        raise SystemExit(f"error: {error}{hint}") from error
    _print_report(outcome, given.destination)


def _print_report(outcome: Outcome, destination: Path) -> None:
    table = Table("files", "number", "before", "after")
    for what in (REWRITTEN, KEPT, OTHER, LEFT_OUT):
        if outcome.files[what]:
            sizes = decimal(outcome.before[what]), decimal(outcome.after[what])
            table.add_row(what, f"{outcome.files[what]:,}", *sizes)
    console = Console(soft_wrap=True)
    console.print(table)
    for reason, names in sorted(outcome.reasons.items()):
        more = f" and {len(names) - NAMED:,} more, see {destination / RECORD}" if len(names) > NAMED else ""
        _print_line(console, f"{reason}: {len(names):,} files: {', '.join(sorted(names)[:NAMED])}{more}")
    if outcome.files[LEFT_OUT]:
        raise SystemExit(f"error: {outcome.files[LEFT_OUT]:,} files could not be read and are missing in {destination}")
    _print_line(
        console,
        f"{destination} can take the place of the data set: as root of its reader, or below another paths.data. Stages "
        "that train on it have cache keys of their own, which hold the sizes and times of frames.",
    )


def _print_line(console: Console, line: str) -> None:
    """Prints a line as it is. Names of files may hold brackets, or bytes that are no text."""
    console.print(line.encode(errors="replace").decode(), highlight=False, markup=False)


if __name__ == "__main__":
    main()
