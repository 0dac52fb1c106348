"""MkDocs hooks: tables made from conf/, and pages made from the Markdown files that live beside what they describe."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
ELSEWHERE = {  # files outside of docs/ that are pages of the site, too
    "weights/README.md": "weights.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
SCRIPTS = ("train", "prune", "eval")
SHARED = {"common"}  # files of groups that others include
INTERNAL = {"recipe"}  # groups that no command line chooses from
DECIDES = {
    "benchmark": "what a tracker is scored on, and by which protocols",
    "callbacks": "Lightning callbacks of every training stage",
    "datamodule": "training data",
    "distillation": "what a child learns from besides the data",
    "experiment": "a named set of overrides",
    "fake_data": "data sets that the project writes itself, in the place of `paths.data`",
    "gates": "how the gates in files of the ICASSP 2023 paper are read",
    "hydra": "where folders of jobs and studies go",
    "logger": "where metrics are logged",
    "paths": "folders of data, weights, cache and outputs",
    "pruning": "how units are ranked and removed",
    "run": "whether an experiment runs whole or in miniature, as a first try",
    "runner": "processes and batches of the scoring",
    "scale": "size of the network and length of the training",
    "synthetic": "the videos that the project makes itself",
    "tracker": "the tracker that is trained and pruned",
    "trainer": "device, precision and number of processes of the training",
}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
GROUPS, CHOICES = "<!-- table: groups -->", "<!-- table: choices -->"


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that live outside of docs/."""
    for source, page in ELSEWHERE.items():
        if page != "index.md":
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in the generated tables, and turns links between files of the repository into links between pages."""
    uri = page.file.src_uri
    source = next((path for path, name in ELSEWHERE.items() if name == uri and uri != "index.md"), f"docs/{uri}")
    markdown = markdown.replace(GROUPS, groups_table()).replace(CHOICES, choices_tables())
    return LINK.sub(lambda link: link[1] + _page_link(link[2], source, uri) + link[3], markdown)


def _page_link(target: str, source: str, uri: str) -> str:
    """Returns a link in the file `source` of the repository as a link of the page `uri` of the site."""
    path, mark, anchor = target.partition("#")
    if not path or ":" in path:
        return target
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = ELSEWHERE.get(place, place.removeprefix("docs/"))
    return posixpath.relpath(page, posixpath.dirname(uri) or ".") + mark + anchor


# The tables of conf/


def groups() -> dict[str, list[Path]]:
    """Returns the choices of each group of conf/ that a command line can choose from."""
    found = {}
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir() and path.name not in INTERNAL):
        found[folder.name] = sorted(file for file in folder.glob("*.yaml") if file.stem not in SHARED)
    return {name: files for name, files in found.items() if files}


def groups_table() -> str:
    """Returns a table with a row for each group: choices, scripts that have it, default, what it decides."""
    rows = ["| group | choices | scripts | default | decides |", "|---|---|---|---|---|"]
    for name, files in groups().items():
        choices = " ".join(f"`{file.stem}`" for file in files)
        defaults = {script: default for script in SCRIPTS if (default := _default(script, name))}
        label = f"[`{name}`](#{name})" if len(files) > 1 else f"`{name}`"
        default = " ".join(f"`{value}`" for value in dict.fromkeys(defaults.values()))
        rows.append(f"| {label} | {choices} | {' '.join(defaults)} | {default} | {DECIDES.get(name, '')} |")
    return "\n".join(rows)


def choices_tables() -> str:
    """Returns a heading and a table for each group with several choices: every choice and the head of its file."""
    parts = []
    for name, files in groups().items():
        if len(files) > 1:
            rows = [f"| `{file.stem}` | {_cell(_about(file))} |" for file in files]
            parts.append("\n".join([f"### {name}", "", f"| `{name}=` | |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _about(file: Path) -> str:
    """Returns the first sentence of the comment that a file starts with; "" if it starts with none."""
    return re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.) ", " ".join(_head(file)), maxsplit=1)[0]


def _head(file: Path) -> Iterator[str]:
    for line in file.read_text().splitlines():
        if not line.startswith("#") or line.startswith("#  "):  # indented lines are commands
            return
        text = line.lstrip("# ").rstrip()
        if text and not text.startswith("@package"):
            yield text


def _default(script: str, group: str) -> str | None:
    """Returns the default of a group in a script's list of defaults; None without one."""
    found = re.search(rf"^  - (?:optional )?{group}: (\S+)", (CONF / f"{script}.yaml").read_text(), re.MULTILINE)
    return found[1] if found else None


def _cell(text: str) -> str:
    """Returns a text as the cell of a table."""
    return text.replace("|", "\\|")
