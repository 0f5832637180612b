"""Anytime runs: valid, exact in the end, the same however often they are interrupted."""

import math
import shutil

import numpy as np
import pytest

from shiftproof import Classifier, bench, load_run
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.report import write_report
from support import blobs, tiny
from support.stopping import interrupt_after

GRID = {"corruptions": ["fog", "contrast"], "severities": [3, 5], "workers": 0, "batch_size": 16}


@pytest.fixture
def data(tmp_path):
    return tiny.write_photos(tmp_path / "many", per_class=30)


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr("shiftproof.bench.other_runs.pair_sampling.FIRST_BLOCK", 48)


def guess(batch):
    """Logits of a model that always says the first class."""
    return np.tile(np.float32([1, 0, 0]), (len(batch), 1))


def make_guesser(model):
    return Classifier(guess, model.preprocess, model.classes, name="guesser")


def files_of(run):
    return {
        path.relative_to(run): path.read_bytes()
        for path in [run / "scores.json", *sorted((run / "records").rglob("*.parquet"))]
    }


def test_all_pairs_give_the_mean_of_the_full_run(model, data, tmp_path):
    run = bench.run_anytime(model, data, precision=1e-9, out=tmp_path / "run", **GRID)
    full = bench.run(model, data, out=tmp_path / "full", **GRID)
    figure = run.scores.models[0].figure
    assert run.scores.ended == "exhausted"
    assert figure.low == pytest.approx(figure.high, abs=2e-6)
    assert figure.value == pytest.approx(full.scores.models[0].summary["mean"].value, abs=2e-6)
    assert len(run.records()) == 90 * 4
    of_fog = next(one for one in full.scores.models[0].cells if one.corruption == "fog")
    cell_scores = next(one for one in run.scores.cells if one.cell == of_fog.cell)
    assert cell_scores.images == 90
    assert cell_scores.errors["source"] == pytest.approx(of_fog.figures["error"].value, abs=1e-5)


def test_a_run_ends_at_its_precision_with_fewer_passes(model, data, tmp_path):
    run = bench.run_anytime(model, data, precision=12, out=tmp_path / "run", **GRID)
    figure = run.scores.models[0].figure
    assert run.scores.ended == "precision"
    assert (figure.high - figure.low) / 2 <= 0.12
    assert run.scores.asked < run.scores.pairs
    assert len(run.scores.models[0].path) == len(run.scores.passes)


@pytest.mark.parametrize("batches", [1, 5])
def test_an_interrupted_run_ends_with_the_same_files(model, data, tmp_path, monkeypatch, batches):
    settings = {"precision": 12, **GRID}
    whole = bench.run_anytime(model, data, out=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        interrupt_after(patch, batches)
        with pytest.raises(KeyboardInterrupt):
            bench.run_anytime(model, data, out=tmp_path / "run", **settings)
    assert len(list((tmp_path / "run" / "records").rglob("*.parquet"))) > 0
    run = bench.run_anytime(model, data, out=tmp_path / "run", **settings)
    assert files_of(run.path) == files_of(whole.path)


def test_a_budget_that_is_used_up_leaves_what_is_known(model, data, tmp_path):
    run = bench.run_anytime(model, data, budget=1e-6, out=tmp_path / "run", **GRID)
    assert run.scores.ended == "budget"
    assert run.scores.asked == 16
    longer = bench.run_anytime(model, data, budget=600, out=tmp_path / "run", **GRID)
    assert longer.scores.ended == "exhausted"


def test_a_comparison_ends_when_the_difference_is_decided(model, data, tmp_path):
    models = {"good": model, "guesser": make_guesser(model)}
    run = bench.run_anytime(models, data, compare=True, out=tmp_path / "run", **GRID)
    [change] = run.scores.differences
    assert run.scores.ended == "decided"
    assert change.is_decided
    assert change.figure.low > 0
    assert run.scores.asked < run.scores.pairs
    again = load_run(run.path)
    assert again.records(["guesser"])["prediction"].to_pylist() == [0] * run.scores.asked
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "of guesser is higher than that of good" in page


def test_an_image_that_cannot_be_read_is_left_out(model, data, tmp_path):
    (data / "red" / "0.png").write_bytes(b"no image")
    run = bench.run_anytime(model, data, precision=1e-9, out=tmp_path / "run", **GRID)
    full = bench.run(model, data, out=tmp_path / "full", **GRID)
    assert run.scores.images.used == 89
    assert [one.id for one in run.scores.images.broken] == ["red/0.png"]
    mean = full.scores.models[0].summary["mean"].value
    assert run.scores.models[0].figure.value == pytest.approx(mean, abs=2e-6)


@pytest.mark.parametrize("budget", [0, -1, math.nan, math.inf, True])
def test_a_budget_is_a_time_above_0(model, data, tmp_path, budget):
    with pytest.raises(InputError, match="budget above 0"):
        bench.run_anytime(model, data, budget=budget, out=tmp_path / "run", **GRID)
    assert not (tmp_path / "run").exists()


def test_detectors_have_no_anytime_run(tmp_path):
    data = blobs.write_blocks(tmp_path / "data")
    with pytest.raises(InputError, match="no means over images"):
        bench.run_anytime(blobs.make_detector(), data, budget=9, out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


def test_corrupted_copies_are_read_as_they_are(model, data, tmp_path):
    copies = tmp_path / "copies"
    shutil.copytree(data, copies / "fog" / "3")
    run = bench.run_anytime(
        model, copies, corruptions=["fog"], severities=[3], precision=1e-9, out=tmp_path / "run",
        workers=0,
    )  # fmt: skip
    full = bench.run(
        model, copies, corruptions=["fog"], severities=[3], out=tmp_path / "full", workers=0
    )
    mean = full.scores.models[0].summary["mean"].value
    assert run.scores.models[0].figure.value == pytest.approx(mean, abs=2e-6)


def test_something_has_to_end_a_run(model, data, tmp_path):
    with pytest.raises(InputError, match="a budget, a precision, or compare"):
        bench.run_anytime(model, data, out=tmp_path / "run", **GRID)


def test_a_comparison_takes_two_models(model, data, tmp_path):
    with pytest.raises(InputError, match="two models or more"):
        bench.run_anytime(model, data, compare=True, out=tmp_path / "run", **GRID)


def test_another_precision_is_another_run(model, data, tmp_path):
    bench.run_anytime(model, data, precision=20, out=tmp_path / "run", **GRID)
    with pytest.raises(RunMismatchError):
        bench.run_anytime(model, data, precision=15, out=tmp_path / "run", **GRID)


def test_the_page_and_the_watcher_have_the_number(model, data, tmp_path):
    seen = []
    run = bench.run_anytime(
        model, data, precision=12, out=tmp_path / "run", watch=lambda one: seen.append(one.scores),
        **GRID,
    )  # fmt: skip
    assert [one.ended for one in seen][:-1] == ["unfinished"] * (len(seen) - 1)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "It ended when the interval was as narrow as was asked" in page
    assert f"{run.scores.asked:,} of 360 pairs" in page
