"""The tables of the results, in Markdown: counts, networks, reasons."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

STATUSES = ("ok", "wrong", "broken", "short", "refused")
REASONS = 15  # rows of the table of what is left whole
Results = Mapping[tuple[str, str], Mapping[str, Any]]


def markdown(entries: Sequence[str], results: Results) -> str:
    """Returns the counts of each side, a line for each network, and what is left whole by reason.

    Args:
        entries: the list of networks.
        results: by (entry, side), a row of `trial`.
    """
    parts = [
        _counts(entries, results),
        _networks(entries, results),
        _whole(results[e, "ours"] for e in entries if (e, "ours") in results),
    ]
    return "\n\n".join(parts)


def _counts(entries: Sequence[str], results: Results) -> str:
    lines = [f"| of {len(entries)} networks | {' | '.join(STATUSES)} | largest error of ok | seconds, median |"]
    lines.append("|---" * (len(STATUSES) + 3) + "|")
    for side in ("ours", "theirs"):
        rows = [results[e, side] for e in entries if (e, side) in results]
        if not rows:
            continue
        counts = Counter(row["status"] for row in rows)
        errors = [row["error"] for row in rows if row["status"] == "ok"]
        seconds = sorted(row["seconds"] for row in rows if "seconds" in row)
        cells = [side, *(str(counts[s]) for s in STATUSES), _number(max(errors, default=None), ".0e")]
        lines.append(f"| {' | '.join(cells)} | {_number(seconds[len(seconds) // 2] if seconds else None, '.1f')} |")
    return "\n".join(lines)


def _networks(entries: Sequence[str], results: Results) -> str:
    lines = ["| network | ours | can be cut | kept | error | s | theirs | kept | error | s | reasons |"]
    lines.append("|---" * 11 + "|")
    for entry in entries:
        mine, other = results.get((entry, "ours"), {}), results.get((entry, "theirs"), {})
        reasons = [f"{name}: {r['reason'][:140]}" for name, r in (("ours", mine), ("theirs", other)) if r.get("reason")]
        cells = [entry, mine.get("status", ""), _number(mine.get("share"), ".2f"), *_cells(mine)]
        cells += [other.get("status", ""), *_cells(other), "; ".join(reasons).replace("|", "/")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _whole(rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns in how many networks an operator leaves units whole, with an example."""
    networks: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for row in rows:
        for reason in {_without_names(r): r for r in row.get("whole", ())}.items():
            networks[reason[0]] += 1
            examples.setdefault(reason[0], f"{row['network']}: {reason[1]}")
    lines = ["| left whole because of | networks | example |", "|---|---|---|"]
    for reason, count in networks.most_common(REASONS):
        lines.append(f"| {reason[:100]} | {count} | {examples[reason][:160]} |".replace("\n", " "))
    return "\n".join(lines)


def _without_names(text: str) -> str:
    """Returns the reason of a tensor without the tensor, numbers and names of modules."""
    reason = text.partition(": ")[2]
    reason = re.sub(r" in [\w.]+(?=$|:| )", "", re.sub(r"\([^()]*\)|\[[^][]*\]|'[^']*'", "", reason))
    return re.sub(r"\d[\d.e+-]*", "N", reason)


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_number(row.get(k), form) for k, form in (("ratio", ".3f"), ("error", ".0e"), ("seconds", ".1f"))]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
