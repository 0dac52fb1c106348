"""A study on Weights & Biases: its run, the group of its jobs, and the saved view."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from evaluation import report
from evaluation.dashboard import main
from evaluation.files import write_json
from evaluation.report.tables import csv_table
from evaluation.report.wandb_study import LOGGER, StudyRun
from evaluation.report.wandb_table import constants_of, study_table
from evaluation.report.workspace import save_workspace, workspace_of
from tests.evaluation.report.studies import dense, job, with_intervals
from tests.offline_runs import OfflineRun, log_out


@pytest.fixture(autouse=True)
def logged_out(monkeypatch: pytest.MonkeyPatch) -> None:
    log_out(monkeypatch)


def a_study(folder: Path, logger: str, results: list[dict]) -> Path:
    """Writes the files of a study's jobs that the command reads, and returns the folder."""
    about = {"_target_": f"evaluation.loggers.{logger}", "project": "a-project", "entity": None}
    for index, result in enumerate(results):
        (folder / str(index)).mkdir(parents=True)
        write_json(folder / str(index) / "result.json", result)
        OmegaConf.save({"logger": about}, folder / str(index) / "config.yaml")
    return folder


def a_short_report(results: list[dict], folder: Path, title: str, command: str) -> Path:
    """Writes a short report, since drawing the real one is slow."""
    (folder / "plots").mkdir(exist_ok=True)
    (folder / "plots" / "retention.svg").write_text("<svg/>")
    (folder / "study.csv").write_text(csv_table(results))
    (folder / "report.html").write_text(title)
    return folder / "report.html"


@pytest.mark.attack
def test_a_sweep_is_a_group_and_ends_with_a_run_of_its_own(run, monkeypatch):
    monkeypatch.setattr(report, "write_report", a_short_report)
    short = [
        "pruning=magnitude",
        "logger.checkpoints=true",
        *(f"stages.{stage}.steps=0" for stage in ("sparsity", "child")),
    ]
    # A seed of no other test, so that the first job trains the parent in any order of the tests.
    (study,) = (run("train", "-m", "ratio=1,0.5", "seed=1011", "logger=wandb", *short) / "studies").iterdir()
    parent, child, whole = (OfflineRun(folder) for folder in (*sorted(study.glob("[01]_*")), study))
    assert {r.about["run_group"] for r in (parent, child, whole)} == {study.name}
    assert [r.about["job_type"] for r in (parent, child, whole)] == ["parent", "child", "study"]
    made, used = (r.artifacts["ostrack-tiny-parent"] for r in (parent, child))
    assert made["digest"] == used["digest"], "one tracker"
    assert ("use_after_commit" in made, "use_after_commit" in used) == (False, True)
    assert "ostrack-tiny-magnitude-0.5" in child.artifacts
    assert (whole.summary["jobs/finished"], whole.summary["jobs/failed"]) == (2, 0)


def test_a_study_run_holds_table_curves_and_report(tmp_path):
    results = [dense(), job(ratio=0.5, ao=0.4), job(ratio=0.1, ao=0.2), {"job": "3", "status": "failed", "error": "x"}]
    study = a_study(tmp_path / "a-study", "wandb", results)
    a_short_report(results, study, "The report", "")
    main([str(study)])
    run = OfflineRun(study)
    assert (run.about["run_group"], run.about["project"]) == ("a-study", "a-project")
    assert set(run.about["tags"]) == {"tracker=ostrack", "method=slim"}

    table = run.table("study")
    ratio, name, error = (table["columns"].index(key) for key in ("ratio", "tracker", "error"))
    assert [(row[ratio], row[name]) for row in table["data"][:3]] == [
        (1, "ostrack"),
        (0.5, "ostrack"),
        (0.1, "ostrack"),
    ]
    assert [row[error] for row in table["data"]] == [None, None, None, "x"]
    assert (run.config["method"], run.config["versions.torch"]) == ("slim", "2.15.0"), "what all jobs share"

    line = "ostrack tiny slim params"
    assert run.table("retention/synthetic/AO_table")["data"] == [[1, line, 1], [0.5, line, 0.8], [0.1, line, 0.4]]
    chart = run.config["_wandb.visualize.retention/synthetic/AO"]["panel_config"]
    assert chart["panelDefId"] == "wandb/lineseries/v0"
    assert 0.4 < run.summary[f"area/synthetic/AO/{line}"] < 1
    assert run.summary[f"breaks below 0.9/synthetic/AO/{line}"] == "between 1 and 0.5", "one seed tells no more"
    assert run.summary[f"breaks below 0.5/synthetic/AO/{line}"] == "between 0.5 and 0.1"
    assert (run.summary["jobs/finished"], run.summary["jobs/failed"]) == (3, 1)

    assert (run.files / run.summary["report.path"]).read_text() == "The report"
    files = {entry["path"] for entry in run.artifacts["study-a-study"]["manifest"]["contents"]}
    assert files == {"report.html", "study.csv", "plots/retention.svg"}


def test_the_table_of_a_study_begins_with_what_differs_and_has_no_constants_or_long_words():
    jobs = [(tracker, ratio) for tracker in ("ostrack", "stark", "dimp") for ratio in (0.5, 1, 0.25)]
    results = [with_intervals(job(t, ratio, ao=0.1 + 0.4 * ratio)) for t, ratio in jobs]
    columns, rows = study_table(results)
    assert columns[:2] == ["tracker", "ratio"]
    assert [(row[0], row[1]) for row in rows] == sorted(jobs, key=lambda job: (job[0], -job[1]))
    assert columns[2:9] == [
        *("synthetic/AO", "synthetic/AO low", "synthetic/AO high", "synthetic/AO of the parent"),
        *("synthetic/AO retention", "synthetic/AO retention low", "synthetic/AO retention high"),
    ]
    assert rows[1][columns.index("speedup/cpu")] == pytest.approx(1.5)
    assert rows[0][columns.index("speedup/cpu")] is None, "a parent is as fast as itself"
    assert rows[1][columns.index("params kept")] == 0.5
    assert not [name for name in columns if "latency" in name], "not paired"
    assert len(columns) < 25
    assert not any(isinstance(cell, str) and len(cell) > 20 for row in rows for cell in row)
    shared = constants_of(results)
    assert (
        shared.items() >= {"scale": "tiny", "method": "slim", "versions.torch": "2.15.0", "command": "train.py"}.items()
    )
    assert not {"tracker", "ratio"} & shared.keys()
    old = [{key: r[key] for key in ("status", "tracker", "ratio", "metrics")} for r in results]
    assert study_table(old)[0][:3] == ["tracker", "ratio", "synthetic/AO"], "results of an earlier version"


@pytest.mark.parametrize(
    "change",
    [{"logger": {"_target_": "evaluation.loggers.csv"}}, {"dry_run": True}, {"hydra": {"sweep": {"dir": "nowhere"}}}],
    ids=str,
)
def test_a_sweep_without_wandb_or_without_results_has_no_run(tmp_path, change):
    a_short_report([job()], tmp_path, "", "")
    logger = {"_target_": LOGGER, "project": "a-project", "entity": None}
    config = {"logger": logger, "dry_run": False, "hydra": {"sweep": {"dir": str(tmp_path)}}}
    StudyRun().on_multirun_end(OmegaConf.create(config | change))
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize(("logger", "message"), [(None, "no finished job"), ("csv", "did not log to W&B")])
def test_what_cannot_be_shown_is_said(tmp_path, logger, message):
    folder = tmp_path if logger is None else a_study(tmp_path, logger, [job()])
    with pytest.raises(SystemExit, match=message):
        main([str(folder)])


def test_a_view_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(SystemExit, match="pip install"):
        main([str(a_study(tmp_path, "wandb", [job()])), "--workspace"])


def test_a_view_needs_an_account(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", sys)  # found; it is not asked for more
    with pytest.raises(SystemExit, match="wandb login"):
        save_workspace([job()], "a-project", None, "a-study")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")
def test_a_view_shows_a_study_and_nothing_else():
    pytest.importorskip("wandb_workspaces", reason="the optional package wandb-workspaces is not installed")
    view = workspace_of([dense(), job(), {"status": "failed"}], "a-project", "a-team", "a-study")
    spec = view._to_model().model_dump_json(by_alias=True)  # what `save` would send
    for key in ("retention/synthetic/AO", "metrics/synthetic/SR0.5", "latency/cpu", "child/total", "a-study"):
        assert key in spec
    assert (view.entity, view.project, view.name) == ("a-team", "a-project", "study a-study")
