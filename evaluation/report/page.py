"""The page of a study, `report.html`: one file, which loads nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from evaluation.report import sentences
from evaluation.report.environment import environment
from evaluation.report.formatting import DOT, join_words
from evaluation.report.headline import headline
from evaluation.report.kept_units import networks_of, units_table
from evaluation.report.makers import maker_warnings
from evaluation.report.metric_definitions import definitions_of
from evaluation.report.pictures.examples import Examples
from evaluation.report.plots import draw_legend
from evaluation.report.rendered_figure import RenderedFigure
from evaluation.report.sections import results_sections, stability_sections
from evaluation.report.sequences_section import sequences_of
from evaluation.report.series import Series, retention_series
from evaluation.report.study_results import (
    Result,
    floor_of,
    fractions_of,
    keys_at,
    leading_metric,
    metrics_of,
    protocol_of,
    seeds_of,
    value_at,
)
from evaluation.report.tables import makers_table, provenance_table
from evaluation.report.tradeoffs import Tradeoff, front_table


def page(
    results: Sequence[Result],
    finished: Sequence[Result],
    tradeoffs: Sequence[Tradeoff],
    figures: Mapping[str, Sequence[RenderedFigure]],
    examples: Examples | None,
    title: str,
    command: str,
) -> str:
    """Returns the HTML of the page.

    Args:
        results: of all jobs, in the order of the page.
        finished: the results of the finished jobs.
        tradeoffs: see `tradeoffs_of`.
        figures: see `figures_of`.
        examples: example frames; None without a finished job.
        title: the heading of the page.
        command: the command line that repeats the study.
    """
    context = _context(results, finished, tradeoffs) | {"title": title, "command": command}
    context |= {"figures": figures, "examples": examples}
    return environment().get_template("report.html.j2").render(context)


def _context(results: Sequence[Result], finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> dict[str, Any]:
    """Returns the values that the template prints, without those that `page` is given."""
    benchmark, metric = leading_metric(finished)
    lines, floor = retention_series(finished, benchmark, metric), floor_of(finished, benchmark, metric)
    return {
        "jobs": len(results),
        "finished": len(finished),
        "failed": [result for result in results if result.get("status") != "finished"],
        "scope": [*sentences.scope(finished), *sentences.repeats(results)],
        "headline": headline(finished, lines),
        "evidence": sentences.evidence(finished, lines),
        "warnings": maker_warnings(finished),
        "keys": {
            section: _legend(section, lines, bool(floor), front, finished)
            for section, front in (("retention", False), ("cost", any(tradeoff.front for tradeoff in tradeoffs)))
        },
        "front": front_table(finished, tradeoffs),
        "metrics": definitions_of(metrics_of(finished, benchmark)),
        "benchmark": benchmark,
        "metric": metric,
        "protocol": protocol_of(finished, benchmark),
        "floor": floor,
        "seeds": len(seeds_of(finished)),
        "ratio_of": join_words(fractions_of(finished)),
        "speeds": sentences.speeds(finished),
        "results": results_sections(finished),
        "result_notes": [*_rows_of(finished), *sentences.evidence(finished, lines)],
        "intervals": sentences.intervals(finished),
        "every_job": results_sections(finished, every_job=True) if len(seeds_of(finished)) > 1 else [],
        "sequences": sequences_of(finished),
        "stability": stability_sections(results),
        "units": [(name, units_table(rows)) for name, rows in networks_of(finished).items()],
        "provenance": provenance_table(finished),
        "makers": makers_table(finished),
        "versions": _values_by_key(results, "versions"),
        "machine": _values_by_key(results, "machine"),
        "commits": sorted({str(commit) for result in results if (commit := result.get("commit"))}),
    }


def _rows_of(finished: Sequence[Result]) -> list[str]:
    """Returns what a row of the first table of results is."""
    rows = "One row for each ratio" + (", means over seeds" if len(seeds_of(finished)) > 1 else "")
    return [f"{rows}. Press a heading to sort. study.csv has one row for each job, with every field."]


def _legend(
    section: str, lines: Sequence[Series], floor: bool, front: bool, finished: Sequence[Result]
) -> list[tuple[Markup, str]]:
    """Returns the legend of a section: swatches and labels. A label names the tracker's family if results do."""
    families = {str(result.get("tracker")): result["family"] for result in finished if result.get("family")}
    legend = []
    for swatch, label in draw_legend(f"key-{section}", lines, floor, front):
        family = families.get(label.split(DOT)[0])
        legend.append((Markup(swatch), f"{label} ({family})" if family else label))
    return legend


def _values_by_key(results: Sequence[Result], key: str) -> list[tuple[str, str]]:
    """Returns the entries of the mapping at `key`, each with all values that it has among the jobs."""
    entries = []
    for name in sorted(keys_at(results, key)):
        values = {str(value) for result in results if (value := value_at(result, key, name)) is not None}
        entries.append((name, ", ".join(sorted(values))))
    return entries
