"""A word stands for a section of the configuration; a wrong word, and a value in place of a section, are refused."""

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from evaluation.errors import UserError
from evaluation.study.shorthands import SECTIONS, SHORTHANDS, expand_shorthands


def configuration():
    """A small configuration with all sections that words stand for."""
    return OmegaConf.create(
        {
            "stages": {"child": {"steps": 1}},
            "pruning": {"schedule": {"_target_": "a.B", "start": 0.1}, "scope": {"default": "kind"}, "kinds": None},
            "tracker": {"recipe": {"schedule": {"_target_": "a.B"}}},
            "runner": {"devices": ["${device}"]},
            "synthetic": {"train": {"sequences": 1}},
            "device": "cpu",
        }
    )


def spelt_out(key, value):
    cfg = configuration()
    OmegaConf.update(cfg, key, value)
    expand_shorthands(cfg)
    return OmegaConf.to_container(OmegaConf.select(cfg, key))


@pytest.mark.parametrize(
    ("key", "word", "meaning"),
    [
        ("pruning.schedule", "Linear", {"_target_": "pruning.schedules.Linear"}),
        ("pruning.schedule", "one_shot", {"_target_": "pruning.schedules.OneShot"}),
        ("pruning.scope", "layer", {"default": "layer"}),
        ("tracker.recipe.schedule", "stepdrop", {"_target_": "trackers.schedules.StepDrop"}),
        ("pruning.kinds", "mlp", ["mlp"]),
        ("runner.devices", "cuda:1", ["cuda:1"]),
    ],
)
def test_a_word_stands_for_a_section(key, word, meaning):
    assert spelt_out(key, word) == meaning


def test_sections_stay_as_they_are():
    cfg = configuration()
    expand_shorthands(cfg)
    assert cfg == configuration()


def test_classes_of_words_need_no_further_settings():
    for words in SHORTHANDS.values():
        for meaning in words.values():
            if "_target_" in meaning:
                assert get_class(meaning["_target_"])()(0.5, *([0.5] if "pruning" in meaning["_target_"] else [])) > 0


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pruning.schedule", "Lineer", "pruning.schedule=Lineer is not known; did you mean Linear?"),
        ("pruning.schedule", "fast", "choose one of Cubic, Linear, Exponential, OneShot"),
        ("pruning.schedule", None, "pruning.schedule=null is not known"),
        ("pruning.scope", "all", "choose one of global, kind, layer"),
        ("stages", 3, "stages=3 is no value: stages is a section of settings; set e.g. stages.child.steps=100"),
        ("stages.child", 100, "stages.child.steps=100"),
        ("synthetic.train", 100, "synthetic.train.sequences=300"),
        ("tracker.recipe", "fast", "tracker.recipe.lr=1e-4"),
    ],
)
def test_a_wrong_value_names_one_that_works(key, value, words):
    with pytest.raises(UserError) as error:
        spelt_out(key, value)
    assert words in str(error.value)


def test_sections_come_after_those_that_they_lie_in():
    paths = list(SECTIONS)
    for path in paths:
        above = path.rpartition(".")[0]
        assert above not in paths or paths.index(above) < paths.index(path)
