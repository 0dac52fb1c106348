"""Which figures a study has, section by section."""

import re
from collections.abc import Iterator, Sequence

from evaluation.report import plots
from evaluation.report.heatmap import heatmap
from evaluation.report.lines import lines_of, retention_lines, with_parents
from evaluation.report.plots import Plot
from evaluation.report.results import Result, floor_of, fractions_of, keys_at, leading, metrics_of, reader
from evaluation.report.units import heat_of, units_of
from evaluation.report.words import join, si


def figures_of(finished: Sequence[Result]) -> dict[str, list[Plot]]:
    """The report's figures by section; a section without data is empty."""
    return {
        "retention": list(_retention(finished)),
        "cost": list(_cost(finished)),
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


def _cost(finished: Sequence[Result]) -> Iterator[Plot]:
    benchmark, metric = leading(finished)
    results, floor = with_parents(finished), floor_of(finished, benchmark, metric)
    costs = [
        *((f"latency-{device}", f"latency on {device} (ms)", ("latency", device, "ms"), "{:g}".format, False)
          for device in keys_at(results, "latency")),
        ("params", "parameters", ("params",), si, True),
        ("macs", "MACs of one forward pass", ("macs", "total"), si, True),
    ]  # fmt: skip
    for name, label, path, quantity, log in costs:
        if lines := lines_of(results, reader(*path), reader("metrics", benchmark, metric)):
            yield plots.tradeoff(_slug(f"{metric}-{name}"), lines, floor, metric, label, quantity, log)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
