"""The table of the results, in Markdown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

STATUSES = ("ok", "wrong", "broken", "short", "refused")
Results = Mapping[tuple[str, str], Mapping[str, Any]]


def markdown(entries: Sequence[str], results: Results) -> str:
    """Returns the counts of each side, and a line for each network.

    Args:
        entries: the list of networks.
        results: by (entry, side), a row of `trial`.
    """
    sides = [s for s in ("ours", "theirs") if any((e, s) in results for e in entries)]
    lines = [f"| of {len(entries)} networks | " + " | ".join(STATUSES) + " |", "|---" * (len(STATUSES) + 1) + "|"]
    for side in sides:
        counts = Counter(results[e, side]["status"] for e in entries if (e, side) in results)
        lines.append(f"| {side} | " + " | ".join(str(counts[s]) for s in STATUSES) + " |")
    lines += ["", "| network | ours | can be cut | kept | error | s | theirs | kept | error | s | reasons |"]
    lines.append("|---" * 11 + "|")
    for entry in entries:
        mine, other = results.get((entry, "ours"), {}), results.get((entry, "theirs"), {})
        reasons = [f"{name}: {r['reason']}" for name, r in (("ours", mine), ("theirs", other)) if r.get("reason")]
        cells = [entry, mine.get("status", ""), _number(mine.get("share"), ".2f"), *_cells(mine)]
        cells += [other.get("status", ""), *_cells(other), "; ".join(reasons).replace("|", "/")[:300]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_number(row.get(k), form) for k, form in (("ratio", ".3f"), ("error", ".0e"), ("seconds", ".1f"))]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
