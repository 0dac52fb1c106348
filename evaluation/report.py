"""The study's table and report, from the result files of its jobs.

`write_report` leaves `study.csv` (one row a job), `report.html` (one file, no request to anywhere) and `plots/`.
Every sentence and number in the report is computed from the results; nothing is claimed that they do not say.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation import plots
from evaluation.files import replacing
from evaluation.plots import Heat, Plot, Point, Series

DASH, DOT = "\N{EN DASH}", "\N{NO-BREAK SPACE}\N{MIDDLE DOT}\N{NO-BREAK SPACE}"
KEEPS = 0.9  # the headline asks for the smallest ratio that retains at least this much
RATIO_OF = {"params": "parameters", "macs": "MACs", "units": "gated units"}
METRICS = {
    "AO": "Average overlap: mean intersection over union of predicted and annotated box, over all but first frames.",
    "SR0.5": "Success rate: the share of frames whose overlap exceeds 0.5.",
    "SR0.75": "Success rate at 0.75: asks for tight boxes.",
    "AUC": "Area under the success curve: the success rate averaged over overlap thresholds from 0 to 1.",
    "P": "Precision: the share of frames whose centre lies within 20 pixels of the annotated one.",
    "P_norm": "Precision with the centre distance in units of the annotated box, averaged over thresholds.",
}
STAGES = ("parent", "sparsity", "child", "evaluation")
COLUMNS = (
    *("job", "status", "tracker", "scale", "method", "seed", "ratio", "ratio_of", "ratio_achieved", "params", "macs"),
    *("units", "metrics", "retention", "still_box", "latency", "masked_vs_compacted", "parent", "seconds"),
    *("config_hash", "versions", "folder", "error", "command"),
)

Result = dict[str, Any]
Identity = tuple[Any, ...]  # what one line of a figure stands for: tracker, scale, method, ratio_of


@dataclass(frozen=True)
class Cell:
    """A table cell: what it shows, and what it sorts by (None: always last)."""

    text: str
    sort: str | float | None


@dataclass(frozen=True)
class Column:
    """A table column: a heading under a heading, and the cell of a result."""

    group: str
    label: str
    number: bool
    cell: Callable[[Result], Cell]


def write_report(results: list[dict], folder: Path, title: str, command: str) -> Path:
    """Write the study's CSV, plots and report below `folder`; returns the path of `report.html`.

    Args:
        results: the content of each job's `result.json`, in any order; a failed job may lack any key but `status`.
        folder: the study's folder, made if missing. Each file is replaced as a whole: a reader never sees half of one.
        title: the heading of the report.
        command: the command line that repeats the study.
    """
    folder, results = Path(folder), sorted(results, key=_order)
    finished = [result for result in results if result.get("status") == "finished"]
    figures = _figures(finished)
    for plot in (plot for section in figures.values() for plot in section):
        _write(folder / "plots" / f"{plot.name}.svg", plot.svg)
        _write(folder / "plots" / f"{plot.name}.png", plot.png)
    context = _context(results, finished) | {"title": title, "command": command, "figures": figures}
    _write(folder / "study.csv", _csv(results).encode())
    _write(folder / "report.html", _environment().get_template("report.html.j2").render(context).encode())
    return folder / "report.html"


def _context(results: Sequence[Result], finished: Sequence[Result]) -> dict[str, Any]:
    benchmark, metric = _first(_benchmarks(finished)), _first(_metrics(finished))
    lines, floor = _lines(finished, benchmark, metric), _floors(finished)
    return {
        "jobs": len(results),
        "finished": len(finished),
        "failed": [result for result in results if result.get("status") != "finished"],
        "scope": _scope(finished),
        "headline": _headline(finished, lines),
        "noise": _noise(finished, lines),
        "keys": {
            section: [(Markup(swatch), label) for swatch, label in plots.key(f"key-{section}", lines, bool(floor))]
            for section in ("retention", "cost")
        },
        "metrics": [(metric, METRICS[metric]) for metric in _metrics(finished) if metric in METRICS],
        "benchmark": benchmark,
        "metric": metric,
        "protocol": _protocol(finished, benchmark),
        "floor": floor,
        "seeds": len(_seeds(finished)),
        "ratio_of": _join(sorted({_of(result) for result in finished})),
        "latency": _latency_protocols(finished),
        "table": _rows(finished, _table(finished)),
        "units": [(name, rows, _units_table(rows)) for name, rows in _units_of(finished).items()],
        "provenance": _rows(finished, _provenance(finished)),
        "versions": _versions(results),
    }


# --- reading results -------------------------------------------------------------------------------------------------


def _get(result: Result, *path: str) -> Any:
    """What lies at `path`, None where anything on the way is missing."""
    value: Any = result
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _number(result: Result, *path: str) -> float | None:
    value = _get(result, *path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _order(result: Result) -> tuple:
    ratio = _number(result, "ratio")
    keys = (result.get("tracker"), result.get("method"), result.get("seed"), None if ratio is None else -ratio)
    # What is missing (failed jobs) goes last; None itself does not compare.
    return (*((key is None, "" if key is None else key) for key in keys), str(result.get("job")))


def _identity(result: Result) -> Identity:
    return tuple(result.get(key) for key in ("tracker", "scale", "method", "ratio_of"))


def _of(result: Result) -> str:
    return RATIO_OF.get(str(result.get("ratio_of")), str(result.get("ratio_of")))


def _first(values: Sequence[str]) -> str:
    return values[0] if values else ""


def _keys(results: Iterable[Result], *path: str) -> list[str]:
    """The keys at `path` over all results, in order of appearance."""
    return list(dict.fromkeys(key for result in results for key in _get(result, *path) or ()))


def _benchmarks(results: Sequence[Result]) -> list[str]:
    return _keys(results, "metrics")


def _metrics(results: Sequence[Result], benchmark: str | None = None) -> list[str]:
    """The metrics of a benchmark (default: the first): its numbers, but for the counts beside them."""
    path = ("metrics", benchmark or _first(_benchmarks(results)))
    return [
        key
        for key in _keys(results, *path)
        if key not in ("sequences", "frames") and any(_number(result, *path, key) is not None for result in results)
    ]


def _seeds(results: Iterable[Result]) -> set[Any]:
    return {result.get("seed") for result in results}


def _protocol(results: Iterable[Result], benchmark: str) -> str:
    found = (_get(result, "metrics", benchmark, "protocol") for result in results)
    return " / ".join(dict.fromkeys(str(protocol) for protocol in found if protocol))


def _retention(result: Result, benchmark: str, metric: str) -> float | None:
    """As stored; a dense job that stores none is its own parent."""
    stored = _number(result, "retention", benchmark, metric)
    dense = result.get("ratio") == 1 and _number(result, "metrics", benchmark, metric)
    return 1.0 if stored is None and dense else stored


def _floors(results: Sequence[Result], metric: str | None = None, relative: bool = False) -> tuple[float, float] | None:
    """Smallest and largest score of the still box in the first benchmark, `relative` to each result's parent or not."""
    path = (_first(_benchmarks(results)), metric or _first(_metrics(results)))
    scores = []
    for result in results:
        score = _number(result, "still_box", *path)
        parent = _number(result, *(() if result.get("ratio") == 1 else ("parent",)), "metrics", *path)
        if score is not None and (parent or not relative):
            scores.append(score / parent if relative else score)
    return (min(scores), max(scores)) if scores else None


# --- lines and figures -----------------------------------------------------------------------------------------------


def _labels(results: Sequence[Result]) -> dict[Identity, str]:
    """A name for each line: its tracker, and of the rest only what differs within the study."""
    identities = sorted({_identity(result) for result in results}, key=str)
    varies = [index == 0 or len(set(column)) > 1 for index, column in enumerate(zip(*identities, strict=True))]
    return {
        identity: DOT.join(str(part) for part, shown in zip(identity, varies, strict=True) if shown)
        for identity in identities
    }


def _with_parents(results: Sequence[Result]) -> list[Result]:
    """The results, and for lines without a dense job their parent in its place: the point that retention refers to."""
    dense = {(_identity(result), result.get("seed")) for result in results if result.get("ratio") == 1}
    parents = {}
    for result in results:
        at = (_identity(result), result.get("seed"))
        if at not in dense and result.get("parent"):
            kept = {key: result.get(key) for key in ("tracker", "scale", "method", "ratio_of", "seed", "still_box")}
            parents[at] = kept | result["parent"] | {"ratio": 1}
    return [*parents.values(), *results]


def _series(
    results: Sequence[Result], x: Callable[[Result], float | None], y: Callable[[Result], float | None]
) -> list[Series]:
    """One line an identity, one point a ratio: x and y averaged over the seeds that have both."""
    labels = _labels(results)
    trackers = list(dict.fromkeys(identity[0] for identity in labels))
    lines = []
    for index, (identity, label) in enumerate(labels.items()):
        hue = index if len(trackers) == 1 else trackers.index(identity[0])
        dash = [other for other in labels if other[0] == identity[0]].index(identity)
        members = [result for result in results if _identity(result) == identity]
        lines.append(Series(label, hue, dash, tuple(_points(members, x, y))))
    return [line for line in lines if line.points]


def _points(
    results: Sequence[Result], x: Callable[[Result], float | None], y: Callable[[Result], float | None]
) -> Iterator[Point]:
    for ratio in sorted({result["ratio"] for result in results if _number(result, "ratio")}, reverse=True):
        pairs = [(x(result), y(result)) for result in results if result.get("ratio") == ratio]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            xs, ys = zip(*pairs, strict=True)
            yield Point(_mean(xs), _mean(ys), min(ys), max(ys), f"{ratio:g}")


def _lines(finished: Sequence[Result], benchmark: str, metric: str) -> list[Series]:
    """Retention against ratio."""
    kept = partial(_retention, benchmark=benchmark, metric=metric)
    return _series(_with_parents(finished), partial(_at, ("ratio",)), kept)


def _figures(finished: Sequence[Result]) -> dict[str, list[Plot]]:
    """The report's figures by section; a section without data is empty."""
    return {
        "retention": list(_retention_figures(finished)),
        "cost": list(_cost_figures(finished)),
        "units": [
            plots.heatmap(_slug(f"units-{name}"), f"Units kept per group, {name}", _heat(rows))
            for name, rows in _units_of(finished).items()
        ],
    }


def _retention_figures(finished: Sequence[Result]) -> Iterator[Plot]:
    benchmark, of = _first(_benchmarks(finished)), _join(sorted({_of(result) for result in finished}), " or ")
    for index, metric in enumerate(_metrics(finished)):
        if lines := _lines(finished, benchmark, metric):
            floor = _floors(finished, metric, relative=True)
            yield plots.retention(_slug(f"retention-{metric}"), lines, floor, metric, of, large=index == 0)


def _cost_figures(finished: Sequence[Result]) -> Iterator[Plot]:
    results, floor = _with_parents(finished), _floors(finished)
    benchmark, metric = _first(_benchmarks(finished)), _first(_metrics(finished))
    costs = [
        *((f"latency-{device}", f"latency on {device} (ms)", ("latency", device, "ms"), "{:g}".format, False)
          for device in _keys(results, "latency")),
        ("params", "parameters", ("params",), _si, True),
        ("macs", "MACs of one forward pass", ("macs", "total"), _si, True),
    ]  # fmt: skip
    for name, label, path, quantity, log in costs:
        lines = _series(results, partial(_at, path), partial(_at, ("metrics", benchmark, metric)))
        if lines:
            yield plots.tradeoff(_slug(f"{metric}-{name}"), lines, floor, metric, label, quantity, log)


def _at(path: Sequence[str], result: Result) -> float | None:
    return _number(result, *path)


def _units_of(finished: Sequence[Result]) -> dict[str, dict[str, list[Result]]]:
    """For each network (tracker and scale): its rows by label, each with its results, one a seed."""
    results = [result for result in finished if result.get("units")]
    name_keys = ["tracker", *(["scale"] if len({result.get("scale") for result in results}) > 1 else [])]
    row_keys = [key for key in ("method", "ratio_of") if len({result.get(key) for result in results}) > 1]
    networks: dict[str, dict[str, list[Result]]] = {}
    # Not the order of the jobs: a ratio that the first seed lacks belongs between its neighbours, too.
    for result in sorted(results, key=lambda result: (*_text_of(result, (*name_keys, *row_keys)), -result["ratio"])):
        name = DOT.join(_text_of(result, name_keys))
        row = " ".join([*_text_of(result, row_keys), f"{result['ratio']:g}"])
        networks.setdefault(name, {}).setdefault(row, []).append(result)
    return networks


def _text_of(result: Result, keys: Iterable[str]) -> list[str]:
    return [str(result.get(key)) for key in keys]


def _heat(rows: dict[str, list[Result]]) -> Heat:
    groups = _keys((result for results in rows.values() for result in results), "units")
    kept = tuple(tuple(_kept(results, group) for group in groups) for results in rows.values())
    methods = [_identity(results[0]) for results in rows.values()]
    breaks = tuple(index for index, method in enumerate(methods) if index and method != methods[index - 1])
    return Heat(tuple(rows), tuple(groups), kept, breaks)


def _kept(results: Sequence[Result], group: str) -> float | None:
    """Mean kept fraction of a group over seeds."""
    pairs = [(_number(result, "units", group, "kept"), _number(result, "units", group, "size")) for result in results]
    fractions = [kept / size for kept, size in pairs if kept is not None and size]
    return _mean(fractions) if fractions else None


# --- sentences -------------------------------------------------------------------------------------------------------


def _scope(finished: Sequence[Result]) -> list[str]:
    """What the numbers stand on: for each benchmark its protocol and size."""
    notes = []
    for benchmark in _benchmarks(finished):
        parts = [f"{protocol} protocol"] if (protocol := _protocol(finished, benchmark)) else []
        for count in ("sequences", "frames"):
            found = {_number(result, "metrics", benchmark, count) for result in finished} - {None}
            parts += [" or ".join(f"{value:,}" for value in sorted(found)) + f" {count}"] if found else []
        notes.append(f"{benchmark}: " + ", ".join(parts))
    return notes


def _headline(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    metric, benchmark = _first(_metrics(finished)), _first(_benchmarks(finished))
    if not finished:
        return ["No job finished, so there is nothing to compare yet."]
    pruned = [line for line in lines if any(point.x < 1 for point in line.points)]
    if not pruned:
        return list(_dense_headline(finished, benchmark, metric))
    scores = _series(_with_parents(finished), partial(_at, ("ratio",)), partial(_at, ("metrics", benchmark, metric)))
    relative = _floors(finished, metric, relative=True)
    return [*_threshold(pruned, metric), *_smallest(pruned, metric, relative), *_lost(scores, _floors(finished))]


def _dense_headline(finished: Sequence[Result], benchmark: str, metric: str) -> Iterator[str]:
    floor = _floors(finished)
    scores = _series(finished, partial(_at, ("ratio",)), partial(_at, ("metrics", benchmark, metric)))
    for line in scores:
        point = line.points[0]
        yield f"{line.label} reaches {metric} {point.mean:.3f} on {benchmark} at ratio {point.label}."
    if floor and scores:
        yield f"A box that never moves reaches {_range(floor, '{:.3f}')}."
    yield from _lost(scores, floor)


def _threshold(lines: Sequence[Series], metric: str) -> Iterator[str]:
    """The smallest ratio down to which every tested one retains `KEEPS`."""
    holds: dict[float, list[str]] = {}
    fails = []
    for line in lines:
        held = [point.x for point in takewhile(lambda point: point.mean >= KEEPS, line.points) if point.x < 1]
        if held:
            holds.setdefault(min(held), []).append(line.label)
        else:
            fails.append(line.label)
    below = f"{_join(fails)} {'falls' if len(fails) == 1 else 'fall'}" if fails else ""
    if holds:
        listed = "; ".join(f"{ratio:g} for {_join(labels)}" for ratio, labels in sorted(holds.items()))
        also = f"; {below} below that at the first pruned ratio" if fails else ""
        yield f"At least {KEEPS:.0%} of the parent\u2019s {metric} is retained down to ratio {listed}{also}."
    else:
        yield f"At the first pruned ratio {below} below {KEEPS:.0%} of the parent\u2019s {metric}."


def _smallest(lines: Sequence[Series], metric: str, floor: tuple[float, float] | None) -> Iterator[str]:
    """Who retains how much at the smallest ratio that all lines have, against the still box."""
    common = set.intersection(*({point.x for point in line.points if point.x < 1} for line in lines))
    if not common:
        return
    ratio = min(common)
    kept = {line.label: point.mean for line in lines for point in line.points if point.x == ratio}
    ranked = sorted(kept.items(), key=lambda item: -item[1])
    listed = _join([f"{value:.0%} for {label}" for label, value in ranked])
    box = f"; a box that never moves reaches {_range(floor, '{:.0%}')}" if floor else ""
    which = "the smallest tested" if len(lines) == 1 else "the smallest that all share"
    yield f"At ratio {ratio:g}, {which}, {metric} retention is {listed}{box}."


def _lost(scores: Sequence[Series], floor: tuple[float, float] | None) -> Iterator[str]:
    """From where on lines are no better than a box that never moves; by the metric itself, as parents differ."""
    listed = []
    for line in scores if floor else ():
        lost = [point.x for point in takewhile(lambda point: point.mean <= floor[1], reversed(line.points))]
        if lost:
            listed.append(f"{line.label} {'at' if len(lost) == 1 else 'from'} ratio {max(lost):g}")
            listed[-1] += "" if len(lost) == 1 else " down"
    if listed:
        yield f"No better than a box that never moves: {_join(listed)}."


def _noise(finished: Sequence[Result], lines: Sequence[Series]) -> list[str]:
    """What is known about the spread between trainings."""
    seeds, metric = len(_seeds(finished)), _first(_metrics(finished))
    if not finished:
        return []
    if seeds == 1:
        return ["One seed: the spread between trainings is not known, so small differences are not evidence."]
    spans = [(point.high - point.low, line.label, point.label) for line in lines for point in line.points]
    widest, label, ratio = max(spans, default=(0, "", ""))
    if not widest:
        return [f"{seeds} seeds, but none that differ at one ratio: the spread between trainings is not known."]
    return [
        f"{seeds} seeds: lines are means, bands and bars span the smallest to the largest seed. The widest span of "
        f"{metric} retention is {100 * widest:.0f} points ({label}, ratio {ratio}); "
        "differences within it are not evidence."
    ]


def _latency_protocols(finished: Sequence[Result]) -> list[str]:
    notes = []
    for device in _keys(finished, "latency"):
        for result in finished:
            protocol, threads = (_get(result, "latency", device, key) for key in ("protocol", "threads"))
            if protocol:
                notes.append(f"{device}: {protocol}" + (f", {threads} threads" if threads else ""))
    return list(dict.fromkeys(notes))


def _versions(results: Sequence[Result]) -> list[tuple[str, str]]:
    return [
        (package, ", ".join(sorted({str(found) for result in results if (found := _get(result, "versions", package))})))
        for package in sorted(_keys(results, "versions"))
    ]


# --- tables ----------------------------------------------------------------------------------------------------------


def _rows(results: Sequence[Result], columns: Sequence[Column]) -> dict[str, Any]:
    """A table for the template: heading groups with their widths, columns, cells; empty columns are left out."""
    columns = [column for column in columns if any(column.cell(result).sort is not None for result in results)]
    groups: list[list] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1][1] += 1
        else:
            groups.append([column.group, 1])
    rows = [[column.cell(result) for column in columns] for result in results]
    return {"groups": groups, "columns": columns, "rows": rows}


def _table(finished: Sequence[Result]) -> list[Column]:
    columns = [
        _text("", "Tracker", "tracker"),
        _text("", "Scale", "scale"),
        _text("", "Method", "method"),
        _text("", "Seed", "seed"),
        _numeric("Kept", "Ratio", "{:g}".format, "ratio"),
        _numeric("Kept", "Achieved", "{:.4f}".format, "ratio_achieved"),
        _numeric("Size", "Parameters", "{:,.0f}".format, "params"),
        _numeric("Size", "MACs (M)", lambda value: f"{value / 1e6:,.2f}", "macs", "total"),
    ]
    for benchmark in _benchmarks(finished):
        group = DOT.join(filter(None, (benchmark, _protocol(finished, benchmark))))
        metrics = _metrics(finished, benchmark)
        columns += [_numeric(group, metric, "{:.3f}".format, "metrics", benchmark, metric) for metric in metrics]
        columns += [_retention_column(group, benchmark, metric) for metric in metrics[:1]]
    for device in _keys(finished, "latency"):
        columns.append(_numeric("Latency (ms)", device, "{:.2f}".format, "latency", device, "ms"))
    return columns


def _provenance(finished: Sequence[Result]) -> list[Column]:
    return [
        _text("", "Job", "job"),
        _text("", "Config", "config_hash"),
        *(_stage(stage) for stage in dict.fromkeys((*STAGES, *_keys(finished, "seconds")))),
        _numeric("", "Masked vs compacted", "{:.1e}".format, "masked_vs_compacted"),
        _text("", "Folder", "folder"),
    ]


def _text(group: str, label: str, key: str) -> Column:
    def cell(result: Result) -> Cell:
        value = result.get(key)
        return Cell(DASH if value is None else str(value), value if isinstance(value, int | None) else str(value))

    return Column(group, label, key == "seed", cell)


def _numeric(group: str, label: str, form: Callable[[float], str], *path: str) -> Column:
    def cell(result: Result) -> Cell:
        value = _number(result, *path)
        return Cell(DASH if value is None else form(value), value)

    return Column(group, label, True, cell)


def _retention_column(group: str, benchmark: str, metric: str) -> Column:
    def cell(result: Result) -> Cell:
        value = _retention(result, benchmark, metric)
        return Cell(DASH if value is None else f"{value:.1%}", value)

    return Column(group, f"{metric} retention", True, cell)


def _stage(stage: str) -> Column:
    def cell(result: Result) -> Cell:
        value, seconds = _get(result, "seconds", stage), _number(result, "seconds", stage)
        return Cell(DASH if value is None else "cached" if seconds is None else f"{seconds:,.1f}", seconds)

    return Column("Seconds", stage.capitalize(), True, cell)


def _units_table(rows: dict[str, list[Result]]) -> list[tuple[str, str, str, list[str]]]:
    """For each group: name, kind, size, and the kept units of each row (mean over seeds)."""
    results = [result for members in rows.values() for result in members]
    table = []
    for group in _keys(results, "units"):
        unit = next(result["units"][group] for result in results if group in result["units"])
        kept = [
            [value for result in members if (value := _number(result, "units", group, "kept")) is not None]
            for members in rows.values()
        ]
        cells = [f"{round(_mean(values), 1):g}" if values else DASH for values in kept]
        table.append((group, str(unit.get("kind", DASH)), str(unit.get("size", DASH)), cells))
    return table


def _csv(results: Sequence[Result]) -> str:
    """One row a job; a column's name is its path in `result.json`, so nothing needs a legend."""
    known = {key: index for index, key in enumerate(COLUMNS)}
    rows = [dict(_flat(result)) for result in results]
    found = dict.fromkeys(key for row in rows for key in row)
    columns = sorted(found, key=lambda key: known.get(key.split(".")[0], len(known)))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if path.split(".")[-1] == "units" and isinstance(value, dict):
        # Per group it is in the job's own file; columns that differ with the tracker would make the table unreadable.
        for count in ("kept", "size"):
            yield f"{path}.{count}", sum(unit.get(count) or 0 for unit in value.values())
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value) if isinstance(value, list) else value


# --- small things ----------------------------------------------------------------------------------------------------


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # Always on: the template's name does not end in .html, and errors and paths in results are not ours.
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _join(words: Sequence[str], last: str = " and ") -> str:
    return last.join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _range(pair: tuple[float, float], form: str) -> str:
    low, high = (form.format(value) for value in pair)
    return low if low == high else f"{low} to {high}"


def _si(value: float) -> str:
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}\u202f{suffix}"
    return f"{value:.3g}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
