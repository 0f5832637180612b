"""A run by the conditions of its images: figures of each, differences, and what cannot be told."""

import json
import shutil

import numpy as np
import pytest
from scipy import stats

from shiftproof import Segmenter, bench
from shiftproof.bench.reanalysis.conditions import subtract_independent
from shiftproof.bench.reanalysis.gathering import list_images
from shiftproof.data import open_detection_data, open_segmentation_data
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.runs import load_run
from support import blobs, finished_runs
from support.brightness_task import Brightness
from support.label_map_trees import NAMES, nearest_color, write_folders
from support.simulated_runs import GRID as CELLS
from support.simulated_runs import draw_tables, write_run

COUNT = 240
WEATHER = {f"{number:05d}.png": ("clear", "rain", "fog")[number % 3] for number in range(COUNT - 6)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("conditions") / "run"
    write_run(path, draw_tables(COUNT))
    return load_run(path)


@pytest.fixture(scope="module")
def scores(run):
    return bench.score_conditions(run, WEATHER, by="weather")


def per_image_errors(run, model, condition):
    records = [run.cell(model, cell.corruption, cell.severity) for cell in CELLS]
    among = np.array([WEATHER.get(name) == condition for name in records[0].ids])
    return np.stack([one.prediction != one.target for one in records]).mean(axis=0)[among]


def test_each_condition_has_the_figures_of_its_own_images(run, scores):
    assert [(one.name, one.images) for one in scores.conditions] == [
        ("clear", 78), ("fog", 78), ("rain", 78),
    ]  # fmt: skip
    assert (scores.images, scores.unmatched, scores.against) == (COUNT, 6, "clear")
    for condition in scores.conditions:
        for model in condition.models:
            errors = per_image_errors(run, model.name, condition.name)
            expected = stats.bootstrap(
                (errors,), np.mean, method="percentile", n_resamples=4000, random_state=1
            ).confidence_interval
            figure = model.summary["mean"]
            assert figure.value == pytest.approx(errors.mean())
            assert figure.low == pytest.approx(expected.low, abs=0.015)
            assert figure.high == pytest.approx(expected.high, abs=0.015)


def test_a_difference_is_that_of_independent_samples(run, scores):
    for condition in scores.conditions[1:]:
        figure = condition.models[0].difference["mean"]
        minuend = per_image_errors(run, "source", condition.name)
        subtrahend = per_image_errors(run, "source", "clear")
        expected = stats.bootstrap(
            (minuend, subtrahend), lambda a, b, axis: a.mean(axis) - b.mean(axis), method="percentile",
            n_resamples=4000, random_state=1, vectorized=True,
        ).confidence_interval  # fmt: skip
        assert figure.value == pytest.approx(minuend.mean() - subtrahend.mean())
        assert figure.low == pytest.approx(expected.low, abs=0.02)
        assert figure.high == pytest.approx(expected.high, abs=0.02)
    assert scores.conditions[0].models[0].difference == {}


def test_equal_conditions_do_not_share_their_resamples():
    # As many images draw alike; held against each other in that order, nothing would vary.
    drawn = np.concatenate([[0.0], np.random.default_rng(0).normal(size=2000)])
    difference = subtract_independent(drawn, drawn, "rain")
    assert difference[0] == 0
    assert difference[1:].std() == pytest.approx(np.sqrt(2), rel=0.05)


def test_of_fewer_resamples_as_many_are_taken():
    assert len(subtract_independent(np.zeros(201), np.zeros(1001), "rain")) == 201
    assert len(subtract_independent(np.zeros(1), np.zeros(1001), "rain")) == 1


def test_a_condition_with_one_image_has_no_interval(run):
    one = {name: "night" if name == "00000.png" else "day" for name in WEATHER}
    found = bench.score_conditions(run, one, by="hour")
    night = found.conditions[1]
    assert (found.against, night.name, night.images) == ("day", "night", 1)
    assert night.models[0].summary["mean"].bare
    assert night.models[0].difference["mean"].bare
    assert not found.conditions[0].models[0].summary["mean"].bare


def test_the_same_metadata_write_the_same_file(run, scores):
    path = run.folder.conditions_file("weather")
    before = path.read_bytes()
    bench.score_conditions(run, WEATHER, by="weather", against="clear")
    assert path.read_bytes() == before
    assert json.loads(before)["kind"] == "classification"


def test_what_cannot_be_compared_is_refused(run):
    files = sorted(one.name for one in run.path.iterdir())
    with pytest.raises(InputError, match=r"two conditions or more.*'clear' alone"):
        bench.score_conditions(run, dict.fromkeys(WEATHER, "clear"), by="one")
    with pytest.raises(InputError, match="None of the 240 images"):
        bench.score_conditions(run, {"a.png": "clear"}, by="one")
    with pytest.raises(UnknownNameError, match="Did you mean 'rain'"):
        bench.score_conditions(run, WEATHER, by="one", against="rian")
    with pytest.raises(InputError, match="up to 200 conditions, got 234"):
        bench.score_conditions(run, {name: name for name in WEATHER}, by="one")
    assert sorted(one.name for one in run.path.iterdir()) == files


def test_detectors_are_held_against_the_objects_of_the_condition_alone(tmp_path):
    finished_runs.run_detector(tmp_path, tmp_path / "run")
    run = load_run(tmp_path / "run")
    images = list_images(run)
    found = bench.score_conditions(
        run, {name: "rain" if at < 2 else "dry" for at, name in enumerate(images)}, by="weather"
    )
    # The same images as a dataset of their own: noise is drawn by the images' names.
    data = open_detection_data(tmp_path / "blocks")
    rain = data.narrow([one for one in data.samples if one.id in images[:2]], "two of them")
    alone = bench.run(
        blobs.make_detector(), rain, task=bench.Detection(), out=tmp_path / "alone", **blobs.GRID
    )
    [condition] = [one for one in found.conditions if one.name == "rain"]
    assert condition.models[0].summary["mean"].value == pytest.approx(
        alone.scores.models[0].summary["mean"].value
    )
    assert condition.objects == alone.scores.images.objects
    assert condition.objects < run.scores.images.objects


def test_segmenters_may_take_the_conditions_that_the_run_keeps(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data", 4), classes=list(NAMES))
    data.conditions = {name: "fog" if at % 2 else "clear" for at, name in enumerate(data.masks)}
    model = Segmenter(nearest_color, NAMES)
    run = bench.run(model, data, out=tmp_path / "run", **blobs.GRID)
    found = bench.score_conditions(run, by="condition")
    kept = run.scores.models[0].detail["conditions"]
    assert {one.name: one.models[0].summary["mean"].value for one in found.conditions} == {
        name: pytest.approx(fall["mean"]) for name, fall in kept.items()
    }
    assert not found.conditions[0].models[0].summary["mean"].bare


def test_a_task_of_ones_own_is_handed_in(tmp_path):
    finished_runs.run_own_task(tmp_path / "run")
    half = {f"{number:06d}": "dark" if number < 3 else "bright" for number in range(6)}
    with pytest.raises(InputError, match="expected its task"):
        bench.score_conditions(tmp_path / "run", half, by="light")
    found = bench.score_conditions(tmp_path / "run", half, by="light", task=Brightness())
    assert [one.name for one in found.conditions] == ["bright", "dark"]


def test_a_damaged_record_is_told_and_nothing_is_written(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run/records/source/fog-3.parquet").write_bytes(b"no table")
    with pytest.raises(BrokenFileError, match=r"fog-3\.parquet"):
        bench.score_conditions(tmp_path / "run", WEATHER, by="other")
    assert not list((tmp_path / "run").glob("conditions-other*"))
