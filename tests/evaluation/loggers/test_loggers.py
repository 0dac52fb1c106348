"""Loggers, above all the content of a finished offline run of Weights & Biases."""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytorch_lightning.utilities import rank_zero_only

from evaluation import loggers
from evaluation.loggers.ending import finish_logger, marked_if_failed
from evaluation.loggers.run_summary import protocols_of, summary_of
from evaluation.loggers.stage_logger import StageLogger
from evaluation.loggers.unfinished_run import NOTE, UnfinishedRun
from tests.evaluation.report.studies import job, with_intervals
from tests.offline_runs import OfflineRun, log_out

RESULT = with_intervals(job(ratio=0.5, method="slim + distillation", ao=0.4))
RESULT |= {"bytes": 1_400_000, "speed": {"synthetic": {"fps": 120.5, "protocol": "whole tracker"}}}
JOB = {key: RESULT[key] for key in ("tracker", "scale", "ratio", "ratio_of", "method", "seed", "config_hash")}


def start_logger(folder: Path, group: Path, **changes) -> StageLogger:
    settings = {"tracker": {"_target_": "trackers.ostrack.OSTrack"}, "job": JOB | changes}
    return loggers.wandb(str(folder), "a-project", None, str(group), True, settings)


@pytest.fixture(autouse=True)
def logged_out(monkeypatch: pytest.MonkeyPatch) -> None:
    log_out(monkeypatch)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The run of a job whose parent was found in the cache, in a sweep: three stages, a result, two checkpoints."""
    folder = tmp_path_factory.mktemp("outputs")
    places = {"parent": "parent-ab12", "child": "child-cd34"}
    files = SimpleNamespace(**{name: folder / place / "c.safetensors" for name, place in places.items()})
    for name, file in vars(files).items():
        file.parent.mkdir()
        file.write_text(name)
    with pytest.MonkeyPatch.context() as patch:
        log_out(patch)
        logger = start_logger(folder / "study" / "1_ratio0.5", folder / "study")
        for stage in ("parent", "sparsity", "child"):
            for step in range(2):
                logger.log_metrics({f"{stage}/total": 2.0 - step, "epoch": 0}, step=step)
        logger.log_metrics({"pruning/ratio_achieved": 0.5}, step=1)
        logger.log_metrics({"lr-AdamW": 0.1}, step=1)
        finish_logger(logger, RESULT, files.parent, files.child, trained=False)
    return SimpleNamespace(run=OfflineRun(folder / "study" / "1_ratio0.5"), files=files)


def test_a_run_says_which_job_it_is(logged):
    about = logged.run.about
    assert about["display_name"] == "ostrack-tiny slim + distillation ratio=0.5 seed=42"
    assert (about["project"], about["run_group"], about["job_type"]) == ("a-project", "study", "child")
    tags = {"tracker=ostrack", "scale=tiny", "method=slim + distillation", "ratio=0.5", "seed=42"}
    assert set(about["tags"]) == tags
    assert logged.run.config["job"] == JOB
    assert logged.run.config["tracker"] == {"_target_": "trackers.ostrack.OSTrack"}
    assert logged.run.exit_code == 0


def test_every_stage_counts_its_own_steps(logged):
    axes = {f"{stage}/*": f"{stage}/step" for stage in ("parent", "sparsity", "child", "pruning")}
    assert logged.run.axes == axes
    for stage in ("parent", "sparsity", "child"):
        rows = [row for row in logged.run.history if f"{stage}/total" in row]
        assert [(row[f"{stage}/step"], row[f"{stage}/total"]) for row in rows] == [(0, 2.0), (1, 1.0)]
        assert all(row[f"{stage}/epoch"] == 0 for row in rows)
    assert any(row.get("lr-AdamW") == 0.1 for row in logged.run.history)


def test_the_summary_holds_the_numbers_of_the_result(logged):
    expected = {
        "metrics/synthetic/AO": 0.4,
        "retention/synthetic/AO": 0.8,
        "still_box/synthetic/AO": 0.2,
        "protocol/synthetic": "GOT-10k",
        "params": 350_000,
        "macs": 45_000_000,
        "achieved/params": 0.5,
        "achieved/macs": 0.5,
        "latency/cpu": 5.5,
        "ratio_achieved": 0.5,
        "metrics/synthetic/AO/low": 0.35,
        "metrics/synthetic/AO/high": 0.45,
        "retention/synthetic/AO/low": 0.75,
        "parent_metrics/synthetic/AO": 0.5,
        "parent_metrics/synthetic/AO/high": 0.55,
        "parent_params": 700_000,
        "parent_macs": 90_000_000,
        "parent_latency/cpu": 9.0,
        "speedup/cpu": 1.5,
        "speedup/cpu/low": 1.45,
        "speedup/cpu/noise": 1.0,
        "speedup/cpu/noise/high": 1.03,
        "fps/synthetic": 120.5,
        "bytes": 1_400_000,
    }
    assert {key: logged.run.summary.get(key) for key in expected} == pytest.approx(expected)
    protocols = {"intervals": "95 % bootstrap over sequences", "speedup": "in turns", "fps": "whole tracker"}
    assert logged.run.config["protocols"].items() >= protocols.items()
    assert logged.run.table("kept units_table")["data"][0] == ["blocks.0.attn", "attention", 48, 0.5]


def test_what_an_earlier_version_left_out_is_left_out():
    old = {"ratio": 0.5, "metrics": {"synthetic": {"protocol": "GOT-10k", "AO": 0.4}}}
    assert summary_of(old) == {"metrics/synthetic/AO": 0.4, "protocol/synthetic": "GOT-10k"}
    assert protocols_of(old) == {}


def test_a_parent_has_no_parent():
    summary = summary_of(job(ratio=1))
    assert summary["metrics/synthetic/AO"] == 0.4
    assert not [key for key in summary if key.startswith("parent_")]


def test_an_offline_run_says_in_one_line_where_it_lies(capfd, caplog, tmp_path):
    logger = start_logger(tmp_path, tmp_path)
    logger.checkpoints = False
    with caplog.at_level("INFO", logger="evaluation"):
        finish_logger(logger, RESULT, tmp_path, None, trained=True)
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    (line,) = (record.getMessage() for record in caplog.records if record.name.startswith("evaluation"))
    assert line == f"W&B run: look at it with `wandb leet {folder}`, send it with `wandb sync`"
    assert "wandb:" not in "".join(capfd.readouterr())


def test_the_child_is_made_and_the_parent_is_used(logged):
    parent, child = (logged.run.artifacts[f"ostrack-tiny-{name}"] for name in ("parent", "slim-distillation-0.5"))
    assert parent["use_after_commit"]
    assert "use_after_commit" not in child
    assert set(parent["aliases"]) == {"latest", "parent-ab12"}
    assert set(child["aliases"]) == {"latest", "child-cd34"}
    for artifact, file in ((parent, logged.files.parent), (child, logged.files.child)):
        assert artifact["type"] == "model"
        assert [Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]] == [file], "no copy"
    about, dense = json.loads(child["metadata"]), json.loads(parent["metadata"])
    assert about.items() >= JOB.items()
    assert (about["params"], about["macs"], dense["params"], dense["ratio"]) == (350_000, 45_000_000, 700_000, 1)
    assert about["parent"] == "ostrack-tiny-parent:parent-ab12"


def test_a_job_that_trained_its_parent_makes_it(logged, tmp_path):
    logger = start_logger(tmp_path / "job", tmp_path / "elsewhere", ratio=1)
    finish_logger(logger, RESULT | {"ratio": 1}, logged.files.parent, None, trained=True)
    run = OfflineRun(tmp_path / "job")
    assert "run_group" not in run.about, "not in a sweep"
    assert run.about["job_type"] == "parent"
    models = [artifact for artifact in run.artifacts.values() if artifact["type"] == "model"]
    assert [model["name"] for model in models] == ["ostrack-tiny-parent"]
    assert "use_after_commit" not in models[0]


def test_checkpoints_stay_at_home_if_asked_to(logged, tmp_path):
    logger = start_logger(tmp_path, tmp_path)
    logger.checkpoints = False
    finish_logger(logger, RESULT, logged.files.parent, logged.files.child, trained=True)
    assert not [artifact for artifact in OfflineRun(tmp_path).artifacts.values() if artifact["type"] == "model"]


def test_a_failed_job_has_a_failed_run_and_the_next_one_has_its_own(run, monkeypatch, tmp_path):
    from trackers.ostrack import OSTrack

    def dies(self, batch):
        raise KeyError("power cut")

    monkeypatch.setattr(OSTrack, "losses", dies)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(KeyError, match="power cut"):
        run("train", "logger=wandb", "seed=12")
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    failed = OfflineRun(folder)
    assert failed.exit_code == 1
    assert failed.summary["error"] == "KeyError: 'power cut'"
    start_logger(tmp_path / "next", tmp_path).experiment.finish()
    assert OfflineRun(tmp_path / "next").about["run_id"] != failed.about["run_id"]


def test_a_job_that_goes_on_goes_on_in_its_run_and_when_it_is_finished_the_next_one_has_another(logged, tmp_path):
    def begin(**changes) -> StageLogger:
        logger = start_logger(tmp_path, tmp_path, **changes)
        for step in range(2):
            logger.log_metrics({"parent/total": 1.0}, step=step)
        return logger

    logger = begin()
    with pytest.raises(SystemExit), marked_if_failed(logger):
        raise SystemExit(143)
    time.sleep(1 - time.time() % 1)  # names of offline runs hold the second of their start
    finish_logger(begin(), RESULT, logged.files.parent, None, trained=True)
    first, second = (OfflineRun(tmp_path, part, 2) for part in (0, 1))
    assert first.about["run_id"] == second.about["run_id"]
    assert first.about["resume"]
    assert second.about["resume"]
    assert (first.exit_code, first.was_preempted, second.exit_code) == (1, True, 0)
    assert "error" not in first.summary
    assert [row["_step"] for run in (first, second) for row in run.history if "parent/total" in row] == [0, 1, 2, 3]
    assert UnfinishedRun.of_job(tmp_path, JOB["config_hash"]).id != first.about["run_id"]


def test_another_job_in_the_same_folder_and_a_forced_one_have_runs_of_their_own(tmp_path):
    first = UnfinishedRun.of_job(tmp_path, "a job")
    first.count(7)
    again = UnfinishedRun.of_job(tmp_path, "a job")
    assert (again.id, again.rows, again.is_continued) == (first.id, 7, True)
    ids = {UnfinishedRun.of_job(tmp_path, "a job", anew=True).id, UnfinishedRun.of_job(tmp_path, "another job").id}
    assert len(ids | {first.id}) == 3
    (tmp_path / NOTE).write_text("damaged")
    assert not UnfinishedRun.of_job(tmp_path, "a job").is_continued


def test_of_processes_that_train_together_one_logs(monkeypatch, tmp_path):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert start_logger(tmp_path / "job", tmp_path) is False
    assert not (tmp_path / "job").exists()


def test_disabled_means_disabled(logged, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = start_logger(tmp_path / "job", tmp_path)
    logger.log_metrics({"parent/total": 1.0}, step=0)
    finish_logger(logger, RESULT, logged.files.parent, logged.files.child, trained=False)
    assert not list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize("name", ["loggers.factories", "loggers.wandb_runs", "dashboard", "report.workspace"])
def test_only_those_who_log_to_wandb_import_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "wandb", None)
    spec = importlib.util.find_spec(f"evaluation.{name}")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_job_that_goes_on_in_its_folder_keeps_the_metrics_of_the_run_before(tmp_path):
    for loss in (3.0, 2.0, 1.0):
        logger = loggers.csv(str(tmp_path), {"seed": 0})
        logger.log_metrics({"loss": loss}, step=1)
        logger.save()
    folders = ["logs", "logs/continued_1", "logs/continued_2"]
    found = [(tmp_path / folder / "metrics.csv").read_text().split() for folder in folders]
    assert found == [["loss,step", f"{loss},1"] for loss in (3.0, 2.0, 1.0)]
