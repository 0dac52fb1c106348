"""The study's report on made-up results: its files, their order, and that it runs and loads nothing from outside."""

import csv
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from evaluation.report import study_answer, write_report
from evaluation.report.makers import describe_differences
from evaluation.report.result_table import WIDTH
from evaluation.report.style import HUES
from tests.evaluation.report.studies import dense, job

VOID = {"meta", "br", "link", "img", "input", "hr"}
SCRIPT = "<script>alert('x')</script>"
FILES = {"report.html", "study.csv", "study.md", "study.tex"}


def brief(**changes) -> dict:
    """Returns the result of a job that has one figure only, for tests about other things."""
    result = {key: value for key, value in job(**changes).items() if key not in ("params", "macs", "latency", "parent")}
    return result | {"metrics": {"synthetic": {"protocol": "GOT-10k", "AO": 0.4}}}


FAILED = {
    "job": "dimp-0.5",
    "status": "failed",
    "tracker": "dimp",
    "error": f"boom {SCRIPT} & <b>",
    "folder": "jobs/dimp",
}
STUDY = [
    FAILED,
    job("stark", 0.1, ao=0.15),
    *(
        job("ostrack", ratio, seed=seed, ao=ao + 0.01 * seed)
        for seed in (2, 1)
        for ratio, ao in ((0.1, 0.3), (0.5, 0.46))
    ),
    dense(tracker="stark", seed=1),
]


class Page(HTMLParser):
    """Checks nesting while parsing; collects ids, attributes and the text outside of scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open, self.attributes, self.text, self.tags = [], [], "", []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def write(results: list[dict], folder: Path) -> Page:
    return Page(write_report(results, folder, "A study", "python train.py -m ratio=1,0.5"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    assert write_report(STUDY, folder, f"Title {SCRIPT}", "python train.py -m ratio=1,0.5") == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(folder / "report.html")


def test_csv_has_one_row_a_job_in_order(folder: Path) -> None:
    with (folder / "study.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["tracker"], row["seed"], row["ratio"]) for row in rows] == [
        ("dimp", "", ""),
        *(("ostrack", seed, ratio) for seed in "12" for ratio in ("0.5", "0.1")),
        ("stark", "1", "1"),
        ("stark", "42", "0.1"),
    ]
    assert list(rows[0])[:8] == ["job", "status", "tracker", "scale", "method", "seed", "ratio", "ratio_of"]
    assert float(rows[1]["metrics.synthetic.AO"]) == 0.46 + 0.01
    assert rows[1]["parent.metrics.synthetic.protocol"] == "GOT-10k"
    assert (rows[1]["units.kept"], rows[1]["units.size"], rows[1]["macs.parts.head"]) == ("48", "480", "15000000")
    assert rows[0]["error"] == FAILED["error"]


def test_files_are_whole_and_nothing_else_is_left(folder: Path) -> None:
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    plots = (
        "retention-AO",
        "retention-SR0.5",
        "AO-latency-cpu",
        "AO-params",
        "AO-macs",
        "units-ostrack",
        "units-stark",
    )
    assert names == FILES | {f"{plot}.{kind}" for plot in plots for kind in ("png", "svg")}
    assert (folder / "plots" / "AO-params.png").read_bytes().startswith(b"\x89PNG")


def test_the_answer_of_a_study_is_the_head_of_its_report(folder: Path) -> None:
    lines = study_answer(STUDY, folder).splitlines()
    assert max(map(len, lines)) <= WIDTH
    head = (folder / "study.md").read_text().partition("```")[0].partition("\n\n")[2]
    assert " ".join(map(str.strip, lines)) == " ".join(head.replace("\\", "").split())


def test_interrupted_write_keeps_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = write_report([FAILED], tmp_path, "old", "train.py")
    before = report.read_bytes()
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if Path(target).name == "report.html":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report([FAILED], tmp_path, "new", "train.py")
    assert report.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_strings_of_results_are_escaped(folder: Path, page: Page) -> None:
    assert page.tags.count("script") == 1
    assert SCRIPT not in (folder / "report.html").read_text(encoding="utf-8")
    assert FAILED["error"] in page.text
    assert f"Title {SCRIPT}" in page.text


def test_names_are_escaped_in_figures(tmp_path: Path) -> None:
    odd = brief(tracker=f"$a_1$ {SCRIPT} ../b") | {"units": {SCRIPT: {"kind": SCRIPT, "kept": 1, "size": 2}}}
    page = write([odd], tmp_path / "study")
    assert page.tags.count("script") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"study"}


def test_links_and_references_resolve_and_ids_are_unique(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [href.removeprefix("#") for href in page.values("href")]
    targets += [
        name for value in page.values("aria-labelledby") + page.values("aria-describedby") for name in value.split()
    ]
    targets += [name for value in page.values("clip-path") for name in re.findall(r"url\(#(.+)\)", value)]
    assert targets
    assert set(targets) <= set(ids)


def test_nothing_is_loaded_from_elsewhere(folder: Path, page: Page) -> None:
    assert not re.search(r"https?://|@import|url\((?!#)", (folder / "report.html").read_text(encoding="utf-8"))
    assert not page.values("src")
    assert all(href.startswith("#") for href in page.values("href"))


def test_figures_have_words_and_follow_the_theme(folder: Path, page: Page) -> None:
    assert page.values("role").count("img") == page.tags.count("title") - 1 == 5
    assert "ostrack: 100% at 1, 95% at 0.5, 63% at 0.1." in page.text
    assert "A box that never moves: 40%." in page.text
    assert "fill: var(--soft, #5e5e5b)" in (folder / "report.html").read_text(encoding="utf-8")


def test_kept_units_are_a_table_whose_colour_is_the_percentage(folder: Path, page: Page) -> None:
    assert page.values("style").count("--kept:50.0%") == 1  # of ostrack's two seeds, 48 of 96
    assert page.values("style").count("--kept:9.4%") == 2
    assert "blocks.0.mlp" in page.text


def test_provenance_says_what_ran_where(tmp_path: Path) -> None:
    ran = {"machine": {"cpu": "A CPU", "gpu": "A GPU", "threads": 2}, "commit": "0123456789ab", "family": "transformer"}
    page = write([brief() | ran, brief(ratio=0.1) | ran | {"commit": "ba9876543210"}], tmp_path)
    for words in (
        "A CPU",
        "A GPU",
        "0123456789ab",
        "ba9876543210",
        "ostrack (transformer)",
        "torch\N{NO-BREAK SPACE}2.15.0",
    ):
        assert words in page.text


def test_a_stage_of_another_maker_is_named_and_warned_of(tmp_path: Path) -> None:
    """The parent lay in the cache; the result names the commit that only put it together."""
    old = {"key": "parent-1", "commit": "old", "versions": {"torch": "2.14.0"}, "machine": {"cpu": "C", "gpu": "G"}}
    new = {"commit": "new", "versions": {"torch": "2.15.0"}, "machine": {"cpu": "C"}}
    mixed = brief() | new | {"stages": {"parent": old, "evaluation": {"key": "evaluation-1"} | new}}
    page = write([mixed], tmp_path)
    warning = (
        "Stages and results were made by 2 commits (old; new), 2 versions of torch (2.14.0; 2.15.0), "
        "2 processors (G; C). Numbers may differ for this reason alone."
    )
    assert warning in page.text
    assert "Who made the stages" in page.text
    assert "2 commits" in (tmp_path / "study.md").read_text()
    (row,) = csv.DictReader((tmp_path / "study.csv").open())
    assert (row["stages.parent.commit"], row["commit"], row["stages.parent.key"]) == ("old", "new", "parent-1")
    same = write([mixed | {"stages": {"parent": {"key": "parent-1"} | new}}], tmp_path)
    assert "were made by" not in same.text


def test_a_warning_names_a_few_makers() -> None:
    assert describe_differences([{"commit": str(index)} for index in range(6)]) == ["6 commits (0; 1; 2; 3; 2 more)"]


def test_colours_are_readable_in_both_themes(folder: Path) -> None:
    tokens = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", (folder / "report.html").read_text())
    for theme in (1, 2):
        colors = {token[0]: luminance(token[theme]) for token in tokens}
        for text in ("ink", "soft", "link", "wrong"):
            assert contrast(colors[text], colors["page"]) >= 4.5, (text, theme)
        assert (
            contrast(colors["ink"], colors["heat"]) >= 4.5
        )  # on every cell of the heatmap, as others are nearer to the page
        for mark in ("floor", *(f"hue-{index}" for index in range(len(HUES)))):
            assert contrast(colors[mark], colors["page"]) >= 3, (mark, theme)


def luminance(color: str) -> float:
    """Returns the relative luminance of WCAG 2."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_headline_and_noise_come_from_the_data(page: Page) -> None:
    assert (
        "At least 90% of the parent\u2019s AO is retained down to ratio 0.5 for ostrack; stark falls below" in page.text
    )
    assert "At ratio 0.1, the smallest that all share, AO retention is 63% for ostrack and 30% for stark;" in page.text
    assert "No better than a box that never moves: stark at ratio 0.1." in page.text
    assert "6 of 7 jobs finished, 3 seeds, 1 failed" in page.text
    assert "The widest span between seeds of AO retention is 2 points (ostrack, ratio" in page.text
    assert "synthetic: GOT-10k protocol, 20 sequences, 1,180 frames" in page.text


def test_what_a_tracker_has_and_the_original_has_not_is_named(tmp_path: Path) -> None:
    helped = job(tracker="stark") | {"departures_from_original": ["a small backbone", "soft starts"]}
    page = write([helped, job(tracker="ostrack") | {"departures_from_original": []}], tmp_path)
    assert "stark departs from the original: a small backbone and soft starts." in page.text
    assert "ostrack departs" not in page.text


def test_headline_says_from_where_a_still_box_is_as_good(tmp_path: Path) -> None:
    results = [brief(ratio=ratio) for ratio in (0.5, 0.2, 0.1)]
    for result, ao in zip(results, (0.3, 0.2, 0.1), strict=True):
        result["metrics"] = {"synthetic": {"AO": ao}}
    page = write(results, tmp_path)
    assert "No better than a box that never moves: ostrack from ratio 0.2 down." in page.text


def test_table_sorts_by_data(page: Page) -> None:
    assert page.values("data-sort").count("0.1") >= 3
    assert "95.0%" not in page.values("data-sort")
    assert page.tags.count("button") > 10


def test_same_results_in_any_order_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_report(STUDY[::-1], tmp_path, f"Title {SCRIPT}", "python train.py -m ratio=1,0.5")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([brief(ratio=0.5, ao=0.3)], "At the first pruned ratio ostrack falls below 90% of the parent\u2019s AO."),
        ([brief(ratio=1)], "ostrack reaches AO 0.400 on synthetic at ratio 1."),
        ([FAILED], "No job finished"),
        ([{"status": "failed"}], "The job left no error message."),
        ([], "0 of 0 jobs finished"),
    ],
)
def test_small_studies(results: list[dict], sentence: str, tmp_path: Path) -> None:
    page = write(results, tmp_path)
    assert sentence in page.text
    assert {href.removeprefix("#") for href in page.values("href")} <= set(page.values("id"))


def test_missing_and_impossible_values_are_dashes(tmp_path: Path) -> None:
    bare = {
        "status": "finished",
        "job": "a",
        "tracker": "dimp",
        "ratio": 0.5,
        "metrics": {"lasot": {"AUC": float("nan")}},
    }
    page = write([bare, bare | {"job": "b", "ratio": 0.1, "metrics": {"lasot": {"AUC": 0.3}}}], tmp_path)
    assert "\N{EN DASH}" in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_every_benchmark_is_in_the_table(tmp_path: Path) -> None:
    result = brief()
    result["metrics"]["clips"] = {"protocol": "OTB", "AUC": 0.321}
    page = write([result], tmp_path)
    assert "clips\N{NO-BREAK SPACE}\N{MIDDLE DOT}\N{NO-BREAK SPACE}OTB" in page.text
    assert "0.321" in page.text


def test_style_of_the_caller_is_neither_used_nor_changed(tmp_path: Path) -> None:
    write_report([brief()], tmp_path / "plain", "", "")
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        before = dict(matplotlib.rcParams)
        write_report([brief()], tmp_path / "styled", "", "")
        assert dict(matplotlib.rcParams) == before
    plots = [tmp_path / name / "plots" / "retention-AO.svg" for name in ("plain", "styled")]
    assert plots[0].read_bytes() == plots[1].read_bytes()
