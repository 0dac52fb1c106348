"""The study's tables as text: Markdown that a parser reads back, and LaTeX with complete rows."""

import csv
import io
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from evaluation.report import write_report
from evaluation.report.latex import latex
from evaluation.report.markdown import markdown
from evaluation.report.sections import sections_of
from evaluation.report.tables import csv_table
from tests.evaluation.report.studies import dense, job, with_intervals

ODD = "$a_1$ & 50% #1 {b} ~ ^ \\c | <i> `d` [e](f)\nnext"
FAILED = {"job": "dimp-0.5", "status": "failed", "ratio": 0.1, "seed": 2, "error": ODD}
STUDY = [
    FAILED,
    *(
        job(tracker, ratio, seed=seed, ao=ao - 0.02 * seed) | {"family": family}
        for tracker, family in (("ostrack", "transformer"), ("dimp", "CNN"))
        for seed in (1, 2)
        for ratio, ao in ((0.5, 0.46), (0.1, 0.3))
        if (tracker, seed, ratio) != ("dimp", 2, 0.1)
    ),
]


def tables_of(page: str) -> list[list[list[str]]]:
    """Returns the rendered text of all cells, by table and row."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt().enable("table").parse(page):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level == 4:
            tables[-1][-1].append("".join(child.content or "\n" for child in token.children))
            assert not {child.type for child in token.children} - {"text", "text_special"}
    return tables


@pytest.fixture(scope="module")
def page() -> str:
    finished = [result for result in STUDY if result["status"] == "finished"]
    return markdown("A study", "python train.py -m ratio=1,0.5", ["Found."], sections_of(STUDY, finished))


def test_markdown_is_read_back_as_its_tables(page):
    results, others, stability, failed = tables_of(page)
    assert all(len(row) == len(table[0]) for table in (results, others, stability, failed) for row in table)
    assert results[0] == [
        *("Tracker", "Ratio", "AO Parent", "AO Child", "AO Retention", "AO Over seeds", "Seeds"),
        *("cpu Speed-up", "cpu ms", "Parameters", "MACs"),
    ]
    by_key = {(row[0], row[1]): row[2:] for row in results[1:]}
    half = ["0.500", "0.430", "86%", "0.420 to 0.440", "2", "1.64", "5.50", "350\u202fk (50%)", "45\u202fM (50%)"]
    assert by_key["ostrack", "0.5"] == half
    dense_row = ["0.500", "\u2013", "\u2013", "\u2013", "2", "\u2013", "9.00", "700\u202fk", "90\u202fM"]
    assert by_key["ostrack", "1"] == dense_row  # the parents, though no job is dense
    assert by_key["dimp", "0.1"][4] == "1"
    assert others[0] == ["Tracker", "Ratio", "SR0.5 Parent", "SR0.5 Child", "SR0.5 Retention"]


def test_stability_says_what_is_known_and_what_is_missing(page):
    stability = tables_of(page)[2]
    rows = {row[1]: dict(zip(stability[0], row, strict=True)) for row in stability[1:3]}
    assert (rows["ostrack"]["Seeds"], rows["dimp"]["Seeds"]) == ("2", "1 of 2")
    assert {row["Metric"] for row in rows.values()} == {"AO"}
    assert re.fullmatch(r"0\.\d{2} \u00b1 0\.\d{2}", rows["ostrack"]["Area"])
    assert re.fullmatch(r"0\.\d{2}", rows["dimp"]["Area"])
    assert re.fullmatch(r"0\.\d\d? \(0\.\d\d? to 0\.\d\d?\)", rows["ostrack"]["Below 90% at"])
    assert rows["dimp"]["Below 90% at"] == "between 1 and 0.5"  # one seed, which tells no more
    assert rows["dimp"]["Below 50% at"] == "< 0.1"
    assert "seed 2 has no ratio 0.1. Its numbers are without seed 2." in page
    assert "from 1 to 0.1 (parameters)" in page


def test_families_have_a_table_if_one_has_several_trackers():
    third = [job("mixformer", ratio, ao=0.3) | {"family": "transformer"} for ratio in (0.5, 0.1)]
    study = [result for result in STUDY if result.get("seed") == 1] + third
    assert "Families" not in [section.heading for section in sections_of(STUDY, STUDY[1:])]
    families = next(section for section in sections_of(study, study) if section.heading == "Families")
    rows = [[cell.text for cell in row] for row in families.table["rows"]]
    assert [row[:2] for row in rows] == [[m, f] for m in ("AO", "SR0.5") for f in ("CNN", "transformer")]
    assert rows[1][-1] == "mixformer and ostrack"
    assert any("one tracker" in note for note in families.notes)


@pytest.mark.parametrize("title", [ODD, "plain"])
def test_nothing_in_a_result_is_markup(title):
    page = markdown(title, "python train.py '```'", [], sections_of([FAILED], []))
    ((_, (_, error)),) = tables_of(page)
    assert error == ODD.replace("\n", " ")
    heading = next(token for token in MarkdownIt().parse(page) if token.type == "inline")
    assert "".join(child.content for child in heading.children) == title.replace("\n", " ")
    fence = next(token for token in MarkdownIt().parse(page) if token.type == "fence")
    assert fence.content == "python train.py '```'\n"


def test_latex_has_whole_rows_and_no_active_characters():
    finished = [with_intervals(result) for result in STUDY if result["status"] == "finished"]
    text = latex("python train.py -m x='%'\n", sections_of(STUDY, finished))
    assert "0.500 (0.45 to 0.55)" in text
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == text.count(r"\begin{table}") == text.count(r"\caption[") == 4
    for align, body in tables:
        assert [body.count(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]
        for line in re.sub(r"\\multicolumn\{(\d+)\}\{c\}", lambda m: "&" * (int(m[1]) - 1), body).splitlines():
            if line.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(align) - 1, line
    words = (
        r"\$a\_1\$ \& 50\% \#1 \{b\} \textasciitilde{} \textasciicircum{} \textbackslash{}c $|$ $<$i$>$ `d` [e](f) next"
    )
    assert words in text
    assert all(ord(character) < 128 for character in text)


def test_a_study_without_results_has_no_tables(tmp_path: Path):
    for results, expected in (([], 0), ([dense()], 2)):
        write_report(results, tmp_path, "A study", "train.py")
        assert len(tables_of((tmp_path / "study.md").read_text())) == expected
        assert (tmp_path / "study.tex").read_text().count("tabular") == 2 * expected


def test_the_family_is_a_column_of_the_csv():
    rows = list(csv.DictReader(io.StringIO(csv_table(STUDY))))
    assert [row["family"] for row in rows] == ["", *["transformer"] * 4, *["CNN"] * 3]
    assert list(rows[0])[:4] == ["job", "status", "tracker", "family"]


def test_a_ratio_that_is_given_twice_is_one_measurement(tmp_path):
    from evaluation.report import write_report

    again = job(ratio=0.5) | {"job": "repeated"}
    results = [dense(), job(ratio=0.5), again, job(ratio=0.5, seed=43, ao=0.3)]
    write_report(results, tmp_path, "A study", "train.py")
    told = (tmp_path / "study.md").read_text()
    row = next(line for line in told.splitlines() if "| 0.5 |" in line)
    assert "| 2 |" in row, "two seeds"
    assert "| 0.350 |" in row, "the mean of two measurements, not of three"
    assert "1 job has the configuration and the seed of another job, and no new number: repeated." in told
    assert "no new number" in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "study.csv").read_text().splitlines()) == 1 + len(results)
    write_report(results[:1] + results[-1:], tmp_path, "A study", "train.py")
    assert "no new number" not in (tmp_path / "study.md").read_text()
