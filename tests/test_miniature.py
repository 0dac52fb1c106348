"""run=miniature: it changes lengths, data and names of an experiment and nothing else, and it runs."""

import zipfile
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.conftest import results
from tests.test_experiments import composed

# Keys that a miniature changes, by the first words of their paths.
CHANGED = (
    "scale",
    "checkpoint",
    "fake_data",
    "stages",
    "paths.data",
    "benchmark.name",
    "hydra",
)
CHANGED += tuple(f"datamodule.{key}" for key in ("batch_size", "samples_per_epoch", "val_samples"))
SMALL_VIDEOS = tuple(  # those of the small world, which the cache has already
    f"fake_data.videos.{key}"
    for key in ("width=96", "height=72", "train.sequences=3", "train.frames=20", "train.stride=2", "val.frames=6")
)


def leaves(experiment: tuple[str, ...]) -> dict[str, Any]:
    """Returns all values of the configuration of an experiment by dotted path, as they are written."""

    def walk(node: Any, path: str) -> dict[str, Any]:
        if not isinstance(node, dict):
            return {path: node}
        return {k: v for key, value in node.items() for k, v in walk(value, f"{path}.{key}".lstrip(".")).items()}

    return walk(OmegaConf.to_container(composed(*experiment)), "")


@pytest.mark.parametrize("experiment", [("icassp2023", "tracker=stark_mini"), ("superdimp",)], ids=str)
def test_a_miniature_is_the_experiment_but_for_lengths_data_and_names(experiment):
    name, *others = experiment
    whole = leaves((f"experiment={name}", *others))
    small = leaves((f"experiment={name}", *others, "run=miniature"))
    changed = {path for path in whole.keys() | small.keys() if whole.get(path, ...) != small.get(path, ...)}
    assert not {path for path in changed if not path.startswith(CHANGED)}
    assert [small[f"stages.{stage}.steps"] for stage in ("parent", "sparsity", "child")] == [2, 2, 2]
    assert small["scale"] == "miniature"
    assert all("/miniature/" in small[f"hydra.{mode}.dir"] for mode in ("run", "sweep"))


def test_a_miniature_of_four_data_sets_is_marked_in_its_result(run, capfd):
    data = ("datamodule=mixed", "benchmark=lasot", "run=miniature", *SMALL_VIDEOS, "datamodule.val_samples=0")
    outputs = run("train", *data, "stages.parent.steps=1")
    (result,), log = results(outputs), capfd.readouterr().out
    assert result["scale"] == "miniature"
    assert [*result["metrics"]] == [f"lasot_fake/{profile}" for profile in ("pytracking", "ostrack", "got10k")]
    assert all(report["sequences"] == 2 for report in result["metrics"].values())
    assert "are fake and the parent starts from random weights: the numbers of this run are no results" in log


def test_fake_results_are_packed_for_a_server(run, small_checkpoint):
    call = (f"checkpoint={small_checkpoint}", "benchmark=got10k_test", "fake_data=small", *SMALL_VIDEOS)
    (archive,) = run("eval", *call, "action=submit").rglob("*.zip")
    assert archive.name == "got10k_test_fake.zip"
    with zipfile.ZipFile(archive) as file:
        assert len({name.split("/")[0] for name in file.namelist()}) == 2


@pytest.mark.attack
def test_the_papers_study_runs_in_miniature_with_the_whole_network(run):
    steps = [f"stages.{stage}.steps=1" for stage in ("parent", "sparsity", "child")]
    study = ("experiment=icassp2023", "tracker=stark_mini", "ratio=0.1", "run=miniature", "datamodule.val_samples=0")
    (result,) = results(run("train", *study, *steps, *SMALL_VIDEOS))
    assert (result["scale"], result["method"], result["ratio_of"]) == ("miniature", "icassp2023", "units")
    assert result["parent"]["params"] > 11e6 > result["params"]
    assert [*result["metrics"]] == ["got10k_fake"]
