"""The sequences that data sets officially have. The tables in `lists` hold facts: names, splits, frame ranges."""

import csv
from collections.abc import Collection
from pathlib import Path

from datamodules.sequences.annotations import DataError

LISTS = Path(__file__).parent / "lists"


def official(table: str, part: str, names: Collection[str] | None = None) -> list[dict[str, str]]:
    """Rows of a table, in its order.

    Args:
        table: file name without ".csv".
        part: one of those that its column "part" names.
        names: of the sequences to take; None for all.

    Raises:
        DataError: there is no such part, or no such sequence in it.
    """
    with (LISTS / f"{table}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parts = list(dict.fromkeys(p for row in rows for p in row["part"].split()))
    if part not in parts:
        raise DataError(f"{part} is no part of {table}; take one of {', '.join(parts)}")
    rows = [row for row in rows if part in row["part"].split()]
    if names is None:
        return rows
    unknown = [name for name in names if name not in {row["name"] for row in rows}]
    if unknown:
        raise DataError(f"{part} of {table} has no sequence {unknown[0]}; names=[{rows[0]['name']}] takes its first")
    return [row for row in rows if row["name"] in names]
