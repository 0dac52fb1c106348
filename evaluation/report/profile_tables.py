"""A profile as tables: in at most 80 columns of a terminal, as Markdown and as CSV."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evaluation.report.formatting import DASH, format_si, join_words

Profile = dict[str, Any]  # the content of profile.json
Rows = list[tuple[str, ...]]
# Headings of cells that have a second line.
BELOW = {"network, ms": "network, ms\n(p95)", "frame, ms": "frame, ms\n(p95)", "speed": "speed\n(95% interval)"}


def terminal_tables(profile: Profile) -> Iterator[Table]:
    """Yields the table of sizes and the table of speeds."""
    yield _table("size", _size_heading(profile), _size_rows(profile))
    (tracker, _, *heading), rows = _speed_heading(profile), _speed_rows(profile, "\n")
    yield _table(
        "speed",
        [tracker, *(BELOW.get(name, name) for name in heading)],
        [(f"{name}\n  {runtime}", *cells) for name, runtime, *cells in rows],
    )


def markdown(profile: Profile) -> str:
    """Returns both tables and the notes as Markdown."""
    blocks = [
        _markdown_table(_size_heading(profile), _size_rows(profile)),
        _markdown_table(_speed_heading(profile), _speed_rows(profile, " ")),
        "\n".join(f"- {note}" for note in notes(profile)),
    ]
    return "\n\n".join(blocks) + "\n"


def csv_rows(profile: Profile) -> list[dict[str, Any]]:
    """Returns a row of numbers for each tracker and runtime."""
    rows = []
    for row in profile["rows"]:
        tracker = profile["trackers"][row["tracker"]]
        flat = {"tracker": row["tracker"], "runtime": row["runtime"], "precision": row["precision"]}
        flat |= {"params": tracker["params"], "macs": (tracker["macs"] or {}).get("total"), "bytes": tracker["bytes"]}
        for part in ("network", "frame"):
            flat |= {f"{part}_{name}_ms": value for name, value in (row[part] or {}).items()}
        for part in ("frame_speedup", "share_of_peak"):
            flat |= {f"{part}_{name}": value for name, value in (row[part] or {}).items()}
        flat |= {"fps": row["fps"]} | {f"memory_{name}": value for name, value in (row["memory"] or {}).items()}
        rows.append({name: value for name, value in flat.items() if value is not None})
    return rows


def notes(profile: Profile) -> list[str]:
    """Returns how the numbers were measured, and what they are compared with."""
    machine = profile["machine"]
    peaks = [
        f"{peak['gflops']:.0f} GFLOP/s in {name} (at best {peak['best']:.0f}; {peak['product']})"
        for name, peak in profile["peaks"].items()
    ]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    sets = ", ".join(machine["instruction_sets"]) or "not known"
    device = f"{machine['device']}; " if machine["device"] != "cpu" else ""
    said = [
        f"Machine: {device}{machine['cpu']}, {threads}, instruction sets {sets}.",
        f"Times: {profile['protocol']}. Medians; in brackets, 95th percentiles.",
        f"Speed: times as fast as {profile['rows'][0]['tracker']} in {profile['rows'][0]['runtime']}, by whole frames; "
        "median of the ratios of the rounds, with its 95% interval.",
        "Peak: the share of the machine's fastest matrix product that the network reaches in the same rounds, with two "
        f"operations for each MAC: {join_words(peaks)}.",
    ]
    if any(row["memory"] for row in profile["rows"]):
        said.append(
            "Memory: the most that is resident in a process which does nothing but track; in brackets, without what "
            "its libraries take before a tracker is loaded. A checkpoint needs PyTorch, and is converted in this "
            "process for onnx and openvino; an export does without."
        )
    return said


def _size_heading(profile: Profile) -> list[str]:
    return ["tracker", "params", "MACs", "file", "MACs by part"]


def _size_rows(profile: Profile) -> Rows:
    rows: Rows = []
    for name, tracker in profile["trackers"].items():
        macs, size = tracker["macs"] or {}, tracker["bytes"]
        counts = dict(macs.get("parts", {}))
        counts["other"] = macs.get("total", 0) - sum(counts.values())  # e.g. DiMP's filter, which is no layer
        parts = [f"{part} {format_si(count, ' ')}" for part, count in counts.items() if count]
        cells = _si(tracker["params"]), _si(macs.get("total")), _bytes(size), join_words(parts, ", ") or DASH
        rows.append((name, *cells))
    return rows


def _speed_heading(profile: Profile) -> list[str]:
    optional = ["memory"] * any(row["memory"] for row in profile["rows"])
    return ["tracker", "runtime", "network, ms", "frame, ms", "fps", "speed", "peak", *optional]


def _speed_rows(profile: Profile, between: str) -> Rows:
    """Returns the cells of the table of speeds.

    Args:
        profile: the profile.
        between: stands between a number and its 95th percentile or interval.
    """
    has_memory, rows = any(row["memory"] for row in profile["rows"]), []
    for row in profile["rows"]:
        times = [_times(row[part], between) for part in ("network", "frame")]
        speed = row["frame_speedup"]
        ratio = f"{speed['ratio']:.2f}{between}({speed['low']:.2f} to {speed['high']:.2f})"
        share = f"{100 * row['share_of_peak']['ratio']:.0f}%" if row["share_of_peak"] else DASH
        memory = [_memory(row["memory"], between)] * has_memory
        runtime = row["runtime"] if row["precision"] in (None, "fp32") else f"{row['runtime']} {row['precision']}"
        is_first = row is profile["rows"][0]
        cells = runtime, *times, f"{row['fps']:.1f}", "1" if is_first else ratio, share, *memory
        rows.append((row["tracker"], *cells))
    return rows


def _times(times: dict[str, float] | None, between: str) -> str:
    return f"{times['median']:.2f}{between}({times['p95']:.2f})" if times else DASH


def _memory(memory: dict[str, int] | None, between: str) -> str:
    return f"{_bytes(memory['peak'])}{between}({_bytes(memory['peak'] - memory['libraries'])})" if memory else DASH


def _si(value: float | None) -> str:
    return DASH if value is None else format_si(value, " ")


def _bytes(value: float | None) -> str:
    return DASH if value is None else f"{format_si(value, ' ')}B"


def _table(title: str, heading: Sequence[str], rows: Rows) -> Table:
    """Returns a table in which names are on the left and numbers on the right. Only names may be folded."""
    table = Table(
        title=Text(title, "bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for name in heading:
        is_name = name in ("tracker", "MACs by part")
        table.add_column(Text(name), justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _markdown_table(heading: Sequence[str], rows: Rows) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
