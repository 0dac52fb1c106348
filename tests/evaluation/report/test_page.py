"""The report in a browser: light and dark themes, phone width, sorting, the theme button, and no network access."""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Event, Thread

import cv2
import numpy as np
import pytest

from evaluation.report import write_report
from evaluation.report.formatting import DOT
from tests.evaluation.report.studies import dense, job, with_intervals, with_tracks

pytestmark = pytest.mark.slow  # a browser

BROWSERS = ("chromium", "google-chrome", "chromium-browser", "chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=2060,1600"),
]
SECONDS = 240
VIEWS = {"phone": ("light", 390), "dark phone": ("dark", 390), "desktop": ("light", 1280)}

# The views are frames of one page, since a headless window cannot be as narrow as a phone. The theme of a frame is that
# of its element. The page has loaded when its last picture comes, and the server holds that picture back until it has
# the measurements: so the browser takes the screenshot after them, however slow the machine is.
CHECKS = """
const views = {};
const waited = new Set(TITLES);
document.addEventListener("load", ({target}) => {
  if (waited.delete(target.title) && !waited.size) check()
    .catch((error) => views.error = String(error))
    .then(() => fetch("/measurements", {method: "POST", body: JSON.stringify(views)}));
}, true);
async function check() {
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, at = frame.contentWindow;
  const body = page.documentElement;
  const paper = () => at.getComputedStyle(body).backgroundColor;
  const view = views[frame.title] = {overflow: body.scrollWidth - frame.clientWidth, paper: paper()};
  const entries = at.performance.getEntriesByType("resource").map((entry) => entry.name);
  view.loaded = entries.filter((name) => !name.startsWith("data:"));
  const pictures = [...page.querySelectorAll("image[id^=frame]")].map((one) => one.href.baseVal);
  view.pictures = await Promise.all(pictures.map(async (source) => {
    const picture = new at.Image();
    picture.src = source;
    await picture.decode();
    return picture.naturalWidth;
  }));
  view.drawn = [...page.querySelectorAll(".frames use")].map((use) => use.getBBox().width);
  view.covered = [...page.querySelectorAll("main *")].filter((e) => e.getClientRects().length).length;

  // Everything is unfolded, since a folded table has no width. A table that is too wide scrolls in a box of its own.
  page.querySelectorAll("details").forEach((one) => one.open = true);
  view.unfolded = body.scrollWidth - frame.clientWidth;
  view.tables = [...page.querySelectorAll("table")].map((one) => {
    const box = one.closest(".scroll"), edges = box.getBoundingClientRect();
    return {
      section: one.closest("section").querySelector("h2").textContent, folded: one.closest("details") !== null,
      outside: Math.max(-edges.left, edges.right - frame.clientWidth), scrolls: at.getComputedStyle(box).overflowX,
      hidden: one.scrollWidth - box.clientWidth,
    };
  });

  const menu = page.getElementById("sequence-job"), rows = () => page.getElementById("sequence-table").tBodies[0].rows;
  view.sequences = [...menu.options].map((option) => {
    menu.value = option.value;
    menu.dispatchEvent(new at.Event("change"));
    const heads = [...page.querySelectorAll("#sequence-table th button")].map((one) => one.textContent);
    return [option.textContent, heads, [...rows()].map((row) => [...row.cells].map((cell) => cell.textContent))];
  });

  const table = page.querySelector("#results").parentElement.querySelector("table");
  const button = [...table.querySelectorAll("th button")].find((one) => one.textContent === "Child");
  const column = button.parentElement.cellIndex;
  const cells = () => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
  view.sorts = [];
  for (let press = 0; press < 2; press++) {
    button.click();
    view.sorts.push([button.parentElement.ariaSort, cells()]);
  }
  button.focus();
  view.focus = [page.activeElement === button, button.tabIndex, parseFloat(at.getComputedStyle(button).outlineWidth)];

  const theme = page.getElementById("theme");
  view.themes = [];
  for (let press = 0; press < 3; press++) {
    theme.click();
    view.themes.push([theme.textContent, paper()]);
  }
  theme.blur();
}
}
"""


def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"CI needs a browser: none of {', '.join(BROWSERS)} is on PATH")
    return found or pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on PATH")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, got10k: Path) -> Path:
    """The report of a study that has every section."""
    study = [dense(seed=1), *(job(ratio=ratio, seed=1, ao=ao) for ratio, ao in ((0.5, 0.46), (0.1, 0.3)))]
    study += [dense(tracker="stark", seed=1), job("stark", 0.1, seed=1, ao=0.25)]
    study += [job(ratio=0.5, seed=2, ao=0.44) | {"folder": "jobs/second"}]
    folder = tmp_path_factory.mktemp("study")
    study = [with_intervals(result, folder) for result in study]
    failed = {"job": "dimp-0.5", "status": "failed", "tracker": "dimp", "error": "boom", "folder": "dimp"}
    return write_report([failed, *with_tracks(study, folder, got10k)], folder, "A study", "python train.py -m")


@pytest.fixture(scope="module")
def harness(report: Path) -> str:
    """A page with all views of the report side by side."""
    document = html.escape(report.read_text(encoding="utf-8"))
    frames = "".join(
        f'<iframe title="{title}" style="color-scheme: {theme}; width: {width}px; height: 1600px; border: 0" '
        f'srcdoc="{document}"></iframe>'
        for title, (theme, width) in VIEWS.items()
    )
    return (
        f'<!DOCTYPE html><meta charset="utf-8"><script>{CHECKS.replace("TITLES", json.dumps([*VIEWS]))}</script>'
        f'<body style="margin: 0; display: flex">{frames}<img src="/measured" alt="">'
    )


@contextmanager
def served(page: str) -> Iterator[tuple[str, Queue[str]]]:
    """The address of the page, and what it measures."""
    measurements, done = Queue(), Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bytes = b"") -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/measured":
                done.wait(SECONDS)
            self.answer(page.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:
            measurements.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.answer()
            done.set()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", measurements
        finally:
            done.set()
            server.shutdown()


@pytest.fixture(scope="module")
def screenshot(report: Path) -> Path:
    return report.with_name("views.png")


@pytest.fixture(scope="module")
def views(harness: str, screenshot: Path) -> dict[str, dict]:
    """The measurements of the browser for each view. It also saves a screenshot."""
    own = [f"--user-data-dir={screenshot.with_name('profile')}", f"--screenshot={screenshot}"]
    with served(harness) as (address, measurements):
        subprocess.run([browser(), *FLAGS, *own, address], check=True, capture_output=True, timeout=2 * SECONDS)
        assert not measurements.empty(), "the checks did not run to their end"
    views = json.loads(measurements.get())
    assert "error" not in views, views["error"]
    return views


def light(color: str) -> bool:
    return np.mean([int(part) for part in re.findall(r"\d+", color)[:3]]) > 128


@pytest.mark.slow
def test_it_fits_every_screen_and_follows_the_theme(views):
    assert set(views) == set(VIEWS)
    for title, view in views.items():
        assert view["overflow"] <= 0, title
        assert view["covered"] > 100
        assert light(view["paper"]) == (VIEWS[title][0] == "light")
        names, papers = zip(*view["themes"], strict=True)
        assert names == ("Theme: light", "Theme: dark", "Theme: system")
        assert [light(paper) for paper in papers] == [True, False, light(view["paper"])]


def test_each_table_stays_on_the_page_and_the_main_ones_show_all_columns_on_a_desktop(views):
    for title, view in views.items():
        assert view["unfolded"] <= 0, title
        assert {table["section"] for table in view["tables"]} >= {"Stability", "Results", "Sequences", "Provenance"}
        for table in view["tables"]:
            assert table["outside"] <= 0, (title, table)
            assert table["scrolls"] == "auto"
            if title == "desktop" and not table["folded"]:
                assert table["hidden"] <= 0, table


def test_the_menu_shows_the_sequences_of_each_job(views):
    for view in views.values():
        jobs = {label: (heads, rows) for label, heads, rows in view["sequences"]}
        assert len(jobs) == 6
        heads, rows = jobs["ostrack \u00b7 ratio 0.5 \u00b7 seed 1".replace(" \u00b7 ", DOT)]
        assert heads == ["Sequence", "AO", "Parent", "Difference", "Frames", "fps", "Lost at"]
        assert len(rows) == 20
        assert rows[0] == ["Video_000", "0.361", "0.600", "\u22120.239", "60", "120", "7"]  # the largest loss first
        assert rows[-1][-1] == "\N{EN DASH}"
        heads, _ = jobs["ostrack \u00b7 ratio 1 \u00b7 seed 1".replace(" \u00b7 ", DOT)]
        assert heads == ["Sequence", "AO", "Frames", "fps", "Lost at"]


def test_headings_sort_and_are_reached_by_keyboard(views):
    for view in views.values():
        (rising, one), (falling, other) = view["sorts"]
        assert (rising, falling) == ("ascending", "descending")
        (*scores, last), (*falling_scores, _) = one, other
        assert last == "\N{EN DASH}"  # parents have no child
        assert scores == sorted(scores) != falling_scores
        focused, order, outline = view["focus"]
        assert focused
        assert order == 0
        assert outline >= 2


def test_nothing_is_loaded_and_example_frames_are_drawn(views):
    for view in views.values():
        assert view["loaded"] == []
        assert len(view["drawn"]) == 2 * 3 * 2  # sequences, frames, trackers
        assert min(view["drawn"]) > 10
        assert len(view["pictures"]) == 2 * 3
        assert min(view["pictures"]) > 10


def test_screenshots_show_something_in_each_theme(screenshot, views):
    picture = cv2.imread(str(screenshot), cv2.IMREAD_GRAYSCALE)
    left = 0
    for theme, width in VIEWS.values():
        view = picture[:, left : left + width]
        left += width
        assert (np.median(view) > 128) == (theme == "light")
        ink = np.abs(view.astype(int) - np.median(view)) > 60
        assert 0.01 < ink.mean() < 0.4
        assert ink.any(1).mean() > 0.3  # all the way down
