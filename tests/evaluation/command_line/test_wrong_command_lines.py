"""A wrong command line ends with one line that names the wrong argument and one that works."""

from functools import cache

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import open_dict

from evaluation.command_line.diagnosis import first_fault
from evaluation.command_line.suggestions import did_you_mean, similar
from evaluation.command_line.unread_keys import describe_unread_key
from tests.conftest import CONF

# What a newcomer may type, and words of the answer.
WRONG = [
    # No KEY=VALUE
    ("eval weights/ostrack_tiny.safetensors", "write checkpoint=weights/ostrack_tiny.safetensors"),
    ("eval walk.mp4", "benchmark=folder benchmark.sequences.root=walk.mp4"),
    ("eval checkpoint", "write checkpoint=VALUE"),
    ("eval = x", "has no key"),
    ("train help", "no KEY=VALUE, e.g. ratio=0.25"),
    ("train rato", "did you mean ratio"),
    ("train ratio= 0.5", "write ratio=0.5"),
    ("train ratio=0.5, seed=1", "write ratio=0.5"),
    ("train paths.data=/my videos", "\"paths.data='/my videos'\""),
    ("train dry_run", "write dry_run=VALUE"),
    ("train ratio:0.5", "write ratio=0.5"),
    ("train ratio==0.5", "write ratio=0.5"),
    ("train paths.data=/data(1)", "quote it: \"paths.data='/data(1)'\""),
    ("train pruning.scope={default:layer", "quote it"),
    ("train paths.data=~/videos", "the shell replaces at the start of a word alone; write paths.data=/"),
    # Several values without -m
    ("train tracker=ostrack,stark", "-m tracker=ostrack,stark"),
    ("train tracker=[ostrack,stark]", "-m tracker=ostrack,stark"),
    ("eval checkpoint=a,b", "to compare them: 'checkpoint=[a,b]'"),
    ("prune checkpoint=a ratio=0,5", "has several values"),
    ("train ratio=0.5 pruning.kinds=attention,mlp", "'pruning.kinds=[attention,mlp]'"),
    # Misspelt keys
    ("train ratioo=3", "did you mean ratio"),
    ("train traker=dimp", "did you mean tracker"),
    ("train stages.child.step=3", "did you mean stages.child.steps"),
    ("train stage.child.steps=3", "did you mean stages.child.steps"),
    ("train paths.output=x", "did you mean paths.outputs?"),
    ("train batch_size=4", "did you mean datamodule.batch_size?"),
    ("train tracker.recipe.learning_rate=1", "tracker.recipe.lr?"),
    ("train trainer.max_step=3", "train.py has no key trainer.max_step"),
    ("train penalty=1", "pruning.criterion.penalty?"),
    ("train ~foo", "train.py has no key foo"),
    ("train xyzzy=1", "python train.py --cfg job prints all keys"),
    ("train +ratio=0.5", "write ratio=0.5"),
    ("eval checkpoint=a benchmark=folder benchmark.root=a.mp4", "did you mean benchmark.sequences.root"),
    ("train hydra.launcher.n_jobs=2", "hydra/launcher=joblib"),
    # Words of other projects
    ("prune checkpoint=a ratio=0.5 lr=1e-4", "stages.child.lr_scale"),
    ("eval checkpoint=a camera=0", "action=video source=0"),
    ("prune checkpoint=a ratio=0.5 epochs=3", "stages.child.steps"),
    ("prune checkpoint=a ratio=0.5 gpus=2", "trainer=ddp"),
    ("train output_dir=x", "hydra.run.dir=FOLDER"),
    ("prune checkpoint=a method=slim", "pruning=NAME"),
    # Keys of another script
    ("prune checkpoint=a ratio=0.5 tracker=dimp", "the tracker comes with the checkpoint"),
    ("prune checkpoint=a ratio=0.5 tracker.recipe.lr=1e-4", "+tracker.recipe.lr=1e-4"),
    ("eval checkpoint=a tracker=dimp", "the tracker comes with the checkpoint"),
    ("eval checkpoint=a tracker.online.min_size=4", "+tracker.online.min_size=4"),
    ("eval checkpoint=a logger=none", "eval.py has no logger, train.py and prune.py have; leave logger=none out"),
    ("eval checkpoint=a seed=1", "eval.py has no seed"),
    ("eval checkpoint=a trainer=gpu", "device=cuda"),
    ("eval checkpoint=a datamodule=folder", "benchmark=NAME"),
    ("train action=score", "train.py has no action, eval.py has"),
    # Choices
    ("train tracker=dimpp", "did you mean dimp"),
    ("train tracker=OSTrack", "did you mean ostrack"),
    ("train tracker=siamfc", "choose one of dimp"),
    ("train tracker=", "choose one of dimp"),
    ("train tracker=null", "choose one of dimp"),
    ("train scale=small", "choose one of compact, full, tiny"),
    ("train logger=wanbd", "did you mean wandb?"),
    ("train pruning=Taylor", "did you mean taylor?"),
    ("train pruning=common", "pruning=common is no choice"),
    ("train distillation=true", "choose one of none, parent"),
    ("train trainer=cuda", "choose one of cpu, ddp"),
    ("train run=miniature fake_data=null", "~fake_data leaves fake_data out"),
    ("train experiment=null", "leave it out"),
    ("train hydra/launcher=joblibb", "did you mean joblib?"),
    ("eval checkpoint=a benchmark=GOT10k", "did you mean got10k"),
    ("eval checkpoint=a benchmark=got-10k", "did you mean got10k?"),
    # Missing keys
    ("prune", "needs checkpoint and ratio; add e.g. checkpoint=weights/ostrack_tiny.safetensors ratio=0.25"),
    ("prune checkpoint=a", "needs ratio; add e.g. ratio=0.25"),
    ("prune checkpoint= ratio=0.5", "needs checkpoint"),
    ("eval checkpoint=null", "needs checkpoint"),
    ("prune checkpoint=a ratio=null", "needs ratio"),
    ("eval", "needs checkpoint"),
]


class CachedLoader(ConfigLoaderImpl):
    """Hydra's loader of configurations, with the result of each call kept."""

    def load_configuration(self, config_name, overrides, run_mode, **options):
        return self._load(config_name, tuple(overrides), run_mode).copy()

    @cache  # noqa: B019
    def _load(self, config_name, overrides, run_mode):
        return super().load_configuration(config_name, list(overrides), run_mode)

    def get_group_options(self, group, kind, config_name, overrides):
        return self._options(group, kind, config_name, tuple(overrides))

    @cache  # noqa: B019
    def _options(self, group, kind, config_name, overrides):
        return super().get_group_options(group, kind, config_name, list(overrides))


@pytest.fixture(scope="module")
def loader():
    return CachedLoader(create_config_search_path(str(CONF)))


@pytest.mark.parametrize(("line", "words"), WRONG)
def test_the_message_names_what_works(loader, line, words):
    script, *arguments = line.split(" ")
    message = first_fault(loader, script, [a for a in arguments if a], is_sweep=False)
    assert words in message
    assert "\n" not in message
    assert len(message) < 250


@pytest.mark.parametrize(
    "line",
    [
        "train ++ratio=0.5 ~fake_data hydra.run.dir=x pruning.kinds=[mlp] stages.child.steps=3 +trainer.foo=1",
        "prune checkpoint=a ratio=0.5 +tracker.recipe.lr=1 +callbacks.mine._target_=a.B pruning=icassp2023/dimp",
        "eval checkpoint=a +tracker.online.min_size=4 runner.devices.0=cpu benchmark=lasot",
    ],
)
def test_nothing_is_wrong(loader, line):
    script, *arguments = line.split(" ")
    assert first_fault(loader, script, arguments, is_sweep=False) == ""


def test_folders_of_further_choices_are_looked_at(loader, tmp_path):
    (tmp_path / "tracker").mkdir()
    (tmp_path / "tracker" / "mine.yaml").write_text("depth: 3")
    given = [f"hydra.searchpath=[file://{tmp_path}]", "tracker=mine"]
    assert "did you mean seed" in first_fault(loader, "train", [*given, "sed=1"], is_sweep=False)
    assert "did you mean mine?" in first_fault(loader, "train", [given[0], "tracker=mime"], is_sweep=False)


def test_every_value_of_a_sweep_is_looked_at(loader):
    assert "tracker=dimpp" in first_fault(loader, "train", ["tracker=ostrack,dimpp", "ratio=1,0.5"], is_sweep=True)
    assert first_fault(loader, "train", ["tracker=ostrack,dimp", "ratio=1,0.5"], is_sweep=True) == ""


# Keys that nothing reads


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+ratioo=0.5"], "nothing in train.py reads the key ratioo; did you mean ratio?"),
        (["+foo=1"], "reads the key foo; leave it out"),
        (["++stages.child.step=3"], "did you mean stages.child.steps"),
        (["+paths.elsewhere=x"], "paths.elsewhere"),
        (["+distillation.outputs=1"], "distillation.outputs"),
        (["+width=64", "tracker.vit.embed_dim=${width}"], ""),  # another key reads it
        (["+width=64", "tracker.vit.embed_dim=${oc.select:width,32}"], ""),
        (["+callbacks.stop._target_=a.B", "+tracker.vit.foo=1"], ""),  # their classes refuse what they do not know
    ],
)
def test_a_key_that_nothing_reads(loader, overrides, words):
    cfg = loader.load_configuration("train", overrides, RunMode.RUN)
    with open_dict(cfg):
        del cfg["hydra"]
    message = describe_unread_key("train", cfg)
    assert words in message if words else message == ""


def test_suggestions():
    known = ["ratio", "pruning.ratio_of", "stages.child.steps", "stages.parent.steps", "paths.outputs"]
    assert similar("ratoi", known)[0] == "ratio"
    assert similar("stages.child.step", known)[0] == "stages.child.steps"
    assert similar("steps", known) == ["stages.child.steps", "stages.parent.steps"]
    assert did_you_mean("steps", known) == "did you mean stages.child.steps or stages.parent.steps?"
    assert did_you_mean("xyzzy", known) == ""
