"""The content of `comparison.json` and of the table of sequences that a comparison of trackers leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.sequences.attributes import Attributes
from evaluation.files import write_csv
from evaluation.tracking.comparison import by_attribute, differences, largest_changes
from evaluation.tracking.metrics import scores_of
from evaluation.tracking.sequence_results import SequenceResults, csv_number

CHANGES = 5  # sequences with the largest losses, and as many with the largest gains


def describe_comparison(
    results: Mapping[str, dict[str, Any]], sequences: Mapping[str, SequenceResults], attributes: Attributes | None
) -> dict[str, Any]:
    """Returns a comparison as plain data.

    Args:
        results: of each tracker by name, see `Benchmark.scores`, without "sequences". The first tracker is the one that
            the others are compared with.
        sequences: results of the sequences, by tracker.
        attributes: of the sequences; None if the data set has none.

    Returns:
        "benchmark" and "metric": the main report and its first score. "first": name of the first tracker. "trackers":
        the results, by name. "still_box", "interval_protocol": see `Benchmark.scores`. "differences": to the first
        tracker, by report, tracker and metric. "changes": the sequences with the largest losses and gains of the main
        metric, by tracker. "attributes": a list, by the main metric; "attributes_note": which file would tell more.
    """
    first, *others = results
    reports = results[first]["metrics"]
    main = next(iter(reports))
    metric = next(iter(scores_of(reports[main])))
    scores = {report: {name: found.scores[report] for name, found in sequences.items()} for report in reports}
    changes = {name: largest_changes(scores[main][first], scores[main][name], metric, CHANGES) for name in others}
    rows = by_attribute(scores[main], attributes.groups, metric) if attributes else []
    shared = ("still_box", "interval_protocol")
    return {
        "benchmark": main,
        "metric": metric,
        "first": first,
        "trackers": {name: {k: v for k, v in found.items() if k not in shared} for name, found in results.items()},
        **{key: results[first][key] for key in shared},
        "differences": {
            report: {
                name: {metric: difference.as_plain_data() for metric, difference in found.items()}
                for name, found in differences(by_tracker).items()
            }
            for report, by_tracker in scores.items()
        },
        "changes": {
            name: [change._asdict() | {"difference": change.difference} for change in found]
            for name, found in changes.items()
        },
        "attributes": [
            {
                "attribute": row.attribute,
                "sequences": row.sequences,
                "scores": row.scores,
                "differences": {name: difference.as_plain_data() for name, difference in row.differences.items()},
            }
            for row in rows
        ],
        "attributes_note": attributes.note if attributes else "",
    }


def write_sequences(path: Path, results: Mapping[str, SequenceResults], attributes: Attributes | None) -> None:
    """Writes a row for each report and sequence, with columns "<tracker> <metric>", "<tracker> lost_at", ...

    The columns in front are "benchmark", "sequence", "frames", "weight" and, if there are any, "attributes".
    """
    first = next(iter(results.values()))
    groups = attributes.groups if attributes else {}
    rows = []
    for report, scores in first.scores.items():
        for i, sequence in enumerate(scores.names):
            row = {"benchmark": report, "sequence": sequence, "frames": first.frames[i]}
            row["weight"] = csv_number(scores.weights[i])
            if groups:
                row["attributes"] = "; ".join(name for name, members in groups.items() if sequence in members)
            for name, found in results.items():
                row |= {f"{name} {metric}": csv_number(v[i]) for metric, v in found.scores[report].values.items()}
                row |= {f"{name} lost_at": csv_number(found.lost_at[i]), f"{name} fps": csv_number(found.fps[i])}
            rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    write_csv(path, columns, rows)
