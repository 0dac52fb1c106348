"""The two studies: every job of their sweeps composes, builds its tracker and can reach its ratio."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from pruning.criteria import NetworkSlimming, Slim
from tests.conftest import CONF
from trackers.checkpoints.checkpoint import build_tracker, initial_checkpoint
from trackers.checkpoints.reading import read_header
from trackers.dimp import DiMP
from trackers.ostrack import OSTrack
from trackers.stark import STARK

PAPER_CHECKPOINTS = {
    "ostrack": "OSTrack_ep0100.pth.tar",
    "stark_mini": "STARKST_ep0300.pth.tar",
    "dimp": "super_dimp.pth.tar",
}


def composed(*overrides: str) -> DictConfig:
    """Returns the configuration of train.py with Hydra's own settings."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


@cache
def sweep_of(experiment: str) -> dict[str, str]:
    """Returns the values over which an experiment sweeps, by key."""
    return dict(composed(f"experiment={experiment}").hydra.sweeper.params)


def jobs(experiment: str, *given: str) -> list[dict[str, str]]:
    """Returns the overrides of each job of a sweep, by Hydra's own sweeper; `given` narrows the sweep."""
    overrides = OverridesParser.create().parse_overrides(
        [*(f"{k}={v}" for k, v in sweep_of(experiment).items()), *given]
    )
    (batch,) = BasicSweeper.split_arguments(overrides, None)
    return [dict(override.split("=") for override in job) for job in batch]


def check_jobs(experiment: str, *given: str) -> list[DictConfig]:
    """Builds the tracker of the jobs, checks that all ratios can be reached, and returns their configurations."""
    configs = [composed(f"experiment={experiment}", *map("=".join, job.items())) for job in jobs(experiment, *given)]
    recipe, *others = (OmegaConf.to_container(cfg.tracker, resolve=True) for cfg in configs)
    assert all(other == recipe for other in others)
    with torch.device("meta"):
        tracker = build_tracker(recipe)
    for cfg in configs:
        instantiate(cfg.pruning, ratio=cfg.ratio).check(tracker.network, tracker.groups(), tracker.frame_inputs)
    return configs


def test_the_papers_study_is_three_trackers_at_six_ratios():
    found = jobs("icassp2023")
    assert Counter(job["tracker"] for job in found) == dict.fromkeys(PAPER_CHECKPOINTS, 6)
    assert [job["ratio"] for job in found[:6]] == ["1", "0.75", "0.5", "0.25", "0.1", "0.01"]
    assert jobs("icassp2023", "tracker=dimp", "ratio=0.1") == [{"tracker": "dimp", "ratio": "0.1"}]


@pytest.mark.attack
@pytest.mark.parametrize("tracker", PAPER_CHECKPOINTS)
def test_every_job_of_the_papers_study_can_run(tracker):
    for cfg in check_jobs("icassp2023", f"tracker={tracker}", "ratio=1,0.25,0.01"):
        assert cfg.checkpoint == f"weights/{PAPER_CHECKPOINTS[tracker]}"
        assert (cfg.scale, cfg.pruning.ratio_of, cfg.stages.parent.steps) == ("full", "units", 0)
        assert list(cfg.datamodule.train) == ["got10k"]
        # The paper uses pruning_type 1 (by kind), and type 2 (by layer) at 1 %.
        scopes = instantiate(cfg.pruning, ratio=cfg.ratio).scope.values()
        assert {*scopes} == {"layer" if cfg.ratio == 0.01 else "kind"}


def test_trackers_have_the_papers_recipes():
    def recipe(tracker: str, *given: str) -> tuple:
        """Returns batch size, steps of two stages, learning rate, progress of its drop, and criterion."""
        cfg = composed("experiment=icassp2023", f"tracker={tracker}", *given)
        steps = (cfg.stages.sparsity.steps, cfg.stages.child.steps)
        rate = cfg.tracker.recipe.lr * cfg.stages.sparsity.lr_scale
        return (
            cfg.datamodule.batch_size,
            steps,
            rate,
            cfg.tracker.recipe.schedule.at,
            type(instantiate(cfg.pruning.criterion)),
        )

    assert recipe("ostrack") == (32, (150 * 1875, 150 * 1875), 1e-4, pytest.approx(80 / 150, abs=1e-5), Slim)
    assert recipe("ostrack_384") == (24, (150 * 2500, 150 * 2500), 1.25e-4, pytest.approx(80 / 150, abs=1e-5), Slim)
    assert recipe("stark_mini") == (128, (46875, 140625), 5e-5, 0.5, Slim)
    assert recipe("dimp") == (20, (50 * 2000, 50 * 2000), 1e-3, 15 / 50, NetworkSlimming)
    assert composed("experiment=icassp2023", "tracker=dimp", "checkpoint=a").checkpoint == "a"


@pytest.mark.parametrize(("experiment", "tracker"), [("stark_stage1", "stark_mini"), ("superdimp", "dimp")])
def test_children_of_the_authors_trainings_see_as_many_samples_as_in_the_paper(experiment, tracker):
    def samples(cfg: DictConfig) -> list[int]:
        return [cfg.stages[stage].steps * cfg.datamodule.batch_size for stage in ("sparsity", "child")]

    paper = composed("experiment=icassp2023", f"tracker={tracker}", "checkpoint=a")
    assert samples(composed(f"experiment={experiment}")) == samples(paper)


def test_relatives_of_superdimp_train_once_in_each_stage():
    for recipe in (CONF / "recipe" / "superdimp").glob("*.yaml"):
        cfg = composed("experiment=superdimp", f"tracker={recipe.stem}")
        steps = [stage.steps for stage in cfg.stages.values()]
        assert steps == 3 * [steps[0]], recipe
        assert steps[0] * cfg.datamodule.batch_size == 50 * 26_000, recipe


def test_our_study_is_three_trackers_by_three_methods_by_three_seeds_by_six_ratios():
    found = jobs("stability")
    assert len(found) == len({tuple(job.items()) for job in found}) == 3 * 3 * 3 * 6
    assert {job["ratio"] for job in found} == {"1", "0.5", "0.25", "0.1", "0.05", "0.01"}


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["ostrack", "stark", "dimp"])
def test_every_method_of_our_study_reaches_its_smallest_ratio(tracker):
    for cfg in check_jobs("stability", f"tracker={tracker}", "seed=0", "ratio=0.01"):
        assert cfg.pruning.ratio_of == "params"


@pytest.mark.parametrize(
    ("experiment", "scale", "tracker"),
    [
        *((experiment, "tiny", name) for experiment in ("demo", "stability") for name in ("ostrack", "stark", "dimp")),
        *(("stability", "compact", name) for name in ("ostrack", "dimp")),
    ],
)
def test_our_studies_start_from_the_parents_in_weights(monkeypatch, tracker, experiment, scale):
    cfg = composed(f"experiment={experiment}", f"tracker={tracker}", f"scale={scale}")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
    path = Path(cfg.checkpoint)
    assert (path.name, cfg.stages.parent.steps) == (f"{tracker}_{scale}.safetensors", 0)
    assert path.stat().st_size < 10e6
    recipe = OmegaConf.to_container(cfg.tracker, resolve=True)
    assert read_header(path).recipe == recipe, f"{path} was made by another configuration: its children would differ"
    initial_checkpoint(recipe, str(path))  # loads strictly


ROW = re.compile(r"^\| `(\w+)`,(?: (\w+))? (parent|sparsity|child) \| ([\d,]+) x (\d+) \|", re.MULTILINE)


def test_the_pages_have_the_steps_and_batches_of_the_experiments():
    pages = "\n".join(page.read_text() for page in (CONF.parent / "docs" / "experiments").glob("*.md"))
    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for experiment, tracker, stage, steps, batch in ROW.findall(pages):
        found.setdefault((experiment, tracker), {})[stage] = int(steps.replace(",", "")), int(batch)
    assert {experiment for experiment, _ in found} >= {"icassp2023", "ostrack_got10k", "stark_stage1", "superdimp"}
    for (experiment, tracker), rows in found.items():
        cfg = composed(f"experiment={experiment}", "checkpoint=a", *([f"tracker={tracker}"] if tracker else []))
        assert rows == {stage: (cfg.stages[stage].steps, cfg.datamodule.batch_size) for stage in rows}


def test_the_three_trackers_belong_to_three_families():
    assert [tracker.family for tracker in (DiMP, STARK, OSTrack)] == ["CNN", "hybrid", "transformer"]
