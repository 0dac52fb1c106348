"""Tests of official files of the DiMP family: recognition by content, dead layers, and strict loading."""

import logging
import re
import sys
import types

import pytest
import torch

from tests.trackers.dimp.test_tracker import FULL, recipe
from trackers import load_checkpoint
from trackers.checkpoints.checkpoint import build_tracker
from trackers.dimp.names import our_name
from trackers.dimp.official import convert, recognises
from trackers.errors import CheckpointError

THEIRS = (
    (r"^backbone\.", "feature_extractor."),
    (r"^box_head\.", "bb_regressor."),
    (r"^classifier\.features\.blocks\.", "classifier.feature_extractor."),
    (r"^classifier\.initialiser\.conv\.", "classifier.filter_initializer.filter_conv."),
    (r"^classifier\.optimiser\.label$", "classifier.filter_optimizer.label_map_predictor.weight"),
    (r"^classifier\.optimiser\.mask$", "classifier.filter_optimizer.target_mask_predictor.0.weight"),
    (r"^classifier\.optimiser\.weight$", "classifier.filter_optimizer.spatial_weight_predictor.weight"),
    (r"^classifier\.optimiser\.", "classifier.filter_optimizer."),
)
DEAD = {"feature_extractor.layer4.0.conv1.weight": (4, 3, 1, 1), "feature_extractor.fc.bias": (10,)}


def official(network):
    """Returns the weights of one of our networks under official names."""
    blocks, weights = len(network.classifier.features.blocks), {}
    for name, w in network.state_dict().items():
        name = name.replace("classifier.features.conv.", f"classifier.feature_extractor.{blocks}.")
        for ours, theirs in THEIRS:
            name = re.sub(ours, theirs, name)
        weights[name] = w.view(1, -1, 1, 1) if "filter_optimizer" in name and "predictor" in name else w
    return weights | {name: torch.ones(shape) for name, shape in DEAD.items()}


def published(name):
    with torch.device("meta"):
        return build_tracker(recipe(name)).network


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_file_is_the_network_that_its_weights_make(name):
    weights = official(published(name))
    assert recognises(weights)
    stored = convert(weights, {"dimp": "super_dimp"}.get(name, name))
    assert {our_name(n) for n in weights if n not in DEAD} == set(stored.weights)
    wanted = recipe(name, "full", "tracker.compat=reference")
    assert stored.recipe == wanted
    shapes = [{n: w.shape for n, w in some.items()} for some in (stored.weights, published(name).state_dict())]
    assert shapes[0] == shapes[1]


def test_dimp_50_and_superdimp_are_told_apart_by_what_the_file_says():
    weights = official(published("dimp50"))
    for said, size in (("dimp50", 288), ("DiMPActor", 288), ("super_dimp", 352), ("KLDiMPActor", 352), (None, 352)):
        assert convert(weights, said).recipe["template"]["size"] == size


@pytest.mark.parametrize("said", ["settings", "actor"])
def test_a_file_of_the_old_format_with_foreign_objects(tmp_path, monkeypatch, caplog, said):
    torch.manual_seed(0)
    network = build_tracker(recipe("dimp18")).network.eval()
    weights = official(network)
    content = {"epoch": 50, "actor_type": "DiMPActor", "net_type": "DiMPnet", "net": weights}
    with monkeypatch.context() as patch:
        objects = {}
        for path in ("ltr.admin.model_constructor.NetConstructor", "dlframework.common.utils.settings.Settings"):
            module, _, name = path.rpartition(".")
            parts = module.split(".")
            for i in range(1, len(parts) + 1):
                patch.setitem(sys.modules, ".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
            made = type(name, (), {"__module__": module})
            setattr(sys.modules[module], name, made)
            objects[name] = made()
        objects["NetConstructor"].kwds = {"filter_size": 4}
        objects["Settings"].script_name = "dimp18"
        content["constructor"] = objects["NetConstructor"]
        if said == "settings":
            content["settings"] = objects["Settings"]
        torch.save(content, tmp_path / "dimp18.pth", _use_new_zipfile_serialization=False)
    with caplog.at_level(logging.INFO):
        checkpoint = load_checkpoint(tmp_path / "dimp18.pth")
    assert ("(dimp18)" if said == "settings" else "(DiMPActor)") in caplog.text
    assert "Left out: 22 numbers" in caplog.text
    back = checkpoint.tracker.network.state_dict()
    assert all(torch.equal(back[name], w) for name, w in network.state_dict().items())


def test_a_weight_too_many_or_too_few_is_named(tmp_path):
    weights = official(build_tracker(recipe("dimp18")).network)
    weights["bb_regressor.conv9_1r.0.weight"] = weights.pop("bb_regressor.conv3_1r.0.weight")
    torch.save({"net": weights}, tmp_path / "changed.pth")
    with pytest.raises(CheckpointError, match=r"(?s)missing: box_head.conv3_1r.*unexpected: box_head.conv9_1r"):
        load_checkpoint(tmp_path / "changed.pth")
