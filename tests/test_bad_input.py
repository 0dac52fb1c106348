"""Bad input ends a run at once, with an exit code and one message that names the thing and the remedy."""

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from datamodules.readers import read_got10k
from tests.conftest import results
from trackers import load_checkpoint, load_tracker
from trackers.checkpoints.checkpoint import CheckpointError, build_tracker


@pytest.fixture
def broken(got10k, tmp_path):
    """A copy of the small world, to be damaged; its root is what paths.data names."""
    shutil.copytree(got10k, tmp_path / "data" / "got10k")
    return tmp_path / "data"


def refused(run, capsys, *words, script="train", overrides=()):
    with pytest.raises(SystemExit) as stop:
        run(script, *overrides)
    told = capsys.readouterr().err + str(stop.value.code)
    assert stop.value.code not in (0, None)
    assert "stage parent: making" not in told
    for word in words:
        assert word in told
    return told


def test_a_missing_data_folder(run, capsys):
    words = ("no data of GOT-10k at /nowhere/got10k", "got10k/train/list.txt", "paths.data=")
    refused(run, capsys, *words, overrides=("datamodule=got10k", "paths.data=/nowhere"))


def test_an_empty_list(run, capsys, broken):
    (broken / "got10k" / "train" / "list.txt").write_text("")
    refused(run, capsys, "list.txt is empty", overrides=("datamodule=got10k", f"paths.data={broken}"))


def test_a_part_of_a_benchmark_never_looks_like_the_whole(run, capsys, broken, small_checkpoint):
    shutil.rmtree(broken / "got10k" / "val" / "GOT-10k_Val_000002")
    chosen = (f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={broken}")
    refused(run, capsys, "benchmark.sequences.only_complete=true", script="eval", overrides=chosen)
    outputs = run("eval", *chosen, "benchmark.sequences.only_complete=true")
    told = capsys.readouterr()
    assert "benchmark=got10k scores 1 of 2 sequences" in told.out + told.err
    (result,) = results(outputs)
    assert result["metrics"]["got10k"]["protocol"].endswith(", 1 of 2 sequences")
    assert "1 of 2 sequences" in " ".join(told.out.split())


def test_a_server_takes_no_part(run, capsys, broken, small_checkpoint):
    shutil.move(broken / "got10k" / "val", broken / "got10k" / "test")
    shutil.rmtree(broken / "got10k" / "test" / "GOT-10k_Val_000002")
    chosen = (f"checkpoint={small_checkpoint}", "benchmark=got10k_test", f"paths.data={broken}", "action=submit")
    told = refused(run, capsys, "GOT-10k_Val_000002. Finish the copy", script="eval", overrides=chosen)
    assert "only_complete" not in told
    forced = (*chosen, "+benchmark.sequences.only_complete=true")
    refused(run, capsys, "takes results of all sequences", script="eval", overrides=forced)


def test_more_annotations_than_frames(run, capsys, broken):
    (broken / "got10k" / "train" / "GOT-10k_Train_000001" / "00000020.jpg").unlink()
    words = ("GOT-10k_Train_000001", "19 frames", "20 annotated boxes")
    refused(run, capsys, *words, overrides=("datamodule=got10k", f"paths.data={broken}"))


@pytest.mark.parametrize("ratio", ["0", "-0.5", "1.5", "nan", "half", "True"])
def test_a_ratio_outside_of_its_range(run, capsys, ratio):
    refused(run, capsys, f"ratio={ratio}", "(0, 1]", "ratio=0.25", overrides=(f"ratio={ratio}",))


def test_a_ratio_out_of_reach_names_one_in_reach(run, capsys):
    refused(run, capsys, "ratio=0.0001", "the smallest is", overrides=("ratio=0.0001",))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pruning.ratio_of=flops", ("ratio_of=flops", "macs")),
        ("pruning.round_to=0", ("round_to=0",)),
        ("pruning.floor=2", ("floor=2", "[0, 1]")),
        ("pruning.normalise=median", ("normalise=median", "zscore")),
        ("pruning.scope.default=block", ("'block'", "layer")),
        ("pruning.scope=kinds", ("pruning.scope=kinds", "did you mean kind?")),
        ("pruning.schedule=linaer", ("pruning.schedule=linaer", "did you mean Linear?")),
        ("pruning.criterion=Taylor", ("pruning=taylor",)),
        ("+pruning.foo=3", ("pruning: ", "unexpected keyword argument 'foo'")),
        ("stages.child.steps=many", ("stages.child.steps=many",)),
        ("stages.sparsity.steps=-3", ("stages.sparsity.steps=-3",)),
        ("pruning.kinds=[atention]", ("atention", "attention")),
        ("pruning.protect=[heads.*]", ("heads.*", "box_head")),
        ("pruning.schedule.start=0.9", ("start=0.9", "end=0.7")),
        ("stages.sparsity.steps=0", ("pruning=slim", "stages.sparsity.steps=0", "pruning=magnitude")),
    ],
)
def test_settings_of_pruning_that_make_no_sense(run, capsys, override, words):
    refused(run, capsys, *words, overrides=("ratio=0.5", override))


def test_chipnet_needs_a_cost_with_a_derivative(run, capsys):
    chosen = ("ratio=0.5", "pruning=chipnet", "pruning.ratio_of=latency")
    refused(run, capsys, "latency", "pruning.ratio_of=macs", overrides=chosen)


def test_an_unknown_argument_that_was_forced_in(run, capsys):
    refused(run, capsys, "widht", overrides=("+tracker.vit.widht=3", "ratio=0.5"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tracker.online=null", ("tracker.online=None must be Online",)),
        ("+tracker.recipe.clip_args=[1]", ("tracker.recipe: Recipe", "'clip_args'")),
    ],
)
def test_an_argument_of_the_tracker_that_does_not_fit(run, capsys, override, words):
    told = refused(run, capsys, *words, overrides=(override, "ratio=0.5"))
    assert "Traceback" not in told


@pytest.fixture
def checkpoint(half):
    return next(half.rglob("checkpoint.safetensors"))


def test_a_missing_checkpoint(run, capsys):
    refused(run, capsys, "/no/where", "no checkpoint at", script="eval", overrides=("checkpoint=/no/where",))


@pytest.mark.parametrize(
    ("script", "overrides", "words"),
    [
        ("eval", (), ("checkpoint=weights/",)),
        ("prune", (), ("checkpoint=weights/", "ratio=0.25")),
        ("prune", ("checkpoint=parent.safetensors",), ("needs ratio",)),
        ("train", ("experiment=stark_stage2", "tracker=stark_st50"), ("checkpoint=stark_stage1.safetensors",)),
    ],
)
def test_a_required_key_that_was_forgotten(run, capsys, script, overrides, words):
    refused(run, capsys, *words, script=script, overrides=overrides)


def test_a_required_key_that_one_job_of_a_sweep_lacks(run, capsys):
    """Only `ostrack_got10k` needs a checkpoint, so the other job goes on."""
    with pytest.raises(SystemExit) as stop:
        run("train", "-m", "experiment=ostrack_got10k,demo", "tracker=ostrack", "dry_run=true", "datamodule=synthetic")
    assert "1 of 2 jobs would fail" in str(stop.value.code)
    assert "this command needs checkpoint; add e.g. checkpoint=mae_pretrain_vit_base.pth" in str(stop.value.code)
    assert "parent evaluation" not in (told := capsys.readouterr().out)
    assert "would run" in told


@pytest.mark.parametrize("script", ["eval", "prune"])
def test_a_pretrained_backbone_is_no_tracker(run, capsys, script):
    overrides = ("checkpoint=pretrained", *(["ratio=0.5"] if script == "prune" else []))
    refused(run, capsys, "checkpoint=pretrained is no tracker", script=script, overrides=overrides)


def test_a_file_that_is_no_checkpoint(run, capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("not weights at all")
    words = ("notes.txt", "safetensors")
    refused(run, capsys, *words, script="prune", overrides=(f"checkpoint={tmp_path / 'notes.txt'}", "ratio=0.5"))


def test_weights_without_a_recipe(tmp_path, checkpoint):
    save_file(load_file(checkpoint), tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="no recipe"):
        load_tracker(tmp_path / "bare.safetensors")


def test_weights_of_another_architecture_are_listed(tmp_path, checkpoint):
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as file:
        header = file.metadata()
    weights = load_file(checkpoint)
    weights["backbone.blocks.7.attn.qkv.weight"] = weights.pop("backbone.norm.weight")
    save_file(weights, tmp_path / "other.safetensors", header)
    with pytest.raises(CheckpointError) as error:
        load_tracker(tmp_path / "other.safetensors")
    assert "missing: backbone.norm.weight" in str(error.value)
    assert "unexpected: backbone.blocks.7.attn.qkv.weight" in str(error.value)


@pytest.mark.parametrize(
    "target",
    ["os.system", "trackers.checkpoints.checkpoint.logging.os.system", "trackers.checkpoints.checkpoint.load_tracker"],
)
def test_a_recipe_builds_nothing_but_our_classes(checkpoint, target):
    recipe = load_checkpoint(checkpoint).recipe
    recipe["recipe"]["schedule"] = {"_target_": target, "command": "true"}
    with pytest.raises(CheckpointError, match="may only build classes of 'trackers'"):
        build_tracker(recipe)


@pytest.mark.parametrize("box", [(500, 10, 20, 20), (-40, 10, 30, 30), (5, 5, 0, 10), (5, 5, np.nan, 10), (1, 2, 3)])
def test_a_box_that_is_outside_or_empty(checkpoint, got10k, box):
    image = read_got10k(got10k, "val")[0].image(0)
    with pytest.raises(ValueError, match="box"):
        load_tracker(checkpoint).init(image, box)


def test_pictures_that_are_not_rgb_and_updates_without_a_start(checkpoint, got10k):
    tracker, image = load_tracker(checkpoint), read_got10k(got10k, "val")[0].image(0)
    with pytest.raises(RuntimeError, match="init"):
        tracker.update(image)
    for wrong in (image[..., 0], image.astype(np.float32), np.zeros((10, 10, 4), np.uint8)):
        with pytest.raises(ValueError, match="RGB"):
            tracker.init(wrong, (5, 5, 20, 20))


def test_unreadable_frames_are_named_and_counted(run, broken, capsys):
    for damaged in sorted((broken / "got10k" / "train" / "GOT-10k_Train_000002").glob("*.jpg")):
        damaged.write_bytes(b"not a picture")
    outputs = run("train", "datamodule=got10k", f"paths.data={broken}", "logger=csv", "stages.parent.steps=8")
    told = capsys.readouterr().out
    assert "cannot read the frame" in told
    assert "GOT-10k_Train_000002" in told
    metrics = next(outputs.rglob("metrics.csv")).read_text().splitlines()
    column = metrics[0].split(",").index("parent/unreadable_frames")
    counted = [float(row.split(",")[column]) for row in metrics[1:] if row.split(",")[column]]
    assert sum(counted) == told.count("another sample is drawn instead") > 0
    assert results(outputs)[0]["status"] == "finished"


def test_data_of_which_nothing_can_be_read_is_an_error(run, broken):
    for damaged in (broken / "got10k" / "train").rglob("*.jpg"):
        damaged.write_bytes(b"not a picture")
    with pytest.raises(SystemExit, match="frames in a row could not be read"):
        run("train", "datamodule=got10k", f"paths.data={broken}", "stages.parent.steps=3")


def test_a_training_that_diverges_is_one_message_and_no_stage(run, capsys, cache):
    refused_late = ("ratio=0.5", "pruning=magnitude", "stages.sparsity.steps=0", "stages.child.steps=4")
    with pytest.raises(SystemExit) as stop:
        run("train", *refused_late, "stages.child.lr_scale=1e22")
    told = capsys.readouterr().err + str(stop.value.code)
    assert stop.value.code not in (0, None)
    for word in ("stage child, step 1", "samples 2 to 3", "loss giou", "stages.child.lr_scale", "precision=32-true"):
        assert word in told
    assert "Traceback" not in told
    assert not [path for path in (cache / "stages").glob("child-*/stage.json") if "1e+22" in path.read_text()]
