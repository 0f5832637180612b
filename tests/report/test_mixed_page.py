"""Runs of any kinds on one page, and what only runs together can tell."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from shiftproof import cli
from shiftproof.errors import InputError
from shiftproof.report import describe_differences, print_ranking, write_ranking
from support.mixed_runs import write_all, write_classifiers, write_evaluation
from support.page_checks import check_that_nothing_runs_or_is_asked_for, page_of
from support.page_reading import Node


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_all(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Node:
    return page_of(runs, tmp_path_factory.mktemp("page") / "all.html")


def test_each_kind_is_a_part_in_the_order_of_the_runs(page: Node) -> None:
    kickers = [part.all("p", "kicker")[0].text for part in page.all("article")]
    assert kickers == [
        "Comparison of 2 runs", "Robustness report", "Train-test similarity", "Evaluation",
    ]  # fmt: skip
    assert page.one("h1").text == "One page on classifiers, detectors, audit and evaluation"


def test_one_navigation_leads_to_every_section_once(page: Node) -> None:
    targets = [link.attributes["href"] for link in page.one("nav").all("a")]
    places = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert len(set(places)) == len(places)
    assert len(set(targets)) == len(targets)
    sections = {f"#{one.attributes['id']}" for one in page.all("section")}
    assert set(targets) == sections | {f"#p{number}-top" for number in (1, 2, 3, 4)}
    inner = {link.attributes["href"] for link in page.one("main").all("a")}
    assert inner <= {f"#{place}" for place in places}
    labels = {label.attributes["for"] for label in page.all("label")}
    assert labels <= set(places)


def test_nothing_runs_or_is_asked_for(page: Node) -> None:
    check_that_nothing_runs_or_is_asked_for(page)


def test_an_audit_stands_beside_an_evaluation_that_has_none(page: Node, runs: list[Path]) -> None:
    section = page.by_id("p4-similarity")
    assert "From the audit audit, 60 training rows" in section.text
    assert [row.all("th")[0].text for row in section.all("tr")[1:]] == ["sketch"]
    alone = page_of(runs[-1], runs[-1] / "alone.html")
    assert "similarity" not in [one.attributes["id"] for one in alone.all("section")]


def test_an_audit_of_other_test_sets_stands_apart(runs: list[Path], tmp_path: Path) -> None:
    other = write_evaluation(tmp_path / "other", "elsewhere")
    page = page_of([runs[3], other], tmp_path / "page.html")
    anchors = [one.attributes["id"] for one in page.all("section")]
    assert "p2-overview" in anchors
    assert "p2-similarity" not in anchors


def test_alike_runs_are_ranked_in_their_part(page: Node, runs: list[Path]) -> None:
    section = page.by_id("p1-ranking")
    rows = [row.all("th")[0].text for row in section.all("tr") if row.all("td")]
    assert set(rows[:3]) == {"one: source", "one: BN", "two: source"}
    assert describe_differences(runs) == []


def test_folders_of_images_are_refused_where_no_audit_is(runs: list[Path], tmp_path: Path) -> None:
    from shiftproof.report import write_report

    with pytest.raises(InputError, match="only be given for an audit"):
        write_report(runs[:3], tmp_path / "page.html", images=[tmp_path])
    assert not (tmp_path / "page.html").exists()


# ---------------------------------------------------------------- the ranking as a table


def test_the_ranking_is_the_same_in_every_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write_classifiers(tmp_path)
    text = io.StringIO()
    print_ranking(runs, Console(file=text, width=120))
    figures = [line.split()[3] for line in text.getvalue().splitlines() if ": " in line][:3]
    csv = write_ranking(runs, "csv").splitlines()
    assert csv[0].startswith("row,group,measure,Error under corruption,")
    assert [f"{100 * float(line.split(',')[3]):.1f}" for line in csv[1:]] == figures
    markdown = write_ranking(runs, "markdown").splitlines()
    assert markdown[3].startswith("| :-- | --: |")
    assert [line.split("|")[2].split()[0] for line in markdown[4:]] == figures
    assert write_ranking(runs, "latex").count(r" \\") == 4
    assert cli.run(["report", *map(str, runs), "--table", "md"]) == 0
    assert capsys.readouterr().out == write_ranking(runs, "markdown")
    assert cli.run(["report", *map(str, runs), "--json"]) == 2


def test_names_and_figures_survive_markdown(tmp_path: Path) -> None:
    from shiftproof.metrics.intervals import Interval
    from shiftproof.report.table_writing import Column, Row, Table, to_markdown

    row = Row("x", "n", "a|b *c*\n<d>", "", "error", (Interval(0.5), Interval(-0.1, -0.2, -0.05)))
    table = Table((Column("m_1"), Column("m_1", "n")), (row,), "What\nit is", ())
    assert to_markdown(table).splitlines() == [
        "What it is",
        "",
        "|  | m\\_1 | m\\_1 − n |",
        "| :-- | --: | --: |",
        "| a\\|b \\*c\\* \\<d\\> | 50.0 | **−10.0** (−20.0 to −5.0) |",
    ]
