"""Reads the official lists of sequences: tables in `lists` with names, splits and frame ranges."""

import csv
from collections.abc import Collection
from pathlib import Path

from datamodules.errors import DataError

LISTS = Path(__file__).parent / "lists"


def read_official_list(table: str, part: str, names: Collection[str] | None = None) -> list[dict[str, str]]:
    """Returns the rows of a table that belong to a part of the data set, in the order of the table.

    Args:
        table: file name without ".csv".
        part: split or version, as in the column "part".
        names: sequences to return; None returns all.

    Raises:
        DataError: the table has no such part, or the part has no such sequence.
    """
    with (LISTS / f"{table}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parts = list(dict.fromkeys(p for row in rows for p in row["part"].split()))
    if part not in parts:
        raise DataError(f"{table} has no part {part}; choose one of {', '.join(parts)}")
    rows = [row for row in rows if part in row["part"].split()]
    if names is None:
        return rows
    unknown = [name for name in names if name not in {row["name"] for row in rows}]
    if unknown:
        raise DataError(
            f"{part} of {table} has no sequence {unknown[0]}; names=[{rows[0]['name']}] reads its first sequence"
        )
    return [row for row in rows if row["name"] in names]


def count_official(table: str, part: str) -> int:
    """Returns the number of sequences of a part of the data set; see `read_official_list`."""
    return len(read_official_list(table, part))
