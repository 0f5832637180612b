"""Models side by side: their places, every two of them, and what may be claimed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shiftproof import cli
from shiftproof.report import print_table, write_report
from support import simulated_runs
from support.page_checks import page_of
from support.page_reading import Node, parse
from support.report_runs import interval, scores, write_run
from support.simulated_runs import draw_tables

PAIRS = [("BN", "source", -0.2, 0.05), ("BN", "ENT", -0.3, 0.05), ("source", "ENT", -0.1, 0.15)]


def ranked(adjusted: tuple[float, ...] = (0.01, 0.02, 0.2)) -> dict[str, Any]:
    content = scores(models=("source", "BN", "ENT"))
    content["ranking"] = {
        "headline": "mean",
        "places": [
            {"name": name, "figure": interval(value, 0.1), "rank": rank, "first": 1, "last": rank}
            for rank, (name, value) in enumerate([("BN", 0.3), ("source", 0.5), ("ENT", 0.6)], 1)
        ],
        "pairs": [
            {
                "name": name, "against": against, "p": p / 3, "adjusted": p,
                "difference": {"value": value, "low": value - width, "high": value + width},
            }
            for (name, against, value, width), p in zip(PAIRS, adjusted, strict=True)
        ],
    }  # fmt: skip
    return content


def section_of(page: Node) -> Node:
    return page.by_id("ranking")


def test_the_page_ranks_the_models_with_their_places(tmp_path: Path) -> None:
    section = section_of(page_of(write_run(tmp_path / "run", ranked(), sheets=0)))
    rows = [[cell.text for cell in row.inside("td")] for row in section.all("tr")]
    ranks = [(row[0], row[1], row[-1]) for row in rows[1:4]]
    assert ranks == [
        ("1", "30.0 20.0–40.0", "1"), ("2", "50.0 40.0–60.0", "1–2"), ("3", "60.0 50.0–70.0", "1–3"),
    ]  # fmt: skip


def test_the_matrix_marks_what_is_told_from_chance_and_what_holds_together(tmp_path: Path) -> None:
    section = section_of(page_of(write_run(tmp_path / "run", ranked((0.01, 0.06, 0.2)), sheets=0)))
    cells = [one for one in section.all("td") if "title" in one.attributes]
    marks = [
        (cell.text.split()[0].rstrip("*"), "sure" in cell.attributes["class"], "*" in cell.text)
        for cell in cells
    ]
    assert marks == [("−20.0", True, True), ("−30.0", True, False), ("−10.0", False, False)]
    assert "3 pairs are compared" in section.text
    assert "Holm (1979)" in section.text


def test_a_run_without_a_ranking_has_no_such_section(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", scores(models=("source", "BN")), sheets=0))
    assert "ranking" not in [one.attributes.get("id") for one in page.all("section")]


def test_the_terminal_shows_the_ranking_behind_the_table() -> None:
    target = io.StringIO()
    print_table(ranked(), Console(file=target, width=100))
    lines = target.getvalue().partition("Ranking by")[2].splitlines()
    assert "error under corruption in %, lower is better" in lines[0]
    assert lines[2].split()[:4] == ["1", "BN", "30.0", "20.0-40.0"]
    assert lines[2].rstrip().endswith("2 of 2, 2*")
    assert lines[4].rstrip().endswith("1 of 2, 1*")
    assert "Holm's correction for 3 pairs" in "".join(lines)


# ---------------------------------------------------------------- several runs


def write_two(folder: Path) -> tuple[Path, Path]:
    tables = draw_tables(60)
    first = simulated_runs.write_run(folder / "one", {"source": tables["source"]})
    return first, simulated_runs.write_run(folder / "two", {"source": tables["BN"]})


def change_settings(run: Path, **settings: Any) -> None:
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    content["settings"].update(settings)
    (run / "run.json").write_text(json.dumps(content), encoding="utf-8")


def test_runs_that_are_alike_are_ranked_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = write_two(tmp_path)
    page = parse(write_report([one, two], tmp_path / "page.html").read_text(encoding="utf-8"))
    rows = [row.all("th")[0].text for row in section_of(page).all("tr") if row.all("td")]
    assert set(rows[:2]) == {"one: source", "two: source"}
    assert "paired by image" in page.by_id("overview").text
    assert cli.run(["report", str(one), str(two), "--table", "text"]) == 0
    assert "two: source" in capsys.readouterr().out


def test_runs_that_are_not_alike_say_so_on_the_page_and_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = write_two(tmp_path)
    change_settings(one, seed=0, corruptions={"fog": "fog", "frost": "frost, photographs"})
    change_settings(two, seed=1, corruptions={"fog": "fog", "frost": "frost, drawn textures"})
    out = tmp_path / "page.html"
    assert cli.run(["report", str(one), str(two), "--out", str(out)]) == 0
    output = " ".join(capsys.readouterr().err.split())
    page = parse(out.read_text(encoding="utf-8"))
    for text in (output, page.text):
        assert "not comparable" in text
        assert "seed (one: 0; two: 1)" in text
        assert "how frost is made (one: frost, photographs; two: frost, drawn textures)" in text
        assert "how fog" not in text
    assert "ranking" not in [section.attributes.get("id") for section in page.all("section")]
    assert cli.run(["report", str(one), str(two), "--table", "text"]) == 2
    assert "not comparable" in capsys.readouterr().err
