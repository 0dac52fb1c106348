"""Writes the files of a study; `evaluation.report.write_report` is the public function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.files import write_bytes
from evaluation.report import sentences
from evaluation.report.figures import figures_of
from evaluation.report.headline import headline
from evaluation.report.latency import with_comparable_latencies
from evaluation.report.latex import latex
from evaluation.report.makers import maker_warnings
from evaluation.report.markdown import markdown
from evaluation.report.page import page
from evaluation.report.pictures.examples import examples_of
from evaluation.report.sections import sections_of
from evaluation.report.sequence_rows import with_sequences
from evaluation.report.series import retention_series
from evaluation.report.study_results import Result, leading_metric, sort_key, without_repeats
from evaluation.report.tables import csv_table
from evaluation.report.tradeoffs import tradeoffs_of


def write_files(results: Sequence[dict[str, Any]], folder: Path, title: str, command: str) -> Path:
    """Writes all files and returns the path of `report.html`; see `evaluation.report.write_report`."""
    folder = Path(folder)
    results, finished = _comparable(results, folder)
    tradeoffs = tradeoffs_of(finished)
    figures = figures_of(finished, tradeoffs)
    for figure in (figure for section in figures.values() for figure in section):
        write_bytes(folder / "plots" / f"{figure.name}.svg", figure.svg)
        write_bytes(folder / "plots" / f"{figure.name}.png", figure.png)
    lead = _lead(finished)
    sections = sections_of(results, finished)
    examples = examples_of(finished, folder) if finished else None
    write_bytes(folder / "study.csv", csv_table(results).encode())
    write_bytes(folder / "study.md", markdown(title, command, lead, sections).encode())
    write_bytes(folder / "study.tex", latex(command, sections).encode())
    write_bytes(folder / "report.html", page(results, finished, tradeoffs, figures, examples, title, command).encode())
    return folder / "report.html"


def lead_of(results: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Returns the sentences at the head of the report; see `evaluation.report.study_answer`."""
    return _lead(_comparable(results, Path(folder))[1])


def _comparable(results: Sequence[Result], folder: Path) -> tuple[list[Result], list[Result]]:
    """Returns all results in order, with latencies that can be compared, and the finished ones with their sequences."""
    ordered = with_comparable_latencies(sorted(results, key=sort_key))
    measured = without_repeats(result for result in ordered if result.get("status") == "finished")
    return ordered, with_sequences(measured, folder)


def _lead(finished: Sequence[Result]) -> list[str]:
    lines = retention_series(finished, *leading_metric(finished))
    return headline(finished, lines) + sentences.evidence(finished, lines) + maker_warnings(finished)
