"""Which figures a study has, section by section."""

import re
from collections.abc import Iterator, Sequence

from evaluation.report import plots
from evaluation.report.costs import Tradeoff
from evaluation.report.heatmap import heatmap
from evaluation.report.lines import retention_lines
from evaluation.report.plots import Plot
from evaluation.report.study_results import Result, floor_of, fractions_of, leading, metrics_of
from evaluation.report.units import heat_of, units_of
from evaluation.report.words import join


def figures_of(finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> dict[str, list[Plot]]:
    """The study's figures by section; a section without data is empty."""
    return {
        "retention": list(_retention(finished)),
        "cost": list(_cost(finished, tradeoffs)),
        "units": [
            heatmap(_slug(f"units-{name}"), f"Units kept per group, {name}", heat_of(rows))
            for name, rows in units_of(finished).items()
        ],
    }


def _retention(finished: Sequence[Result]) -> Iterator[Plot]:
    benchmark, _ = leading(finished)
    of = join(fractions_of(finished), " or ")
    for index, metric in enumerate(metrics_of(finished, benchmark)):
        if lines := retention_lines(finished, benchmark, metric):
            floor = floor_of(finished, benchmark, metric, relative=True)
            yield plots.retention(_slug(f"retention-{metric}"), lines, floor, metric, of, large=index == 0)


def _cost(finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> Iterator[Plot]:
    benchmark, metric = leading(finished)
    floor = floor_of(finished, benchmark, metric)
    for tradeoff in tradeoffs:
        cost, front = tradeoff.cost, [point for _, point in tradeoff.front]
        name = _slug(f"{metric}-{cost.slug}")
        yield plots.tradeoff(name, tradeoff.series, front, floor, metric, cost.axis, cost.quantity, cost.log)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
