"""The files of a study: `report.html` (one file, which loads nothing), `study.csv` (one row a job), `study.md` and
`study.tex` (means over seeds), and `plots/`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.files import atomic_write
from evaluation.report import plots, sentences
from evaluation.report.costs import Tradeoff, front_table, tradeoffs_of
from evaluation.report.figures import figures_of
from evaluation.report.frames import examples_of
from evaluation.report.lines import retention_lines
from evaluation.report.plots import Series
from evaluation.report.study_results import (
    Result,
    floor_of,
    fractions_of,
    keys_at,
    leading,
    metrics_of,
    order,
    protocol_of,
    seeds_of,
    value_at,
)
from evaluation.report.tables import csv_table, main_table, provenance_table
from evaluation.report.text import latex, markdown, sections_of, stability_of
from evaluation.report.units import units_of, units_table
from evaluation.report.words import DOT, join

METRICS = {
    "AO": "Average overlap: mean intersection over union of predicted and annotated box, "
    "over all frames but each sequence\u2019s first.",
    "SR0.5": "Success rate: the share of frames whose overlap exceeds 0.5.",
    "SR0.75": "Success rate at 0.75: asks for tight boxes.",
    "AUC": "Area under the success curve: the success rate averaged over overlap thresholds from 0 to 1.",
    "P": "Precision: the share of frames whose centre lies within 20 pixels of the annotated one.",
    "OP50": "Overlap precision: the share of frames whose overlap exceeds 0.5, averaged over sequences.",
    "OP75": "The same at 0.75.",
    "P_norm": "Precision with the centre distance in units of the annotated box: the share of frames within 0.2 of it, "
    "or by the got10k profile the mean over thresholds from 0 to 0.5.",
}


def write_report(results: list[dict], folder: Path, title: str, command: str) -> Path:
    """Write the study's tables, plots and report below `folder`; returns the path of `report.html`.

    Args:
        results: the content of each job's `result.json`, in any order; a failed job may lack any key but `status`.
        folder: the study's folder, made if missing. Each file is replaced as a whole: a reader never sees half of one.
        title: the heading of the report.
        command: the command line that repeats the study.
    """
    folder, results = Path(folder), sorted(results, key=order)
    finished = [result for result in results if result.get("status") == "finished"]
    tradeoffs = tradeoffs_of(finished)
    figures = figures_of(finished, tradeoffs)
    for plot in (plot for section in figures.values() for plot in section):
        _write(folder / "plots" / f"{plot.name}.svg", plot.svg)
        _write(folder / "plots" / f"{plot.name}.png", plot.png)
    context = _context(results, finished, tradeoffs) | {"title": title, "command": command, "figures": figures}
    context["examples"] = examples_of(finished, folder) if finished else None
    sections = sections_of(results, finished)
    _write(folder / "study.csv", csv_table(results).encode())
    _write(folder / "study.md", markdown(title, command, context["headline"] + context["noise"], sections).encode())
    _write(folder / "study.tex", latex(command, sections).encode())
    _write(folder / "report.html", _environment().get_template("report.html.j2").render(context).encode())
    return folder / "report.html"


def _context(results: Sequence[Result], finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> dict[str, Any]:
    benchmark, metric = leading(finished)
    lines, floor = retention_lines(finished, benchmark, metric), floor_of(finished, benchmark, metric)
    return {
        "jobs": len(results),
        "finished": len(finished),
        "failed": [result for result in results if result.get("status") != "finished"],
        "scope": sentences.scope(finished),
        "headline": sentences.headline(finished, lines),
        "noise": sentences.noise(finished, lines),
        "keys": {
            section: _key(section, lines, bool(floor), front, finished)
            for section, front in (("retention", False), ("cost", any(tradeoff.front for tradeoff in tradeoffs)))
        },
        "front": front_table(finished, tradeoffs),
        "metrics": [(name, METRICS[name]) for name in metrics_of(finished, benchmark) if name in METRICS],
        "benchmark": benchmark,
        "metric": metric,
        "protocol": protocol_of(finished, benchmark),
        "floor": floor,
        "seeds": len(seeds_of(finished)),
        "ratio_of": join(fractions_of(finished)),
        "latency": sentences.latency(finished),
        "table": main_table(finished),
        "stability": stability_of(results),
        "units": [(name, units_table(rows)) for name, rows in units_of(finished).items()],
        "provenance": provenance_table(finished),
        "versions": _said(results, "versions"),
        "machine": _said(results, "machine"),
        "commits": sorted({str(commit) for result in results if (commit := result.get("commit"))}),
    }


def _key(
    section: str, lines: Sequence[Series], floor: bool, front: bool, finished: Sequence[Result]
) -> list[tuple[Markup, str]]:
    """A section's legend; a line says what its tracker is made of, if results do."""
    families = {str(result.get("tracker")): result["family"] for result in finished if result.get("family")}
    key = []
    for swatch, label in plots.key(f"key-{section}", lines, floor, front):
        family = families.get(label.split(DOT)[0])
        key.append((Markup(swatch), f"{label} ({family})" if family else label))
    return key


def _said(results: Sequence[Result], key: str) -> list[tuple[str, str]]:
    """Each entry of a mapping with all the values that it has among the jobs."""
    said = []
    for name in sorted(keys_at(results, key)):
        found = {str(value) for result in results if (value := value_at(result, key, name)) is not None}
        said.append((name, ", ".join(sorted(found))))
    return said


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # Always on: the template's name does not end in .html, and errors and paths in results are not ours.
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
