"""Follows objects through a video, a camera or an address in the network: `action=video`."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.streams import StreamReader, TimedFrame, open_stream
from datamodules.streams.opening import FORMS
from evaluation.commands.evaluated_tracker import evaluated_trackers
from evaluation.errors import USER_ERRORS, UserError
from evaluation.export.video.box_files import BoxFiles
from evaluation.export.video.followed_objects import FollowedObjects
from evaluation.export.video.screen import CALL, check_screen, draw_box
from evaluation.processes.command_state import command_state
from evaluation.processes.held_signals import HeldSignals
from evaluation.processes.invocation import Invocation
from evaluation.report.files_guide import display_path, files_guide
from evaluation.report.pictures.annotated_video import AnnotatedVideo, Panel
from trackers.online import Box

MOVIE, BOXES = "video.mp4", "boxes"  # in the folder of the job
HELD = "the video ends here. A second signal ends the command at once"


def video(cfg: DictConfig, invocation: Invocation) -> None:
    """Writes a video with the boxes of all trackers, and a file of boxes for each tracker and object.

    Raises:
        UserError: a setting makes no sense. Or the source breaks off, or a tracker fails: the files hold all before.
        SystemExit: a signal ends the command; the files hold all frames before.
    """
    boxes, folder = boxes_of(cfg.box), Path(cfg.paths.job)
    if not boxes:
        check_screen()
    with StreamReader(_open_source(cfg, folder / MOVIE)) as reader:
        # A camera shows the object now, and not as it was before the trackers were loaded.
        loops = {tracker.name: tracker.open() for tracker in evaluated_trackers(cfg, invocation)}
        first = reader.take_first()
        if not boxes:
            boxes = [draw_box(first.image)]
            print("drawn: box=" + ",".join(f"{value:.1f}" for value in boxes[0]))
            cfg.box = list(boxes[0])  # for config.yaml
        trackers = [FollowedObjects(name, loop, first.image, boxes) for name, loop in loops.items()]
        OmegaConf.save(cfg, folder / "config.yaml")
        command_state.can_go_on = False
        with HeldSignals(HELD) as signals:
            recording = _Recording(trackers, reader, signals, cfg.video.frames)
            try:
                recording.run(first, folder, title=Path(str(cfg.source)).name)
            except (*USER_ERRORS, OSError) as error:  # e.g. a full disk
                reason = f"{error.strerror or error}: {folder / MOVIE}" if isinstance(error, OSError) else error
                raise UserError(f"{reason}. {recording.frames} frames before are in {display_path(folder)}/") from error
            print(f"\n{recording.summary()}\n{files_guide(folder)}")


class _Recording:
    """Follows the objects with all trackers, frame by frame, and writes what they find.

    Attributes:
        frames: number of frames that are written.
    """

    def __init__(
        self, trackers: Sequence[FollowedObjects], reader: StreamReader, signals: HeldSignals, limit: int | None
    ):
        self._trackers, self._reader, self._signals, self._limit = trackers, reader, signals, limit
        self.frames = 0

    def run(self, first: TimedFrame, folder: Path, title: str) -> None:
        """Writes all frames from the first one to the end of the source, the limit or a signal."""
        frame: TimedFrame | None = first
        count = len(self._trackers[0].found)
        with ExitStack() as opened:
            progress = opened.enter_context(_progress())
            movie = opened.enter_context(AnnotatedVideo(folder / MOVIE, title))
            files = [opened.enter_context(BoxFiles(folder / BOXES, t.name, count)) for t in self._trackers]
            length = min((n for n in (self._reader.stream.length, self._limit) if n is not None), default=None)
            words = "tracking" if length else "tracking a source without end, until Ctrl-C"
            task = progress.add_task(words, total=length)
            while frame is not None:
                if self.frames:
                    for tracker in self._trackers:
                        tracker.advance(frame.image)
                panels = [Panel(tracker.name, tracker.found, tracker.fps) for tracker in self._trackers]
                movie.write(frame.image, frame.number, frame.time, panels)
                for file, tracker in zip(files, self._trackers, strict=True):
                    file.write(frame.number, frame.time, tracker)
                self.frames += 1
                progress.advance(task)
                if self._signals.pending or self.frames == self._limit:
                    return
                frame = self._reader.take(lambda: bool(self._signals.pending))

    def summary(self) -> str:
        """Returns in one sentence how many frames there are, and how fast each tracker was."""
        speeds = ", ".join(f"{t.name} {t.fps:.1f} frames/s" for t in self._trackers if t.fps)
        skipped = f"; {self._reader.skipped} frames came while the trackers were busy, and were skipped" * bool(
            self._reader.skipped
        )
        return f"{self.frames} frames{speeds and f' (without decoding and drawing: {speeds})'}{skipped}"


def boxes_of(given: Any) -> list[Box]:
    """Returns the boxes, xywh in pixels, that the key `box` names: one, several, or none if it is null.

    Raises:
        UserError: the value is neither a box nor a list of boxes.
    """
    if given is None:
        return []
    given = OmegaConf.to_container(given) if isinstance(given, ListConfig) else given
    boxes = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    for box in boxes:
        numbers = isinstance(box, list) and all(type(value) in (int, float) and abs(value) < 1e9 for value in box)
        if not numbers or len(box) != 4:
            raise UserError(f"box={given} is no box; {CALL}, or several, e.g. 'box=[[310,180,90,140],[20,40,60,60]]'")
    return [(float(x), float(y), float(w), float(h)) for x, y, w, h in boxes]


def _open_source(cfg: DictConfig, movie: Path) -> Any:
    if cfg.source is None:
        raise UserError(f"action=video needs a source; give e.g. {FORMS}")
    if movie.exists() and Path(str(cfg.source)).resolve() == movie.resolve():
        raise UserError(f"source={cfg.source} would be replaced by the video of this command; rename it")
    return open_stream(cfg.source, cfg.video.fps)


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))
