"""The study's table, plots and report: `write_report(results, folder, title, command)`.

`results` reads result files, `lines` and `units` average them over seeds, `stability` makes a number of a curve,
`costs` finds Pareto fronts, `plots` and `heatmap` draw, `frames` shows what trackers say, `sentences`, `tables` and
`summaries` put results into words and cells, `text` makes these Markdown and LaTeX, and `page` writes it all. Nothing
is claimed that the results do not say.
"""

from evaluation.report.page import write_report

__all__ = ["write_report"]
