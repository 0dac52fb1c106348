"""The command behind eval.py. Each of its actions has a module of its own in this folder."""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from evaluation.commands.evaluated_tracker import EvaluatedTracker, evaluated_trackers
from evaluation.commands.export import export
from evaluation.commands.profile import profile
from evaluation.commands.runtimes import one_runtime
from evaluation.commands.score import score
from evaluation.commands.score_open_loop import score_open_loop
from evaluation.commands.setup import invocation_of_hydra, reported, settle, write_fake_data
from evaluation.commands.show import show
from evaluation.commands.submit import submit
from evaluation.commands.video import video
from evaluation.errors import UserError
from evaluation.processes.invocation import Invocation
from evaluation.tracking.benchmark import Benchmark, build_benchmark

# Actions on the videos of a benchmark, with trackers from checkpoints.
ON_BENCHMARK: dict[str, Callable[[Sequence[EvaluatedTracker], Benchmark, Invocation], None]] = {
    "score": score,
    "submit": submit,
    "open_loop": score_open_loop,
    "show": show,
}
# Actions that read no benchmark. They get the settled configuration, and open what `cfg.checkpoint` names themselves.
WITHOUT_BENCHMARK: dict[str, Callable[[DictConfig, Invocation], None]] = {
    "profile": profile,
    "video": video,
    "export": export,
}


def evaluate(cfg: DictConfig) -> None:
    """Does with one checkpoint or several what `cfg.action` says, see conf/eval.yaml."""
    invocation = invocation_of_hydra()
    with reported(invocation):
        if cfg.action in WITHOUT_BENCHMARK:
            cfg = settle(cfg, invocation)
            write_fake_data(cfg)
            WITHOUT_BENCHMARK[cfg.action](cfg, invocation)
        elif cfg.action in ON_BENCHMARK:
            one_runtime(cfg.runtime)
            trackers = evaluated_trackers(cfg, invocation)
            write_fake_data(trackers[0].cfg)
            ON_BENCHMARK[cfg.action](trackers, build_benchmark(trackers[0].cfg.benchmark), invocation)
        else:
            known = ", ".join([*ON_BENCHMARK, *WITHOUT_BENCHMARK])
            raise UserError(f"action={cfg.action} is not known; choose one of {known}")
