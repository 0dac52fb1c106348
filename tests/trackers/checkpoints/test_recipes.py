"""Messages about recipes that somebody writes for a new tracker: they name the key and the place."""

import pytest
import torch

from trackers.checkpoints.recipes import build_tracker, check_recipe
from trackers.errors import CheckpointError

TARGET = "trackers.ostrack.OSTrack"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"backbone": "a"}, r"a recipe is a mapping with '_target_', the class.*has the keys \['backbone'\]"),
        ({"_target_": "trackers.ostrack.OSTrak"}, r"did you mean trackers\.ostrack\.OSTrack\?"),
        ({"_target_": "trackers.mine.Mine"}, r"A tracker of your own belongs into .*trackers$"),
        (
            {"_target_": "mine.Mine"},
            r"may only build classes of 'trackers', not 'mine\.Mine'.*belongs into",
        ),
        (
            {"_target_": TARGET, "backbone": "???"},
            r"tracker\.backbone has no value.* set it: tracker\.backbone=",
        ),
        ({"_target_": TARGET, "vit": {"depth": "${a}"}}, r"tracker\.vit\.depth holds '\$\{a\}'"),
    ],
)
def test_a_recipe_that_is_not_complete(recipe, words):
    with pytest.raises(CheckpointError, match=words):
        check_recipe(recipe)


def test_an_unknown_key_of_a_mapping_is_named(composed_recipe):
    composed_recipe["vit"]["widht"] = 3
    with torch.device("meta"), pytest.raises(CheckpointError, match=r"tracker\.vit\.widht is not known: .*'widht'"):
        build_tracker(composed_recipe)


@pytest.fixture
def composed_recipe():
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from tests.conftest import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("train").tracker, resolve=True)
