"""Runs that older versions have written can be read: their files lie here as they were written then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shiftproof import load_run
from shiftproof.errors import BrokenFileError
from shiftproof.report import write_report
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.reading import FORMAT, convert, read_form

HERE = Path(__file__).parent


@pytest.fixture(params=[1, 2])
def run(request, tmp_path):
    """The same classifier on the same six images, measured by the version that wrote this format."""
    return load_run(shutil.copytree(HERE / f"format-{request.param}", tmp_path / "run"))


def test_the_newest_format_has_a_run_of_its_own_here():
    assert json.loads((HERE / f"format-{FORMAT}" / "scores.json").read_text())["format"] == FORMAT


def test_its_figures_follow_from_the_records_beside_them(run):
    assert run.kind == "classification"
    [model] = run.scores.models
    assert len(model.cells) == 4
    for cell in model.cells:
        records = run.cell("source", cell.corruption, cell.severity)
        error = np.mean(records.target != records.prediction)
        assert cell.figures["error"].value == pytest.approx(error)
        assert cell.figures["loss"].value == pytest.approx(np.mean(records.loss), rel=1e-6)
    mean = np.mean([cell.figures["error"].value for cell in model.cells])
    assert model.summary["mean"].value == pytest.approx(mean)
    assert run.scores.headline.name == "mean"


def test_it_has_its_page_and_its_rows(run):
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "Error under corruption" in page
    assert len(list(run.scores.rows())) > 20


def test_both_formats_say_the_same():
    old, new = (load_run(HERE / f"format-{number}").scores for number in (1, 2))
    assert old.measures == new.measures
    assert old.headlines == new.headlines
    for found, expected in zip(old.models, new.models, strict=True):
        for name in ("name", "title", "summary", "clean", "cells", "corruptions"):
            assert getattr(found, name) == getattr(expected, name), name


def test_the_scores_of_a_detector_in_the_first_format(tmp_path):
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    half = {"value": 0.25, "low": 0.2, "high": 0.3}
    model = {
        "name": "source", "title": "onnx:a.onnx",
        "summary": {"clean": figure, "mean": half, "mpc": half, "rpc": figure, "relative": figure},
        "clean": {"p": figure, "numbers": {"AP50": 0.5}},
        "cells": [{"corruption": "fog", "severity": 1, "p": half, "numbers": {"AP50": 0.25}}],
        "corruptions": [{"corruption": "fog", "group": "weather", "p": half}],
    }  # fmt: skip
    old = {
        "format": 1, "measure": "AP50", "measure_title": "AP50 (Pascal VOC)",
        "interval": {"level": 0.95, "method": "bootstrap", "replicates": 10, "seed": 0},
        "images": {"total": 3, "used": 3, "objects": 9, "broken": []},
        "grid": {"corruptions": ["fog"], "severities": [1], "complete": False, "missing": [],
                 "mpc_reason": "one corruption is not the benchmark"},
        "models": [model], "differences": [],
    }  # fmt: skip
    (tmp_path / "scores.json").write_text(json.dumps(old))
    scores = read_form(tmp_path / "scores.json", GridScores)
    assert (scores.kind, scores.measure.name, scores.measure.lower_is_better) == (
        "detection", "AP50", False,
    )  # fmt: skip
    assert scores.models[0].of_clean("AP50").value == 0.5
    assert [one.value for one in scores.models[0].of_cells("AP50").values()] == [0.25]
    assert set(scores.models[0].summary) == {one.name for one in scores.headlines}
    assert scores.grid.reason == "one corruption is not the benchmark"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (0, "use the version that wrote it"),
        (99, "install a newer version"),
        (True, "use the version"),
    ],
)
def test_an_unknown_format_is_refused(number, advice, tmp_path):
    content = json.loads((HERE / "format-2" / "scores.json").read_text()) | {"format": number}
    with pytest.raises(BrokenFileError, match=f"expected format {FORMAT}, got .*{advice}"):
        convert(content, GridScores, tmp_path / "scores.json")


@pytest.mark.parametrize("key", ["models", "measure", "grid", "images"])
def test_a_damaged_file_of_the_first_format_is_one_sentence(key, tmp_path):
    content = json.loads((HERE / "format-1" / "scores.json").read_text()) | {key: 7}
    with pytest.raises(BrokenFileError, match=r"scores\.json"):
        convert(content, GridScores, tmp_path / "scores.json")
