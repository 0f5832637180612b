"""Figures by condition on the page, in tables, on the command line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from shiftproof import cli
from shiftproof.report import write_report
from shiftproof.runs.scores.conditions import ConditionScores
from shiftproof.runs.scores.reading import read_form
from support.page_reading import Node, parse
from support.simulated_runs import draw_tables, write_run

COUNT = 60


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ``shiftproof conditions`` was called on, in a folder with its metadata."""
    folder = tmp_path_factory.mktemp("conditions")
    write_run(folder / "run", draw_tables(COUNT))
    rows = [f"{number:05d}.png,{('clear', '<b>rain</b>')[number % 2]}" for number in range(COUNT)]
    rows[1] = "00001.png,night"
    (folder / "m.csv").write_text("\n".join(["image,time_of_day", *rows[:-2]]), encoding="utf-8")
    given = ["conditions", str(folder / "run"), "-m", str(folder / "m.csv"), "--by", "time_of_day"]
    assert cli.run(given) == 0
    return folder


def page_of(folder: Path) -> Node:
    return parse((folder / "run/report.html").read_text(encoding="utf-8"))


def read_scores(folder: Path) -> ConditionScores:
    return read_form(folder / "run/conditions-time_of_day.json", ConditionScores)


def test_the_page_has_a_bar_and_a_figure_for_each_condition(scored: Path) -> None:
    section = page_of(scored).by_id("conditions-by-0")
    assert "By time of day" in section.text
    rows = [row for row in section.all("tr") if row.all("td", "chart")]
    names = ["clear (29 images)", "<b>rain</b> (28 images)", "night (1 image)"]
    # Clean, then under corruption: what is not plain text stays text.
    assert [row.all("th")[0].text for row in rows] == 2 * names
    values = [row.all("td")[1].text.split()[0] for row in rows[:3]]
    expected = [one.models[0].summary["clean"] for one in read_scores(scored).conditions]
    assert values == [f"{100 * one.value:.1f}" for one in expected if one is not None]
    assert "2 are left out, since they are not in the metadata" in section.text
    assert "night: one image, so there is no interval" in section.text
    assert "independent samples" in section.text


def test_the_page_is_made_again_with_the_conditions_and_the_same_bytes(scored: Path) -> None:
    page = scored / "run/report.html"
    before = page.read_bytes()
    write_report(scored / "run")
    assert page.read_bytes() == before


def test_the_tables_hold_every_condition(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "conditions",
        str(scored / "run"),
        "-m",
        str(scored / "m.csv"),
        "--by",
        "time_of_day",
    ]
    assert cli.run([*command, "--table", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    figure = read_scores(scored).conditions[1].models[1].summary["mean"]
    assert figure is not None
    [row] = [one for one in rows if one["row"] == "<b>rain</b>" and one["measure"] == "mean"]
    assert float(row["BN"]) == figure.value
    assert float(row["BN_low"]) == figure.lower
    assert row["BN-clear"]
    assert cli.run([*command, "--table", "latex"]) == 0
    assert r"\textless{}b\textgreater{}rain" in capsys.readouterr().out
    assert cli.run(command) == 0
    output = capsys.readouterr().out
    assert "night" in output
    assert "one image, so there is no interval" in " ".join(output.split())


def test_bad_input_is_a_sentence_and_code_2(
    scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, metadata = str(scored / "run"), str(scored / "m.csv")
    assert cli.run(["conditions", run, "-m", metadata, "--by", "tme_of_day"]) == 2
    assert "Did you mean 'time_of_day'" in capsys.readouterr().err
    assert cli.run(["conditions", run, "-m", metadata, "--by", "image"]) == 2
    assert cli.run(["conditions", run, "--by", "part:1"]) == 2
    assert cli.run(["conditions", str(scored), "--by", "part:1"]) == 2
    assert cli.run(["conditions", run, "-m", metadata, "--by", "time_of_day", "--table", "x"]) == 2
