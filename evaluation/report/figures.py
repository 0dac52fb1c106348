"""Draws the figures of a study, by section of the report."""

import re
from collections.abc import Iterator, Sequence

from evaluation.report import plots
from evaluation.report.formatting import join_words
from evaluation.report.heatmap import draw_heatmap
from evaluation.report.kept_units import kept_units_of, networks_of
from evaluation.report.rendered_figure import RenderedFigure
from evaluation.report.series import retention_series
from evaluation.report.study_results import Result, floor_of, fractions_of, leading_metric, metrics_of
from evaluation.report.tradeoffs import Tradeoff


def figures_of(finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> dict[str, list[RenderedFigure]]:
    """Returns the figures by section. A section without data is empty."""
    return {
        "retention": list(_retention(finished)),
        "cost": list(_cost(finished, tradeoffs)),
        "units": [
            draw_heatmap(_slug(f"units-{name}"), f"Units kept per group, {name}", kept_units_of(rows))
            for name, rows in networks_of(finished).items()
        ],
    }


def _retention(finished: Sequence[Result]) -> Iterator[RenderedFigure]:
    benchmark, _ = leading_metric(finished)
    ratio_of = join_words(fractions_of(finished), " or ")
    for index, metric in enumerate(metrics_of(finished, benchmark)):
        if lines := retention_series(finished, benchmark, metric):
            floor = floor_of(finished, benchmark, metric, relative=True)
            yield plots.draw_retention(_slug(f"retention-{metric}"), lines, floor, metric, ratio_of, large=index == 0)


def _cost(finished: Sequence[Result], tradeoffs: Sequence[Tradeoff]) -> Iterator[RenderedFigure]:
    benchmark, metric = leading_metric(finished)
    floor = floor_of(finished, benchmark, metric)
    for tradeoff in tradeoffs:
        cost, front = tradeoff.cost, [point for _, point in tradeoff.front]
        name = _slug(f"{metric}-{cost.slug}")
        yield plots.draw_tradeoff(name, tradeoff.series, front, floor, metric, cost.axis, cost.quantity, cost.log)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
