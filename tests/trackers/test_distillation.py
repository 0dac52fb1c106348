"""Tests of distillation: distances, gradients, and that a teacher is no part of the student."""

import copy
import csv
from itertools import chain

import pytest
import pytorch_lightning as L
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from pruning.plan import Plan
from pruning.surgery import compact
from tests.conftest import CONF, results
from tests.pruning.networks import random_plan
from tests.trackers.networks import small_ostrack
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker
from trackers.distillation import Teacher, attention_distance, output_distance

TRACKERS = ("ostrack", "stark", "dimp", "prdimp")
STARK = ["transformer.width=24", "transformer.hidden=32", "backbone.width=16", "backbone.stem=8"]
DIMP = ["backbone.width=16", "backbone.stem=8", "proposals.count=4"]
CHANGES = {"stark": STARK, "dimp": DIMP, "prdimp": DIMP}


def small(name: str, seed: int = 0) -> Tracker:
    """Returns a small tracker. OSTrack eliminates candidates; "prdimp" has PrDiMP's losses, "dimp" DiMP's."""
    if name == "ostrack":
        return small_ostrack(seed=seed)
    torch.manual_seed(seed)
    base = name.removeprefix("pr")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"tracker={base}", *(f"tracker.{change}" for change in CHANGES[name])])
    recipe = OmegaConf.to_container(cfg.tracker, resolve=True)
    if name == "prdimp":
        recipe["losses"] = {"classifier": "kl", "boxes": "kl"}
    return build_tracker(recipe).eval()


def pruned(parent: Tracker, seed: int = 0) -> Tracker:
    child = copy.deepcopy(parent)
    compact(child.network, child.groups(), random_plan(child.groups(), seed))
    return child


def batch(tracker: Tracker, size: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator, given = torch.Generator().manual_seed(seed), {"present": torch.ones(size, 1)}
    for role, spec in (("template", tracker.template), ("search", tracker.search)):
        shape = (size, spec.count, 3, spec.size, spec.size)
        given[role] = torch.randint(0, 255, shape, generator=generator).byte()
        given[f"{role}_box"] = torch.tensor([0.35, 0.3, 0.3, 0.4]).repeat(size, spec.count, 1)
        given[f"{role}_padding"] = torch.zeros(size, spec.count, 2, spec.size, dtype=torch.bool)
    return given


def hooks(tracker: Tracker) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tracker.modules())


# What is compared


def test_outputs_are_compared_whatever_their_scale():
    s = {"small": torch.tensor([1e-2, 0.0]), "large": torch.tensor([0.0, 3e3])}
    t = {"small": torch.tensor([2e-2, 0.0]), "large": torch.tensor([0.0, 2e3])}
    assert output_distance(s, t) == pytest.approx(1 / 4)
    assert output_distance(t, t) == 0
    nothing = {"small": torch.zeros(2), "large": torch.zeros(2)}
    assert output_distance(nothing, nothing) == 0
    assert output_distance(s, nothing).isfinite()


def test_attention_is_compared_whatever_channels_and_scale():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 4, 3, generator=generator)
    tokens = maps.flatten(2).transpose(1, 2)
    for other in (tokens, 7 * maps, torch.cat([maps, maps], 1), maps + torch.randn(1, 5, 1, 1, generator=generator)):
        assert attention_distance(other, maps) == pytest.approx(0, abs=1e-9)
    here, there = torch.zeros(1, 64, 2), torch.zeros(1, 64, 9)
    here[0, 3], there[0, 40] = 1, -1
    here, there = here + 2, there + 2  # all that the others have in common is no attention
    assert attention_distance(here, there) == pytest.approx(2, abs=1e-2)


def test_attention_tells_positions_apart_behind_a_layer_norm():
    generator = torch.Generator().manual_seed(0)
    tokens = 0.1 * torch.randn(1, 16, 32, generator=generator) + torch.randn(1, 1, 32, generator=generator)
    first, second = tokens.clone(), tokens.clone()
    first[0, 2] += torch.randn(32, generator=generator)
    second[0, 9] += torch.randn(32, generator=generator)
    first, second = (torch.nn.functional.layer_norm(x, (32,)) for x in (first, second))
    assert attention_distance(first, second) > 1


def test_positions_that_either_network_eliminated_are_left_out():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 12, 6, generator=generator)
    child, parent = tokens.clone(), tokens.clone()
    child[:, :4] = 0
    parent[:, 2:7] = 0
    assert attention_distance(child, parent) == pytest.approx(0, abs=1e-9)
    blind = torch.zeros_like(child, requires_grad=True)
    attention_distance(blind, parent).backward()
    assert blind.grad.isfinite().all()


def test_a_constant_that_ratings_and_scores_of_densities_do_not_have_teaches_nothing():
    tracker, given = small("prdimp"), {"scores": torch.randn(3, 1, 2, 5, 5), "boxes": torch.randn(1, 2, 4)}
    moved = tracker.distillation_targets({name: value + 3 for name, value in given.items()})
    assert output_distance(moved, tracker.distillation_targets(given)) < 1e-9


def test_improbable_corners_teach_nothing():
    tracker, corners = small("stark"), torch.tensor([[[0.0, -30.0, -30.0, -40.0]]])
    wanted = tracker.distillation_targets({"corners": corners})
    assert output_distance(tracker.distillation_targets({"corners": corners.clamp_min(-20)}), wanted) < 1e-12
    assert output_distance(tracker.distillation_targets({"corners": corners.flip(-1)}), wanted) == pytest.approx(2)


def test_boxes_far_from_the_target_teach_nothing():
    tracker, score = small("ostrack"), torch.full((1, 1, 4, 4), 1e-4)
    score[..., 1, 1] = 0.9
    maps = {"score_map": score, "size_map": torch.rand(1, 2, 4, 4), "offset_map": torch.rand(1, 2, 4, 4)}
    elsewhere = {name: value.clone() for name, value in maps.items()}
    for name in ("size_map", "offset_map"):
        elsewhere[name][..., 2:, :] = 0.5
    assert output_distance(tracker.distillation_targets(elsewhere), tracker.distillation_targets(maps)) < 1e-6


# Who learns


@pytest.mark.parametrize("name", TRACKERS)
def test_a_child_that_is_its_parent_has_nothing_to_learn(name):
    parent = small(name)
    student, plain = copy.deepcopy(parent), copy.deepcopy(parent)
    teacher = Teacher(parent, 1, 1)
    torch.manual_seed(0)  # DiMP draws proposals
    found = teacher.losses(student, batch(student))
    torch.manual_seed(0)
    expected = plain.losses(batch(student))
    assert found["distill_outputs"].item() == pytest.approx(0, abs=1e-10)
    assert found["distill_features"].item() == pytest.approx(0, abs=1e-10)
    assert set(found) == {*expected, "distill_outputs", "distill_features"}
    torch.testing.assert_close(found["total"], expected["total"])


@pytest.mark.slow
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", TRACKERS)
def test_a_cut_child_learns_and_its_parent_does_not(name, seed, autocast):
    parent = small(name, seed)
    student = pruned(parent, seed).train()
    teacher, before = Teacher(parent, 2, 0.5), copy.deepcopy(parent.network.state_dict())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = teacher.losses(student, batch(student))
    own = {n: v for n, v in losses.items() if not n.startswith("distill_")}
    alone = 2 * losses["distill_outputs"] + 0.5 * losses["distill_features"]
    assert 0 < losses["distill_outputs"] < float("inf")
    assert 0 <= losses["distill_features"] <= 2
    torch.testing.assert_close(losses["total"], student_total(student, own) + alone)
    alone.backward()
    gradients = [p.grad for p in student.network.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    assert all(p.grad is None for p in parent.parameters())
    for key, value in parent.network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert not parent.training
    assert hooks(student) == hooks(parent) == 0


def student_total(student: Tracker, parts: dict[str, Tensor]) -> Tensor:
    weights = getattr(student, "weights", None) or student.loss
    return sum(weights[name] * value for name, value in parts.items() if name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_learning_from_the_parent_brings_a_child_nearer_to_it(name):
    # Both networks would keep too few common candidates of 16. Elimination has a test of its own.
    parent = small_ostrack(elimination=None, seed=1) if name == "ostrack" else small(name, 1)
    student = copy.deepcopy(parent)
    plan = {g.name: tuple(range(0, g.size, 2)) for g in student.groups()}
    compact(student.network, student.groups(), Plan(plan))
    teacher, seen = Teacher(parent, 1, 1), batch(student)
    optimizer = torch.optim.AdamW(student.network.parameters(), lr=1e-3)
    history = []
    for _ in range(14):
        torch.manual_seed(0)
        losses = teacher.losses(student, seen)
        distances = {name: losses[name] for name in ("distill_outputs", "distill_features")}
        history.append({name: value.item() for name, value in distances.items()})
        optimizer.zero_grad()
        sum(distances.values()).backward()
        optimizer.step()
    for part in ("distill_outputs", "distill_features"):
        later = [distances[part] for distances in history[7:]]
        assert sum(later) / len(later) < 0.9 * history[0][part], history


def test_a_child_may_eliminate_other_candidates_than_its_parent():
    parent = small("ostrack")
    student = pruned(parent).train()
    for keep in (1.0, 0.8, None):
        student.network.backbone.keep = keep
        losses = Teacher(parent, 1, 1).losses(student, batch(student))
        losses["total"].backward()
        assert all(p.grad.isfinite().all() for p in student.network.parameters())
    assert parent.network.backbone.keep is None


def test_what_weighs_nothing_is_not_computed():
    parent = small("ostrack")
    student = pruned(parent)
    assert "distill_features" not in Teacher(parent, 1, 0).losses(student, batch(student))
    assert "distill_outputs" not in Teacher(parent, 0, 1).losses(student, batch(student))


@pytest.mark.parametrize(
    ("outputs", "features", "words"),
    [
        (-1, 1, "distillation.outputs=-1 must"),
        (1, float("nan"), "distillation.features=nan must"),
        (1, float("inf"), "distillation.features=inf must"),
        ("much", 1, "distillation.outputs=much must"),
        (0, 0, "distillation=none"),
    ],
)
def test_weights_that_make_no_sense(outputs, features, words):
    with pytest.raises(ValueError, match=r"e\.g\. ") as error:
        Teacher(small("ostrack"), outputs, features)
    assert words in str(error.value)


def test_a_tracker_that_names_no_features():
    parent = small("ostrack")
    parent.distilled = ()
    with pytest.raises(ValueError, match=r"choose distillation\.features=0"):
        Teacher(parent, 1, 1)
    student = copy.deepcopy(parent)
    assert Teacher(parent, 1, 0).losses(student, batch(student))["distill_outputs"] < 1e-10


# A training


class Data(L.LightningDataModule):
    def __init__(self, tracker: Tracker, batches: int = 2):
        super().__init__()
        self.batches = [batch(tracker, seed=i) for i in range(batches)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = train_dataloader


def trainer(root: object) -> L.Trainer:
    return L.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=root, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["ostrack", "stark", "dimp"])
def test_a_teacher_is_no_part_of_the_student(name, tmp_path):
    parent = small(name)
    student = pruned(parent)
    names = set(student.state_dict())
    student.teacher = Teacher(parent, 1, 1)
    run = trainer(tmp_path)
    run.fit(student, Data(student))
    assert set(student.state_dict()) == names
    theirs = {id(p) for p in parent.parameters()}
    known = chain(student.parameters(), *(g["params"] for g in run.optimizers[0].param_groups))
    assert not any(id(p) in theirs for p in known)
    logged = {key for key in run.logged_metrics if "distill" in key}
    assert logged == {"train/distill_outputs", "train/distill_features"}  # none of validation
    assert hooks(student) == hooks(parent) == 0


def test_no_hook_survives_a_training_that_breaks(tmp_path, monkeypatch):
    parent = small("ostrack")
    student = pruned(parent)
    student.teacher = Teacher(parent, 1, 1)

    def breaks(*_: object) -> None:
        raise KeyError("power cut")

    monkeypatch.setattr(type(student), "map_losses", breaks)
    with pytest.raises(KeyError, match="power cut"):
        trainer(tmp_path).fit(student, Data(student))
    assert hooks(student) == hooks(parent) == 0


# A job


def columns(outputs) -> set[str]:
    return {name for path in outputs.rglob("metrics.csv") for name in next(csv.reader(path.open()))}


@pytest.mark.attack
def test_a_job_distils_in_the_sparsity_and_child_stages_alone(run):
    given = ("ratio=0.5", "seed=11")
    (plain,) = results(run("train", *given))
    outputs = run("train", *given, "distillation=parent", "logger=csv", "trainer.log_every_n_steps=1")
    distilled = results(outputs)[-1]
    assert {name for name in columns(outputs) if "distill" in name} == {
        f"{stage}/distill_{part}" for stage in ("sparsity", "child") for part in ("outputs", "features")
    }
    assert (plain["method"], distilled["method"]) == ("slim", "slim + distillation")
    made = {stage for stage, seconds in distilled["seconds"].items() if seconds != "cached"}
    assert made == {"sparsity", "child", "evaluation"}
    assert distilled["params"] == pytest.approx(plain["params"], rel=0.02)
    other = results(run("train", *given, "distillation=parent", "distillation.features=3"))[-1]
    assert other["seconds"]["parent"] == "cached" != other["seconds"]["sparsity"]


def test_bad_weights_end_a_job_before_anything_is_made(run, capsys):
    for wrong in ("distillation.outputs=-1", "distillation.features=lots"):
        with pytest.raises(SystemExit) as stop:
            run("train", "ratio=0.5", "distillation=parent", wrong)
        told = capsys.readouterr().err + str(stop.value.code)
        assert wrong in told
        assert "stage parent: making" not in told
