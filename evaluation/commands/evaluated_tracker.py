"""The trackers that a command evaluates: one, or several that it compares."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from evaluation.commands.checkpoint_kinds import has_recipe, identity_of, reading_of, size_in
from evaluation.commands.runtimes import one_runtime
from evaluation.commands.setup import resolve, settle
from evaluation.errors import UserError
from evaluation.processes.command_state import command_state
from evaluation.processes.devices import arithmetic
from evaluation.processes.folder_names import OF_ANY_JOB, checkpoint_name, has_dated_folder, name_part
from evaluation.processes.invocation import Invocation
from evaluation.study.job_records import record_job
from evaluation.study.stage import FinishedStage, Stage, ensure, position
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.benchmark_run import run_benchmark
from evaluation.tracking.result_files import tracking_progress
from trackers.exported import ExportedTracker, is_export
from trackers.loading import read_tracker
from trackers.online import Lockstep, Openable

EXAMPLE = "e.g. checkpoint=[weights/ostrack_tiny.safetensors,weights/stark_tiny.safetensors]"


@dataclass(frozen=True)
class EvaluatedTracker:
    """A tracker that is evaluated.

    Attributes:
        name: short, unique among the trackers of the command.
        cfg: the configuration for this tracker alone, resolved: `cfg.checkpoint` is its file, the folder of an export,
            or the name of one of OpenCV's trackers.
        identity: of the checkpoint, plain data for a cache key.
        changes: of the recipe in the checkpoint, which the command asks for; the same for all trackers.
    """

    name: str
    cfg: DictConfig
    identity: Any
    changes: Any

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of `read_tracker` and `load_tracker`."""
        return reading_of(self.cfg)

    def read(self) -> Openable:
        """Returns the tracker, which is not opened in a runtime yet."""
        return read_tracker(**self.reading)

    def open(self) -> Lockstep:
        """Returns the online loop with the tracker.

        Raises:
            UserError: `runtime` names several runtimes.
            TrackerError: the runtime is not installed, or does not run on the device.
        """
        return Lockstep(self.read(), self.cfg.device, one_runtime(self.cfg.runtime), self.cfg.threads)

    def size(self) -> dict[str, Any]:
        """Returns "params", "macs" and "bytes", as far as they are known."""
        return size_in(self.read(), str(self.cfg.checkpoint))

    def stage(self, benchmark: Benchmark, command: str) -> Stage:
        """Returns the stage that tracks the benchmark; see `forcing_command` for `command`.

        Raises:
            UserError: `runtime` names several runtimes.
            TrackerError: `runtime` does not read the export.
        """
        settings: Any = OmegaConf.to_container(self.cfg)
        keys = {key: settings[key] for key in ("tracker", "gates")} | {"checkpoint": self.identity}
        keys["arithmetic"] = arithmetic(self.cfg.runner.devices)
        runtime = one_runtime(self.cfg.runtime)
        if runtime is not None and is_export(self.cfg.checkpoint):  # here, since the cache may know other results
            ExportedTracker.read(self.cfg.checkpoint).check_reader(runtime)
        if runtime not in (None, "eager"):  # results that were tracked before there were others keep their keys
            keys["runtime"] = runtime
        runner = instantiate(self.cfg.runner, runtime=runtime, threads=self.cfg.threads)

        def make(folder: Path) -> None:
            read = partial(read_tracker, **self.reading)
            run_benchmark(runner, read, benchmark, folder, tracker=keys, reuse=not command)

        def progress(folder: Path) -> str:
            return tracking_progress(folder / "boxes" / benchmark.name, benchmark.sequences)

        return Stage("evaluation", keys | benchmark.tracking_inputs(), make, progress=progress)


def evaluated_trackers(cfg: DictConfig, invocation: Invocation) -> list[EvaluatedTracker]:
    """Returns the trackers that `cfg.checkpoint` names: one value, or a list. `cfg.tracker` changes all recipes.

    Raises:
        UserError: the list is empty or names a file twice, a file holds no tracker, or `cfg.tracker` changes the recipe
            of an export or of a tracker of OpenCV.
        TrackerError: an export is damaged, or the installed OpenCV lacks a tracker.
    """
    trackers = []
    for name, path in named_checkpoints(cfg.checkpoint).items():
        own = copy.deepcopy(cfg)
        own.checkpoint = path
        changes = OmegaConf.to_container(cfg.tracker)
        if has_recipe(path):
            complete, source = resolve(own, invocation, completes_recipe=True)
            identity = source.identity
        elif changes:
            raise UserError(f"checkpoint={path} has no recipe that +tracker could change; leave the changes out")
        else:
            complete = settle(own, invocation)
            read_tracker(**reading_of(complete))
            identity = identity_of(complete)
        trackers.append(EvaluatedTracker(name, complete, identity, changes))
    return trackers


def named_checkpoints(given: Any) -> dict[str, str]:
    """Returns the values of `checkpoint` by short unique names.

    Args:
        given: a path, or a list of paths.

    Raises:
        UserError: the list is empty, or names a file twice.
    """
    paths = [str(path) for path in given] if isinstance(given, ListConfig) else [str(given)]
    if not paths:
        raise UserError(f"checkpoint=[] names no tracker; {EXAMPLE}")
    repeated = [path for path, count in Counter(Path(path).resolve() for path in paths).items() if count > 1]
    if repeated:
        raise UserError(f"checkpoint names {repeated[0]} more than once; name each tracker once, {EXAMPLE}")
    return dict(zip(tracker_names(paths), paths, strict=True))


def track(trackers: Sequence[EvaluatedTracker], benchmark: Benchmark, command: str) -> list[FinishedStage]:
    """Tracks the benchmark with each tracker, unless the cache has its result files."""
    cfg = trackers[0].cfg
    cache, stages = Path(cfg.paths.cache) / "stages", [tracker.stage(benchmark, command) for tracker in trackers]
    record_job(cache, Path(cfg.paths.job), [stage.key for stage in stages])
    command_state.begin_job(partial(position, stages, cache, command))
    return [ensure(stage, cache, command) for stage in stages]


def write_config(trackers: Sequence[EvaluatedTracker]) -> None:
    """Writes `config.yaml` into the job's folder. Of several trackers it has the changes, and no recipe."""
    cfg = copy.deepcopy(trackers[0].cfg)
    if len(trackers) > 1:
        cfg.checkpoint = [str(tracker.cfg.checkpoint) for tracker in trackers]
        OmegaConf.update(cfg, "tracker", trackers[0].changes, merge=False)
    OmegaConf.save(cfg, Path(cfg.paths.job) / "config.yaml")


def only_tracker(trackers: Sequence[EvaluatedTracker], action: str) -> EvaluatedTracker:
    """Returns the only tracker.

    Raises:
        UserError: there are several.
    """
    if len(trackers) > 1:
        paths = ",".join(str(tracker.cfg.checkpoint) for tracker in trackers)
        raise UserError(
            f"action={action} takes one checkpoint; for one after the other, give -m checkpoint={paths} without folder "
            "and archive, so that each is written to its own job"
        )
    return trackers[0]


def makers_of(tracked: FinishedStage) -> dict[str, Any]:
    """Returns which stage has the boxes, and what made it; that may be another commit on another machine."""
    return {"evaluation": {"key": tracked.folder.name} | tracked.provenance}


def tracker_names(paths: Sequence[str]) -> list[str]:
    """Returns a short unique name for each checkpoint, which is a relative path of a folder.

    It is the name as in folder names. Where names are equal, more folders stand in front. Where these are equal, too,
    it is the name of the file, and at last its place in the list.

    Args:
        paths: of different files.
    """
    names, folders = list(map(checkpoint_name, paths)), list(map(_unnamed_folders, paths))
    while (repeated := _repeated(names)) and any(folders[i] for i in repeated):
        for i in repeated:
            names[i] = "/".join([*map(name_part, folders[i][-1:]), names[i]])
            del folders[i][-1:]
    for i in repeated:
        names[i] = name_part(Path(paths[i]).name)
    for i in _repeated(names):
        names[i] = f"{names[i]}_{i + 1}"
    return names


def _repeated(names: Sequence[str]) -> list[int]:
    return [i for i, name in enumerate(names) if names.count(name) > 1]


def _unnamed_folders(path: str) -> list[str]:
    """Returns the names of the folders of a checkpoint that its own name does not tell, from the root on."""
    *folders, name = Path(path).absolute().parts[1:]
    is_told = name.split(".")[0] in OF_ANY_JOB and not has_dated_folder(path)
    return folders[:-1] if is_told else folders
