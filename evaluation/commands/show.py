"""Draws the boxes of trackers on the frames of a sequence: `action=show`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.sequences.table import SequenceTable
from evaluation.command_line.suggestions import did_you_mean
from evaluation.commands.evaluated_tracker import EvaluatedTracker, track, write_config
from evaluation.commands.setup import forcing_command
from evaluation.errors import UserError
from evaluation.processes.invocation import Invocation
from evaluation.report.files_guide import files_guide
from evaluation.report.pictures.shown_sequence import ShownSequence
from evaluation.study.stage import state
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.comparison import most_different
from evaluation.tracking.result_files import read_boxes


def show(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, invocation: Invocation) -> None:
    """Writes a contact sheet and a video of the sequence `cfg.show.sequence` to `show/` in the job's folder.

    Without a name, the sequence on which the trackers differ most is shown, which needs the results on all sequences. A
    named sequence is tracked alone, unless the cache has the results on all sequences.
    """
    cfg = trackers[0].cfg
    name, command = cfg.show.sequence, forcing_command(cfg, invocation)
    if name is not None:
        benchmark = _narrowed(trackers, benchmark, str(name), command)
    write_config(trackers)
    tracked = track(trackers, benchmark, command)
    boxes = {t.name: done.folder / "boxes" / benchmark.name for t, done in zip(trackers, tracked, strict=True)}
    name, note = _choose(benchmark, boxes) if name is None else (str(name), "")
    video = benchmark.sequences[benchmark.sequences.names.index(name)]
    shown = ShownSequence(video, {tracker: read_boxes(of, video) for tracker, of in boxes.items()}, note)
    target = Path(cfg.paths.job) / "show" / name
    shown.write_sheet(target.with_name(f"{name}.jpg"), cfg.show.frames)
    if cfg.show.video:
        shown.write_video(target.with_name(f"{name}.mp4"))
    print(files_guide(Path(cfg.paths.job)))


def _narrowed(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, name: str, command: str) -> Benchmark:
    """Returns the benchmark with one sequence alone, or as it is if all of it is tracked already.

    Raises:
        UserError: there is no such sequence.
    """
    table = benchmark.sequences
    if name not in table.names:
        meant = did_you_mean(name, table.names) or f"its first one is show.sequence={table.names[0]}"
        raise UserError(f"show.sequence={name} is no sequence of benchmark={benchmark.name}: {meant}")
    cache = Path(trackers[0].cfg.paths.cache) / "stages"
    if all(state(tracker.stage(benchmark, command), cache, command) == "cached" for tracker in trackers):
        return benchmark
    alone = SequenceTable.from_sequences([table[table.names.index(name)]], table.root)
    return replace(benchmark, sequences=replace(alone, generated=table.generated))


def _choose(benchmark: Benchmark, boxes: dict[str, Path]) -> tuple[str, str]:
    """Returns the sequence to show, and in words why. If no sequence can be scored, it is the first one."""
    if not benchmark.protocols or not all(video.annotated for video in benchmark.sequences):
        return benchmark.sequences.names[0], ""
    scores = {name: benchmark.scores(of)["sequences"].scores for name, of in boxes.items()}
    report = next(iter(next(iter(scores.values()))))
    by_tracker = {name: found[report] for name, found in scores.items()}
    metric = next(iter(next(iter(by_tracker.values())).values))
    chosen = most_different(by_tracker, metric)
    why = f"largest difference in {metric}" if len(boxes) > 1 else f"lowest {metric}"
    return (
        (benchmark.sequences.names[0], "")
        if chosen is None
        else (chosen, f"{why}, of {len(benchmark.sequences)} sequences")
    )
