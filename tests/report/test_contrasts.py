"""Sections that hold models against each other, and against what was published."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import linregress
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from shiftproof.report import corruption_title
from shiftproof.report.classification.answers import Tally, list_cells
from shiftproof.report.grid.contrasts import fit_line
from shiftproof.report.grid.entries import PageContent
from shiftproof.runs import Run
from shiftproof.runs.records.classification import CellRecords
from shiftproof.types import Cell
from support import simulated_runs
from support.page_checks import page_of
from support.page_reading import Node
from support.report_runs import scores, write_run
from support.simulated_runs import draw_tables


def rows_of(section: Node, table: int = 0) -> list[list[str]]:
    body = section.all("tbody")[table]
    return [[cell.text for cell in row.inside("th") + row.inside("td")] for row in body.all("tr")]


# ---------------------------------------------------------------- effective robustness


def test_the_line_is_that_of_a_regression_between_logits() -> None:
    clean, shifted = np.array([0.56, 0.7, 0.76, 0.85]), np.array([0.2, 0.33, 0.38, 0.6])
    line = fit_line(list(zip(clean.tolist(), shifted.tolist(), strict=True)))
    assert line is not None
    fit = linregress(logit(clean), logit(shifted))
    for at in (0.56, 0.8, 0.9):
        assert line(at) == pytest.approx(expit(fit.slope * logit(at) + fit.intercept))


@pytest.mark.parametrize(
    "points",
    [
        [(0.5, 0.3), (0.7, 0.5)],
        [(0.7, 0.3), (0.71, 0.5), (0.715, 0.4)],
        [(0.5, 0.3), (0.7, 0.5), (1.0, 0.9)],
    ],
    ids=["two models", "no reach", "an accuracy of 1"],
)
def test_no_line_where_it_would_mean_nothing(points: list[tuple[float, float]]) -> None:
    assert fit_line(points) is None


def test_the_line_says_nothing_far_from_all_models() -> None:
    line = fit_line([(0.5, 0.3), (0.6, 0.4), (0.7, 0.5)])
    assert line is not None
    assert line(0.39) is None
    assert line(0.41) is not None
    assert line(0.81) is None


def test_the_page_shows_what_a_model_has_beyond_the_line(tmp_path: Path) -> None:
    content = scores(models=("a", "b", "c", "d"))
    for model, clean, mean in zip(
        content["models"], (0.5, 0.4, 0.3, 0.4), (0.7, 0.6, 0.5, 0.45), strict=True
    ):
        model["summary"]["clean"] = {"value": clean, "low": clean, "high": clean}
        model["summary"]["mean"] = {"value": mean, "low": mean, "high": mean}
        model["clean"]["figures"]["error"] = {"value": clean, "low": clean, "high": clean}
    run = write_run(
        tmp_path / "run", content, sheets=0, settings={"adapters": {"d": {"name": "x"}}}
    )
    section = page_of(run).by_id("robustness")
    fit = linregress(logit([0.5, 0.6, 0.7]), logit([0.3, 0.4, 0.5]))
    expected = 100 * expit(fit.slope * logit(0.6) + fit.intercept)
    rows = rows_of(section)
    assert rows[0][:5] == ["d", "60.0", "55.0", "5.0", f"{expected:.1f}"]
    assert rows[0][5] == f"+{55 - expected:.1f}"
    assert "the 3 models without adapters" in section.text


# ---------------------------------------------------------------- what separates, what is gained


def test_corruptions_are_listed_by_how_far_the_models_lie_apart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", scores(models=("source", "BN", "ENT")), sheets=0)
    rows = rows_of(page_of(run).by_id("separation"))
    models = Run(run).scores.models
    reach = {
        one.corruption: np.ptp(
            [model.of_corruptions("error")[one.corruption].value for model in models]
        )
        for one in models[0].corruptions
    }
    apart = [float(row[3]) for row in rows]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] == pytest.approx(100 * max(reach.values()), abs=0.06)
    assert len(rows) == 15


def test_of_models_that_are_equal_none_is_best(tmp_path: Path) -> None:
    content = scores(models=("source", "BN"))
    first, second = content["models"]
    second["corruptions"][2] = first["corruptions"][2]
    expected = {
        corruption_title(one["corruption"]): f"all {100 * one['figures']['error']['value']:.1f}"
        for one, other in zip(first["corruptions"], second["corruptions"], strict=True)
        if one["figures"]["error"]["value"] == other["figures"]["error"]["value"]
    }
    assert 0 < len(expected) < len(first["corruptions"])
    rows = rows_of(page_of(write_run(tmp_path / "run", content, sheets=0)).by_id("separation"))
    assert {row[0]: row[1] for row in rows if row[2] == "–"} == expected


def test_gains_stand_with_the_largest_first_and_the_mean_last(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", scores(models=("source", "BN")), sheets=0)
    rows = rows_of(page_of(run).by_id("gains"))
    moved = [float(row[1].split()[0].replace("−", "-")) for row in rows]
    assert moved[:-1] == sorted(moved[:-1])
    assert rows[-1][0] == "Mean"
    found = Run(run).scores.differences[0].of_corruptions("error")
    assert moved[0] == pytest.approx(100 * min(one.value for one in found.values()), abs=0.06)


def test_one_model_alone_has_nothing_to_be_held_against(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", scores(models=("source",)), sheets=0))
    anchors = {one.attributes["id"] for one in page.all("section")}
    assert not anchors & {"separation", "robustness", "gains", "ranking"}


# ---------------------------------------------------------------- published figures


def test_mce_stands_among_published_ones_and_only_where_it_is_claimed(tmp_path: Path) -> None:
    claimed = scores(models=("source",))
    page = page_of(write_run(tmp_path / "run", claimed, sheets=0))
    section = page.by_id("corruption-errors")
    table = rows_of(section, 1)
    named = {row[0]: row[1:] for row in table}
    # Schneider et al. 2020 and Rusak et al. 2022, as they print it.
    assert named["ResNet-50"] == ["76.7", "Schneider et al. 2020"]
    assert named["ResNet-50, AugMix"][0] == "65.3"
    assert named["ResNeXt-101"] == ["66.6", "Rusak et al. 2022"]
    assert named["EfficientNet-L2"][0] == "28.3"
    figures = [float(row[1].split()[0]) for row in table]
    assert figures == sorted(figures)
    assert sum(row[-1] == "this page" for row in table) == 1
    claimed["grid"] |= {"complete": False, "reason": "it is not whole"}
    for model in claimed["models"]:
        model["summary"] |= {"mce": None, "relative_mce": None}
    page = page_of(write_run(tmp_path / "other", claimed, sheets=0))
    assert "corruption-errors" not in {one.attributes["id"] for one in page.all("section")}


# ---------------------------------------------------------------- single answers


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    return simulated_runs.write_run(folder / "run", draw_tables(200, hope=0.05))


def test_answers_are_counted_as_scikit_learn_counts_them(run: Path) -> None:
    [entry, _] = PageContent.of([Run(run)]).entries
    cells = [Cell("fog", 1), Cell("fog", 5)]
    tally = Tally.over(entry, cells)
    records = [Run(run).cell("source", cell.corruption, cell.severity) for cell in cells]
    target, prediction, confidence = (
        np.concatenate([getattr(one, name) for one in records])
        for name in ("target", "prediction", "confidence")
    )
    right, sure = calibration_curve(target == prediction, confidence, n_bins=15)
    kept = tally.answers > 0
    assert tally.right[kept] / tally.answers[kept] == pytest.approx(right)
    assert tally.sure[kept] / tally.answers[kept] == pytest.approx(sure)
    matrix = confusion_matrix(target, prediction)
    confused = tally.confuse()
    assert {pair: count for pair, (count, _) in confused.items()} == {
        (int(one), int(other)): matrix[one, other]
        for one, other in zip(*np.nonzero(matrix), strict=True)
        if one != other
    }
    pair = max(confused, key=lambda pair: confused[pair][0])
    assert confused[pair][1] == pytest.approx(confused[pair][0] / matrix[pair[0]].sum())


def test_the_page_shows_reliability_and_confusions(run: Path) -> None:
    page = page_of(run)
    section = page.by_id("reliability")
    assert len(section.all("svg", "scatter")) == 2
    # The answers of the world are right 5 points per severity less often than they are sure.
    assert "points on corrupted ones" in section.text
    assert "overconfident by" in section.text
    rows = rows_of(page.by_id("confusions"))
    times = [int(row[2]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert len(rows) == 10
    assert {row[0] for row in rows} <= set("abcdefgh")


def test_holdout_corruptions_are_in_none_of_what_is_said_of_corrupted_images(
    tmp_path: Path,
) -> None:
    cells = [Cell("fog", 3), Cell("fog", 5), Cell("saturate", 5)]
    path = simulated_runs.write_run(tmp_path / "run", draw_tables(64, cells=cells, hope=0.1))
    run = Run(path)
    [entry, _] = PageContent.of([run]).entries
    assert list_cells(entry) == cells[:2]
    wrong = [(one.prediction != one.target).mean() for one in _read(run, cells)]
    model = run.scores.models[0]
    assert model.summary["mean"].value == pytest.approx(np.mean(wrong[:2]))
    rows = model.detail["classes"]
    assert np.average([row["error"] for row in rows], weights=[row["images"] for row in rows]) == (
        pytest.approx(np.mean(wrong[:2]))
    )


def _read(run: Run, cells: list[Cell]) -> list[CellRecords]:
    return [run.cell("source", cell.corruption, cell.severity) for cell in cells]


def test_runs_without_records_have_no_such_sections(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", sheets=0))
    anchors = {one.attributes["id"] for one in page.all("section")}
    assert not anchors & {"reliability", "confusions"}


# ---------------------------------------------------------------- what to do next


def steps_of(run: Path) -> str:
    return page_of(run).by_id("next").text


def test_the_next_step_says_how_many_images_would_tell(tmp_path: Path) -> None:
    content = scores(models=("source", "BN"))
    content["images"] |= {"total": 500, "used": 500}
    content["ranking"] = {
        "headline": "mean",
        "places": [
            {"name": name, "figure": {"value": value, "low": 0.2, "high": 0.6}, "rank": rank}
            for rank, (name, value) in enumerate([("BN", 0.4), ("source", 0.42)], 1)
        ],
        "pairs": [
            {"name": "BN", "against": "source", "p": 0.5, "adjusted": 0.5,
             "difference": {"value": -0.02, "low": -0.06, "high": 0.02}}
        ],
    }  # fmt: skip
    run = write_run(tmp_path / "run", content, sheets=0)
    # The interval falls with the root of the number: half of 8 points to 2 points, 4 times 500.
    assert f"about {500 * math.ceil((0.04 / 0.02) ** 2):,} images would show it" in steps_of(run)


def test_a_model_that_guesses_is_said_to_be_loaded_wrongly(tmp_path: Path) -> None:
    content = scores(models=("source",))
    model = content["models"][0]
    model["clean"]["figures"]["error"] = {"value": 0.79, "low": 0.75, "high": 0.82}
    run = write_run(tmp_path / "run", content, sheets=0)
    head = json.loads((run / "run.json").read_text())
    head["classes"] = {"title": "own", "count": 5}
    (run / "run.json").write_text(json.dumps(head))
    assert "hardly better than guessing" in steps_of(run)
    head["classes"] = {"title": "own", "count": 1000}
    (run / "run.json").write_text(json.dumps(head))
    assert "hardly better than guessing" not in steps_of(run)
