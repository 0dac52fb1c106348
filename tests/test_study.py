"""The thread through the whole house, from the command line to the report."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.readers import read_got10k
from pruning.cost import count_params
from tests.conftest import results
from trackers import load_checkpoint, load_tracker

NO_REPORT = "~hydra.callbacks.report"


@pytest.mark.slow
def test_a_sweep_leaves_children_of_the_asked_size_and_a_report(run, got10k, tmp_path):
    outputs = tmp_path / "outputs"
    with pytest.raises(SystemExit, match=r"1 of 4 jobs failed"):
        run("train", "-m", "ratio=1,0.5,0.1,0.0001", "experiment=demo", "checkpoint=null")
    (study,) = (outputs / "studies").iterdir()
    rows = list(csv.DictReader((study / "study.csv").open()))
    assert [float(r["ratio"]) for r in rows if r["status"] == "finished"] == [1, 0.5, 0.1]
    page, table = (study / "report.html").read_text(), (study / "study.md").read_text()
    assert "<svg" in page
    assert page.count('"label":"ostrack') == 3, "the sequences of each job"
    assert "| AO Parent | AO Child | AO Retention | cpu Speed-up | cpu ms | Parameters | MACs |" in table
    assert "too few: no evidence about other videos" in table
    children = [row for row in rows if row["status"] == "finished" and float(row["ratio"]) < 1]
    times = [float(row["latency.cpu.ms"]) * float(row["speedup.cpu.ratio"]) for row in children]
    assert times == pytest.approx([float(row["parent.latency.cpu.ms"]) for row in children])
    assert len({row["parent.latency.cpu.ms"] for row in children}) == 1
    parent, half, tenth, failed = results(outputs)
    assert "out of reach" in failed["error"]
    assert parent["retention"]["synthetic"]["AO"] == 1
    for child, ratio in ((half, 0.5), (tenth, 0.1)):
        assert child["parent"]["params"] == parent["params"]
        assert 0.99 * ratio < child["params"] / parent["params"] <= ratio
        assert child["ratio_achieved"] == pytest.approx(child["params"] / parent["params"])
        macs = child["macs"]["total"] / parent["macs"]["total"]
        assert child["achieved"] == {"params": child["params"] / parent["params"], "macs": macs}
        assert child["macs"]["total"] < parent["macs"]["total"]
        assert child["masked_vs_compacted"] < 1e-5
    made = [job["seconds"]["parent"] for job in (parent, half, tenth)]
    assert made.count("cached") >= 2, "two jobs run at a time, and at most the one that comes first trains the parent"
    folder = next(study.glob("*ratio0.1*"))
    assert {p.name for p in folder.iterdir()} >= {"config.yaml", "result.json", "checkpoint.safetensors", "boxes"}
    tracker = load_tracker(folder / "checkpoint.safetensors")
    assert count_params(tracker.tracker.network) == tenth["params"]
    for sequence in read_got10k(got10k, "val"):
        boxes = (folder / "boxes" / "synthetic" / f"{sequence.name}.txt").read_text().split()
        tracker.init(sequence.image(0), tuple(sequence.boxes[0]))
        for i in range(1, len(sequence)):
            box, score = tracker.update(sequence.image(i))
            assert boxes[i] == ",".join(f"{v:.3f}" for v in box)
            assert 0 <= score <= 1


def check_sequences(child: dict, path: Path) -> None:
    """Compares the scores and intervals of a child and of its parent with the rows of its sequences."""
    rows = list(csv.DictReader(path.open()))
    assert {row["benchmark"] for row in rows} == {"synthetic"}
    for of, column in ((child, "AO"), (child["parent"], "parent AO")):
        values, weights = ([float(row[name]) for row in rows] for name in (column, "weight"))
        assert np.average(values, weights=weights) == pytest.approx(of["metrics"]["synthetic"]["AO"])
        interval = of["intervals"]["synthetic"]["AO"]
        assert interval == pytest.approx({"low": min(values), "high": max(values)}), "two sequences: the whole range"
    interval, retention = (child[key]["synthetic"]["AO"] for key in ("retention_intervals", "retention"))
    assert interval["low"] <= retention <= interval["high"]


@pytest.mark.parametrize(
    ("tracker", "method"),
    [("stark", "slim"), ("dimp", "network_slimming")],
)
def test_every_tracker_goes_the_whole_way_down_to_one_percent(run, tracker, method):
    outputs = run("train", "ratio=0.01", f"tracker={tracker}", f"pruning={method}")
    (child,) = results(outputs)
    assert (child["tracker"], child["method"]) == (tracker, method)
    check_sequences(child, next(outputs.rglob("sequences.csv")))
    assert 0.008 < child["params"] / child["parent"]["params"] <= 0.01
    assert child["masked_vs_compacted"] < 1e-4
    assert child["macs"]["total"] < 0.1 * child["parent"]["macs"]["total"]


@pytest.mark.slow
def test_a_child_is_pruned_again_and_scored_from_its_file_alone(run, half):
    checkpoint = next(half.rglob("checkpoint.safetensors"))
    outputs = run("prune", f"checkpoint={checkpoint}", "ratio=0.5", "pruning=magnitude")
    grandchild = next((outputs / "prune").rglob("checkpoint.safetensors"))
    first, second = load_checkpoint(checkpoint), load_checkpoint(grandchild)
    assert 0.98 * 0.5 < count_params(second.tracker.network) / count_params(first.tracker.network) <= 0.5
    outputs = run("eval", f"checkpoint={grandchild}", "benchmark=synthetic")
    (scored,) = results(outputs / "eval")
    (pruned,) = results(outputs / "prune")
    assert scored["metrics"] == pruned["metrics"]


def test_a_child_is_cut_in_one_shot_without_any_training(run):
    steps = [f"stages.{stage}.steps=0" for stage in ("parent", "sparsity", "child")]
    (child,) = results(run("train", "ratio=0.5", "pruning=magnitude", *steps))
    assert child["ratio_achieved"] <= 0.5
    assert child["masked_vs_compacted"] < 1e-4


@pytest.mark.slow
def test_several_checkpoints_are_scored_by_one_command(run, half):
    checkpoint = next(half.rglob("checkpoint.safetensors"))
    outputs = run("eval", "-m", f"checkpoint={checkpoint},{checkpoint}")
    first, second = results(outputs / "eval")
    assert first["metrics"] == second["metrics"]


@pytest.mark.slow
def test_stages_are_made_once_and_again_only_when_asked(run):
    first = results(run("train", "seed=7"))[0]
    again = results(run("train", "seed=7", "datamodule.workers=1"))[-1]
    assert first["seconds"]["parent"] != "cached"
    assert set(again["seconds"].values()) == {"cached"}
    assert again["metrics"] == first["metrics"]
    forced = results(run("train", "seed=7", "force=true"))[-1]
    assert "cached" not in forced["seconds"].values()
    assert forced["metrics"] == first["metrics"]


def test_a_job_says_who_made_its_stages(half):
    (result,) = results(half)
    assert list(result["stages"]) == ["parent", "sparsity", "child", "parent evaluation", "evaluation"]
    for stage in result["stages"].values():
        assert stage["commit"] == result["commit"]
        assert stage["versions"] == result["versions"]


@pytest.mark.slow
def test_a_checkpoint_that_was_damaged_in_the_cache_is_trained_again(run, fresh_cache):
    mine = (f"paths.cache={fresh_cache}", "stages.parent.steps=1")
    outputs = run("train", *mine)
    (first,) = results(outputs)
    (checkpoint,) = (fresh_cache / "stages").glob("parent-*/checkpoint.safetensors")
    assert next(outputs.rglob("checkpoint.safetensors")).samefile(checkpoint), "a link, which takes no room"
    assert not list((fresh_cache / "stages").glob("*.holder"))
    content = bytearray(checkpoint.read_bytes())
    content[-3] ^= 64
    checkpoint.unlink()  # the job's own file is the same one
    checkpoint.write_bytes(content)
    again = results(run("train", *mine))[-1]
    assert again["seconds"]["parent"] != "cached"
    assert again["seconds"]["evaluation"] == "cached"
    assert again["metrics"] == first["metrics"]


def test_ratio_of_units_is_the_papers_budget(run):
    budget = ["pruning.ratio_of=units", "pruning.kinds=[attention,mlp]"]
    outputs = run("train", "ratio=0.25", *budget, "pruning.floor=0")
    (result,) = results(outputs)
    for kind, units in (("attention", 2 * 24), ("mlp", 2 * 72)):
        kept = sum(u["kept"] for u in result["units"].values() if u["kind"] == kind)
        assert kept == pytest.approx(0.25 * units, abs=2)
    assert all(u["kept"] == u["size"] for u in result["units"].values() if u["kind"] not in ("attention", "mlp"))


def test_ratio_of_macs_is_what_is_counted(run):
    (result,) = results(run("train", "ratio=0.5", "pruning=taylor", "pruning.ratio_of=macs", "pruning.every=2"))
    achieved = result["macs"]["total"] / result["parent"]["macs"]["total"]
    assert achieved == result["ratio_achieved"] <= 0.5
    assert achieved > 0.45
    assert result["method"] == "taylor"


@pytest.mark.slow
def test_ratio_of_latency_prunes_by_a_measured_table(run):
    (result,) = results(
        run("train", "ratio=0.9", "pruning=magnitude", "pruning.ratio_of=latency", "stages.child.steps=0")
    )
    assert result["ratio_achieved"] <= 0.9
    assert result["params"] < result["parent"]["params"]


@pytest.mark.slow
def test_pruning_prints_what_happened_to_every_group(run, capsys):
    outputs = run("train", "ratio=1")
    (parent,) = outputs.rglob("checkpoint.safetensors")
    capsys.readouterr()
    run("prune", f"checkpoint={parent}", "ratio=0.5", "pruning=magnitude", "stages.sparsity.steps=0")
    told = capsys.readouterr().out
    result = next(r for r in results(outputs) if r["ratio"] == 0.5)
    for name, group in result["units"].items():
        line = next(row for row in told.splitlines() if f" {name} " in row)
        assert [cell.strip() for cell in line.split("│")[3:5]] == [str(group["size"]), str(group["kept"])]
    after = re.split(r" parent +child +retention\n", told)[1]
    assert "times" in after.partition("In brackets")[0], "the paired speed-up"
    for words in ("2 sequences are too few: no evidence", "an unpruned one against itself", "checkpoint.safetensors "):
        assert words in after
    assert told.splitlines()[-1].startswith("next: python eval.py ")


@pytest.mark.attack
def test_a_failed_job_does_not_stop_the_sweep_and_is_the_only_one_that_is_tried_again(run, tmp_path, capsys):
    study = tmp_path / "study"
    command = ("train", "-m", "ratio=0.0001,0.5", f"hydra.sweep.dir={study}")
    with pytest.raises(SystemExit, match=r"1 of 2 jobs failed.*\n  0_ostrack_ratio0.0001_seed42: .*") as stop:
        run(*command)
    failed, finished = results(study)
    assert failed["status"] == "failed"
    assert "out of reach" in failed["error"]
    assert failed["log"] in stop.value.code
    assert "Traceback" in Path(failed["log"]).read_text()
    assert finished["status"] == "finished"
    (row, _) = sorted(csv.DictReader((study / "study.csv").open()), key=lambda row: row["job"])
    assert (row["status"], row["log"]) == ("failed", failed["log"])
    assert (study / "report.html").is_file()
    told = capsys.readouterr().out
    assert told.count("  report.html ") == 1
    assert "next:" not in told, "one tracker alone"

    with pytest.raises(SystemExit, match=r"1 of 2 jobs failed"):
        run(*command)
    assert results(study)[1] == finished, "with times and all: it was not run again"


@pytest.mark.attack
def test_a_dry_run_says_what_is_there_and_an_interrupted_stage_goes_on(run, monkeypatch, tmp_path, fresh_cache, capsys):
    from trackers.ostrack import OSTrack

    mine = ("seed=3", f"paths.cache={fresh_cache}")

    def plan(*overrides: str) -> list[list[str]]:
        capsys.readouterr()
        run("train", "-m", "ratio=1,0.5", "dry_run=true", *mine, *overrides)
        lines = capsys.readouterr().out.splitlines()
        assert "2 jobs, 5 stages: " in lines[-1]
        assert sum("ratio 0.5 of the parameters keeps about 50% of the parameters and" in line for line in lines) >= 2
        rows = [line.split("\u2502")[1:-1] for line in lines]
        return [[cell.strip() for cell in row] for row in rows if len(row) == 5]

    parent, of_parent, again, sparsity, child, of_again, of_child = first = plan()
    assert {row[2] for row in first} == {"would run"}
    assert (parent[1], of_parent[1]) == (again[1], of_again[1])
    assert [row[3] for row in (sparsity, child, of_child)] == ["parent", "sparsity", "child"]
    assert [row[4] for row in (parent, sparsity, of_child)] == ["4 x 2", "6 x 2", ""]
    assert not (fresh_cache / "stages").exists()
    assert not (tmp_path / "outputs").exists()

    honest, calls = OSTrack.losses, []

    def dies_in_the_sparsity_stage(self, batch):
        calls.append(self.stage)
        if calls.count("sparsity") == 4:
            raise KeyError("power cut")
        return honest(self, batch)

    monkeypatch.setattr(OSTrack, "losses", dies_in_the_sparsity_stage)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(KeyError, match="power cut"):
        run("train", "ratio=0.5", "resume_minutes=0", *mine)
    states = {row[1]: row[2] for row in plan()}
    assert states[parent[1]] == "cached"
    assert states[sparsity[1]] == "partly done, at step 3 of 6"
    assert states[child[1]] == states[of_child[1]] == "would run"
    assert {row[2] for row in plan("force=true")} == {"would run"}
    with pytest.raises(SystemExit, match=r"^error: 1 of 2 jobs would fail:\n  1_ostrack_ratio0\.0001_seed3: .*out of"):
        run("train", "-m", "ratio=1,0.0001", "dry_run=true", *mine)

    resumed = results(run("train", "ratio=0.5", *mine))[-1]
    assert calls.count("sparsity") == 4 + 3, "3 of the 6 steps should not be repeated"
    whole = results(run("train", "ratio=0.5", "seed=3"))[-1]
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["units"] == whole["units"]


@pytest.mark.attack
def test_a_method_that_ranks_once_is_trained_once_for_all_ratios(run):
    half, quarter = results(run("train", "-m", "ratio=0.5,0.25", "pruning=icassp2023", "seed=5", NO_REPORT))
    assert half["seconds"]["ranking"] != "cached"
    assert quarter["seconds"]["ranking"] == "cached"
    assert quarter["seconds"]["sparsity"] != "cached"
    assert quarter["ratio_achieved"] <= 0.25 < half["ratio_achieved"] <= 0.5


@pytest.mark.attack
def test_force_makes_what_jobs_share_once_a_sweep(run):
    one_shot = ("pruning=magnitude", "stages.sparsity.steps=0", "stages.child.steps=0")
    sweep = run("train", "-m", "ratio=1,0.5", "seed=7", "force=true", *one_shot)
    parent, child = results(sweep / "studies")
    assert parent["seconds"]["parent"] != "cached"
    assert child["seconds"]["parent"] == "cached"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logger", "ratio"), [("csv", 0.5), ("tensorboard", 1)]
)  # of W&B see evaluation/test_loggers.py
def test_results_reach_the_logger(run, logger, ratio):
    outputs = run("train", f"logger={logger}", f"ratio={ratio}", "force=true")
    pattern = {"csv": "metrics.csv", "tensorboard": "events.out.tfevents*"}[logger]
    log = next(outputs.rglob(pattern))
    assert log.stat().st_size > 0
    if logger == "csv":
        assert "pruning/ratio_achieved" in log.read_text().splitlines()[0]


def test_full_scale_builds_runs_and_prunes():
    from hydra import compose, initialize
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from pruning.budget import fit_plan
    from pruning.cost import ParamCost
    from pruning.surgery import compact
    from trackers.checkpoints.checkpoint import build_tracker

    with initialize("../conf", version_base="1.3"):
        cfg = compose("train", ["scale=full", "ratio=0.01"])
    with torch.device("meta"):
        tracker = build_tracker(OmegaConf.to_container(cfg.tracker))
    groups = tracker.groups()
    instantiate(cfg.pruning, ratio=cfg.ratio).check(tracker.network, groups)
    assert count_params(tracker.network) == 92_518_533 - 768 - 151_296  # published, less what never runs
    places = {g.name: torch.rand(g.size) for g in groups}
    plan = fit_plan(groups, places, ParamCost(tracker.network, groups), 0.01)
    child = compact(tracker.network, groups, plan).eval()
    assert 0.0099 < count_params(child) / 92_366_469 <= 0.01
    child.load_state_dict({k: torch.rand(v.shape) for k, v in child.state_dict().items()}, assign=True)
    maps = child(torch.rand(1, 3, 128, 128), torch.rand(1, 3, 256, 256))
    assert maps["score_map"].shape == (1, 1, 16, 16)


@pytest.mark.slow
def test_mixed_precision_trains_with_finite_losses(run):
    outputs = run("train", "trainer.precision=bf16-mixed", "ratio=0.5", "logger=csv", "trainer.log_every_n_steps=1")
    header, *rows = csv.reader(next(outputs.rglob("metrics.csv")).open())
    losses = [float(row[i]) for row in rows for i, name in enumerate(header) if name.endswith("/total") and row[i]]
    assert len(losses) >= 4 + 6 + 2
    assert all(abs(loss) < float("inf") for loss in losses)


def test_saturated_scores_stay_finite_in_half_precision():
    from trackers.losses import focal_loss, gaussian_heatmap
    from trackers.ostrack.head import CenterHead

    head = CenterHead(4, [4]).eval()
    torch.nn.init.constant_(head.conv2_ctr.bias, 50.0)
    with torch.autocast("cpu", torch.bfloat16):
        score = head(torch.randn(1, 4, 6, 6))["score_map"]
    assert score.max() < 1
    assert focal_loss(score[:, 0], gaussian_heatmap(torch.tensor([[0.3, 0.3, 0.4, 0.4]]), 6)).isfinite()


def test_results_are_plain_numbers(run):
    (result,) = results(run("train"))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["metrics"]["synthetic"]["protocol"] == "GOT-10k"
    assert 0 <= result["still_box"]["synthetic"]["AO"] <= 1
