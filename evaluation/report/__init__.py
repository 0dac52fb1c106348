"""The study's table, plots and report: `write_report(results, folder, title, command)`.

`results` reads result files, `lines` and `units` average them over seeds, `plots` and `heatmap` draw, `sentences` and
`tables` put them into words and cells, and `page` writes it all. Nothing is claimed that the results do not say.
"""

from evaluation.report.page import write_report

__all__ = ["write_report"]
