"""As many images as a wanted precision takes."""

import math

import pytest

from shiftproof import bench
from shiftproof.bench.grid.precision import MARGIN, plan_images
from shiftproof.errors import InputError
from support import tiny

GRID = {"corruptions": ["fog"], "severities": [3], "batch_size": 4, "workers": 0}


def half_width(run):
    figure = run.scores.models[0].summary["mean"]
    return 100 * (figure.upper - figure.lower) / 2


@pytest.fixture
def data(tmp_path):
    return tiny.write_photos(tmp_path / "many", per_class=20)


def test_a_number_of_images_is_run_and_recorded(model, data, tmp_path):
    run = bench.run(model, data, images=12, out=tmp_path / "run", **GRID)
    assert run.scores.images.total == 12
    assert run.folder.info()["settings"]["data"]["subset"]["images of all"] == 60
    ids = run.records()["id"].to_pylist()
    assert sorted({name.split("/")[0] for name in ids}) == sorted(tiny.NAMES)
    again = bench.run(model, data, images=12, out=tmp_path / "run", **GRID)
    assert again.scores == run.scores


def test_the_plan_scales_with_the_square_of_the_precision(model, data, tmp_path):
    pilot = bench.run(model, data, images=30, out=tmp_path / "pilot", **GRID)
    width = half_width(pilot)
    assert width > 0
    assert plan_images(pilot, width) == math.ceil(30 * MARGIN)
    assert plan_images(pilot, width / 3) == math.ceil(9 * 30 * MARGIN)


def test_a_precision_is_reached_from_a_pilot(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr("shiftproof.bench.grid.precision.PILOT_IMAGES", 15)
    pilot = bench.run(model, data, images=15, out=tmp_path / "alone", **GRID)
    wanted = 0.7 * half_width(pilot)
    run = bench.run(model, data, precision=wanted, out=tmp_path / "run", **GRID)
    assert (tmp_path / "run-pilot" / "scores.json").is_file()
    assert 15 < run.scores.images.total < 60
    assert run.scores.images.total == plan_images(pilot, wanted)


@pytest.mark.parametrize("precision", [0, -1, math.nan, math.inf, True])
def test_a_precision_is_a_number_of_points(model, data, tmp_path, precision):
    with pytest.raises(InputError, match="precision above 0"):
        bench.run(model, data, precision=precision, out=tmp_path / "run", **GRID)
    assert not (tmp_path / "run").exists()


def test_images_and_precision_are_not_both_given(model, data, tmp_path):
    with pytest.raises(InputError, match="give one of the two"):
        bench.run(model, data, precision=1, images=3, out=tmp_path / "run", **GRID)
