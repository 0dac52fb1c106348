"""The readers of reference vectors run on cases that differ from those in the folder: other networks, other parts.

Such cases are made here from one in the folder, with our own outputs in place of the reference's.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trackers.dimp.test_official import official, published
from trackers.dimp.pooling import bin_weights

from . import conftest, test_dimp_network, test_ostrack, test_stark
from .cases import Case, cases, check_kind, each
from .compare import agrees
from .dimp import inputs
from .stark import described
from .test_dimp_classifier import test_pooling as check_pooling
from .test_dimp_network import features_of, training_step
from .test_dimp_network import test_a_training_step_is_the_same as check_training_step
from .test_dimp_network import test_features_are_the_same as check_features
from .test_dimp_track import test_tracking_is_the_same as check_tracking
from .test_dimp_track import tracked
from .test_readers import lists
from .test_stark import pools

OBLONG = ((2, 3), (4, 1), (1, 1))
PRDIMP = {"clf_ce_init": 0.25, "clf_ce": 0.25, "clf_ce_iter": 1.0, "bb_ce": 2.5e-3}


@pytest.fixture
def vary(tmp_path: Path) -> Callable[..., Case]:
    """`vary(case, stored, key=value)` writes a case with other arrays and other values, and reads it."""

    def written(case: Case, stored: Mapping[str, Any], /, **changes: Any) -> Case:
        path = tmp_path / case.path.name
        path.write_text(json.dumps(case.about | changes))
        np.savez(path.with_suffix(".npz"), **stored)
        return Case.read(path)

    return written


# Kinds and families


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        *(("features_dimp18", "features"), ("train_step_prdimp50", "train_step"), ("track_super_dimp", "track")),
        *(("forward_st101", "forward"), ("loss_384", "loss"), ("slim_mini", "slim"), ("localize_memory",) * 2),
        *(("network_slimming_r50", "network_slimming"), ("chipnet_budget",) * 2, ("one_more_thing",) * 2),
    ],
)
def test_a_kind_may_end_in_the_name_of_a_network(written: str, kind: str) -> None:
    assert Case(Path("a"), {"kind": written}).kind == Case(Path("a"), {"case": written}).kind == kind


@pytest.mark.parametrize("written", ["features_of_everything", "dreams", "dreams_dimp18"])
def test_an_unknown_kind_is_an_error(written: str) -> None:
    with pytest.raises(AssertionError, match="which no test runs"):
        check_kind(Case(Path("a"), {"kind": written}), test_dimp_network.KINDS)


@each("stark", "forward")
def test_a_family_may_have_a_remark_in_brackets(case: Case, vary: Callable[..., Case]) -> None:
    model = case.config["model"]
    variant = vary(case, {}, config=case.config | {"model": model | {"family": f"{model['family']} (as published)"}})
    assert described(variant) == described(case)


def test_readers_without_a_case_are_deselected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "golden" / "ostrack").mkdir(parents=True)
    (tmp_path / "golden" / "ostrack" / "a.json").write_text('{"kind": "loss_256"}')
    monkeypatch.setattr("tests.golden.cases.FOLDER", tmp_path / "golden")
    cases.cache_clear()
    (tmp_path / "test_few.py").write_text(
        "from tests.golden.cases import each\n"
        "@each('ostrack', 'loss')\n"
        "def test_a_case(case): assert case.kind == 'loss'\n"
        "@each('ostrack', 'forward')\n"
        "def test_no_case_of_this_kind(case): raise RuntimeError\n"
        "@each('stark')\n"
        "def test_no_case_of_this_family(case): raise RuntimeError\n"
        "@each('ostrack', 'loss', by=lambda case: ())\n"
        "def test_no_such_part(case, part): raise RuntimeError\n"
    )
    seen: dict[str, int] = {}

    class Counts:
        def pytest_terminal_summary(self, terminalreporter: Any) -> None:
            seen.update({outcome: len(found) for outcome, found in terminalreporter.stats.items() if outcome})

    options = ["-q", "-c", os.devnull, "--rootdir", str(tmp_path), "--import-mode=importlib", "-W", "ignore"]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    try:
        assert pytest.main([*options, str(tmp_path / "test_few.py")], plugins=[conftest, Counts()]) == 0
    finally:
        cases.cache_clear()
    assert seen == {"passed": 1, "deselected": 3}


# OSTrack and STARK


@each("ostrack", "loss")
def test_the_schedule_of_the_keep_rate_may_be_missing(case: Case) -> None:
    without = Case(case.path, {key: value for key, value in case.about.items() if key != "keep_rate"})
    assert list(test_ostrack.schedules(without)) == []
    assert [name for name, _ in test_ostrack.schedules(Case(case.path, case.about | {"keep_rate": {}}))] == [
        "keep_rate"
    ]


@pytest.mark.slow
@each("stark", "slim")
def test_a_case_may_store_some_of_the_pools(case: Case, vary: Callable[..., Case]) -> None:
    kept = [pool for pool in pools(case) if pool != "stack"]
    left = {name: value for name, value in case.stored.items() if "stack" not in name}
    variant = vary(case, left)
    assert pools(variant) == kept
    test_stark.test_masks_are_the_same(variant)
    test_stark.test_cut_transformers_have_as_many_parameters(variant)
    test_stark.test_cut_transformers_compute_the_same_as_masked_ones(variant)
    test_stark.test_files_with_gates_are_cut_to_a_budget_the_same(variant)
    with pytest.raises(AssertionError, match="no test knows the pools"):
        pools(vary(case, left | {"kept_tower_0.5": left["l1"]}))
    half = {name: value for name, value in left.items() if name != f"kept_{kept[0]}_{case.config['budgets'][0]}"}
    with pytest.raises(AssertionError, match="computed here or stored by the reference, but not both"):
        test_stark.test_masks_are_the_same(vary(case, half))


# Lists of sequences


@each("metrics", "lists")
def test_lists_of_other_data_sets_are_left_alone(case: Case, vary: Callable[..., Case]) -> None:
    known = ("got10k", "lasot", "lasot_extension", "otb2015", "trackingnet")
    here = [name for name in known if name in case.about]
    assert [name for name, _ in lists(*known)(vary(case, {}, votlt={"names": ["following"]}))] == here
    fewer = Case(case.path, {key: value for key, value in case.about.items() if key != here[0]})
    assert [name for name, _ in lists(*known)(fewer)] == here[1:]


# DiMP


@each("dimp", "prroipool")
def test_pools_may_be_oblong(case: Case, vary: Callable[..., Case]) -> None:
    given = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in inputs(case).items()}
    about, stored = {name: case.about["inputs"][name] for name in ("features", "boxes")}, {}
    names, scale = ("pooled_height", "pooled_width", "spatial_scale"), 0.0625
    for k, (rows, columns) in enumerate(OBLONG):
        shape = [len(given["boxes"]), given["features"].shape[1], rows, columns]
        about[f"upstream_{k}"] = {"rule": "array", "name": f"oblong/{k}", "shape": shape}
        features, boxes = (given[name].clone().requires_grad_() for name in ("features", "boxes"))
        x1, y1, x2, y2 = (boxes[:, 1:] * scale).unbind(-1)
        over_rows = bin_weights(y1, y2, rows, features.shape[-2])
        over_columns = bin_weights(x1, x2, columns, features.shape[-1])
        pooled = torch.einsum("kiy,kcyx,kjx->kcij", over_rows, features[boxes[:, 0].long()], over_columns)
        upstream = inputs(Case(case.path, {"inputs": {"up": about[f"upstream_{k}"]}}))["up"]
        (pooled * torch.as_tensor(upstream)).sum().backward()
        stored |= {f"pooled_{k}": pooled.detach(), f"grad_boxes_{k}": boxes.grad[:, 1:]}
        stored[f"grad_features_{k}"] = features.grad[:, ::2, ::2, ::2]
    tight = {"atol": 1e-6, "rtol": 1e-6}
    config = {"pools": [dict(zip(names, (*sides, scale), strict=True)) for sides in OBLONG]}
    variant = vary(case, stored, inputs=about, config=config, tolerance={"*": tight}, tolerance_float64=tight)
    check_pooling(variant, torch.float64)
    with pytest.raises(AssertionError, match="pooled_0"):
        check_pooling(vary(case, stored | {"pooled_0": 2 * stored["pooled_0"]}, **variant.about), torch.float64)


def of_network(case: Case, name: str) -> dict[str, Any]:
    """Returns the entries of a case's JSON that describe a published network's checkpoint."""
    shapes = {entry: list(w.shape) for entry, w in official(published(name)).items()}
    values = {entry: change for entry, change in case.about["values"].items() if entry in shapes}
    return {"case": f"{case.kind}_{name}", "network": name, "checkpoint": shapes, "values": values}


def differs(mine: Mapping[str, Any], variant: Case, name: str, vary: Callable[..., Case]) -> None:
    """Fails unless it is found that one stored array is a little off."""
    others = variant.stored | {name: variant.stored[name] * np.float32(1.1)}
    with pytest.raises(AssertionError, match=f"{name}: off by up to"):
        agrees(vary(variant, others), mine)


@pytest.mark.slow
@each("dimp", "features")
def test_features_of_another_network_are_read(case: Case, vary: Callable[..., Case]) -> None:
    first = vary(case, {}, **of_network(case, "dimp18"))
    mine = features_of(first)
    variant = vary(first, mine)
    assert variant.kind == "features"
    check_features(variant)
    differs(mine, variant, "clf_stats", vary)


@pytest.mark.slow
@each("dimp", "train_step")
def test_a_training_step_of_prdimp_is_read(case: Case, vary: Callable[..., Case]) -> None:
    side, network = 144, published("prdimp18")
    about: dict[str, Any] = {
        name: {"value": [[[40, 50, 40, 32], [30, 60, 48, 40]]]} for name in ("train_boxes", "test_boxes")
    }
    for name, shape in {"proposal_pick": [1, 2, 16], "proposal_noise": [1, 2, 16, 4]}.items():
        about[name] = case.about["inputs"][name] | {"shape": shape}
    for name in ("train_0_0", "train_0_1", "test_0_0", "test_0_1"):
        about[name] = {"rule": "image", "name": f"prdimp/{name}", "shape": [side, side, 3]}
    parameters, theirs = {name for name, _ in network.named_parameters()}, of_network(case, "prdimp18")
    ours = {test_dimp_network.our_name(name): name for name in theirs["checkpoint"]}
    order = [ours[name] for name in parameters]
    norms = [name.removesuffix(".running_mean") for name in theirs["checkpoint"] if name.endswith(".running_mean")]
    live = [name for name in norms if "layer4" not in name]
    changes = {"loss_weights": PRDIMP, "frozen": [], "grad_order": order, "bn_order": live}
    made = {"inputs": about, "config": case.config | changes, **theirs}
    raw = vary(case, dict.fromkeys(("bb_ce", "clf_ce"), 0) | {"scores_first_last": -np.ones((1, 1))}, **made)
    plain, _ = training_step(raw)
    density = torch.softmax(plain["scores_first_last"].flatten(-2), -1).view_as(plain["scores_first_last"])
    exact = {"*": {"atol": 1e-6, "rtol": 1e-6}}
    variant = vary(case, plain | {"scores_first_last": density}, **made, tolerance=exact)
    check_training_step(variant)
    differs(variant.stored, variant, "clf_ce", vary)


@pytest.mark.slow
@each("dimp", "track")
def test_a_track_of_prdimp_is_read(case: Case, vary: Callable[..., Case]) -> None:
    given, frames = case.about["inputs"], 2
    about = {n: v for n, v in given.items() if not n.startswith("jitter") or int(n.split("_")[1]) < frames}
    about["dropout"] = given["dropout"] | {"shape": [2, 256]}
    settings = {"image_sample_size": 288, "search_area_scale": 5.0, "border_mode": "replicate"}
    settings |= {"patch_max_scale_change": None, "target_not_found_threshold": 0.04, "score_preprocess": "softmax"}
    config = case.config | {"parameters": case.config["parameters"] | settings}
    config |= {name: case.config[name][:frames] for name in ("target_xy", "distractor_xy")}
    first = vary(case, {}, inputs=about, config=config, **of_network(case, "prdimp18"))
    mine = tracked(first)
    np.testing.assert_allclose(mine["scores/floor"].sum((-2, -1)), 1, rtol=1e-5)
    assert mine["max_score/floor"] == [scores.max() for scores in mine["scores/floor"]]
    check_tracking(vary(first, mine))
