"""The report of a study: `write_report(results, folder, title, command)`.

`study_results` and `sequence_rows` read the files of jobs, and `latency` makes latencies comparable between jobs.
`estimates` are means over seeds with intervals, and `series` are lines of them. `stability` summarises
`retention_curves` in numbers, and `tradeoffs` finds Pareto fronts. `headline`, `sentences`, `evidence` and the modules
of tables turn results into words and cells; `markdown`, `latex` and `page` write them. `plots` and `heatmap` draw, and
`pictures` shows boxes of trackers on frames. Every statement in the report is computed from the results.

`comparison` reports on several trackers, and `result_table` and `files_guide` are what a command prints at its end.
"""

from pathlib import Path
from typing import Any


def write_report(results: list[dict[str, Any]], folder: Path, title: str, command: str) -> Path:
    """Writes the study's tables, plots and report below `folder`.

    The files are `report.html` (one file, which loads nothing), `study.csv` (one row per job), `study.md` and
    `study.tex` (means over seeds), and `plots/`. Each file is replaced atomically.

    Args:
        results: the content of each job's `result.json`, in any order. A failed job may lack any key but `status`.
        folder: of the study; it is made if it is missing.
        title: the heading of the report.
        command: the command line that repeats the study.

    Returns:
        The path of `report.html`.
    """
    # Imported here, since matplotlib and jinja2 take half a second and most users of this package only read results.
    from evaluation.report.study_files import write_files

    return write_files(results, folder, title, command)


def study_answer(results: list[dict[str, Any]], folder: Path) -> str:
    """Returns what a study says, in at most 80 columns: the sentences at the head of its report.

    Args:
        results: see `write_report`.
        folder: of the study.
    """
    from evaluation.report.formatting import wrapped
    from evaluation.report.study_files import lead_of

    return "\n".join(map(wrapped, lead_of(results, folder)))
