"""Comparisons of two runs: differences, intervals, conditions, and refused input."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

import shiftproof
from shiftproof import bench
from shiftproof.comparison import comparison_markdown, parse_condition
from shiftproof.comparison.writing import print_comparison
from shiftproof.data import open_segmentation_data
from shiftproof.errors import InputError, RunMismatchError, UnknownNameError
from shiftproof.evaluate import evaluate
from shiftproof.types import CLEAN, Cell
from support import blobs
from support.label_map_trees import NAMES as STUFF
from support.label_map_trees import nearest_color, write_folders
from support.simulated_runs import GRID, draw_tables, write_run
from support.tiny import make_model, mean_colour, write_photos

COUNT = 300


@pytest.fixture(scope="module")
def tables():
    """Two models, the second worse under corruption."""
    drawn = draw_tables(COUNT, hope=0.02)
    worse = draw_tables(COUNT, hope=0.1, seed=3)["source"]
    return {"before": drawn["source"], "after": worse}


@pytest.fixture(scope="module")
def runs(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    for name, table in tables.items():
        write_run(folder / name, {"source": table})
    return folder


def wrong(record):
    return (record.prediction != record.target).astype(float)


def compare(runs, *conditions, baseline="before", candidate="after", **options):
    return shiftproof.compare(
        runs / baseline, runs / candidate, fail_if=conditions, show_progress=False, **options
    )


def find_difference(found, name):
    return next(one for one in found.differences if one.name == name)


def test_a_difference_is_that_of_the_images_with_the_interval_of_paired_resamples(tables, runs):
    found = compare(runs)
    cells = [cell for cell in GRID if cell.corruption == "fog"]
    means = {
        name: np.mean([wrong(table[cell]) for cell in cells], axis=0)
        for name, table in tables.items()
    }
    change = means["after"] - means["before"]
    fog = find_difference(found, "fog")
    assert fog.baseline.value == pytest.approx(means["before"].mean())
    assert fog.candidate.value == pytest.approx(means["after"].mean())
    assert fog.difference.value == pytest.approx(change.mean())
    expected = stats.bootstrap(
        (change,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert fog.difference.low == pytest.approx(expected.low, abs=0.01)
    assert fog.difference.high == pytest.approx(expected.high, abs=0.01)
    assert fog.finding == "worse"
    assert (found.images, found.cells) == (COUNT, len(GRID) + 1)
    assert find_difference(found, "clean").finding == "not shown"


def test_each_model_has_its_own_worst_corruption(tables, runs):
    found = find_difference(compare(runs), "worst")
    for side, name in (("baseline", "before"), ("candidate", "after")):
        means = [
            np.mean([wrong(tables[name][cell]).mean() for cell in cells])
            for _, cells in itertools.groupby(GRID, key=lambda cell: cell.corruption)
        ]
        assert getattr(found, side).value == pytest.approx(max(means))


def test_a_condition_fails_if_the_whole_interval_is_beyond(runs):
    interval = find_difference(compare(runs), "mean").difference
    below, inside, above = (
        100 * value for value in (interval.low - 0.001, interval.value, interval.high + 0.001)
    )
    verdicts = {}
    for strict in (False, True):
        found = compare(
            runs, *(f"mean > {value:+.6f}" for value in (below, inside, above)), strict=strict
        )
        verdicts[strict] = [(check.verdict, check.failed) for check in found.checks]
        assert found.failed
    assert verdicts[False] == [("fail", True), ("unclear", False), ("pass", False)]
    assert verdicts[True] == [("fail", True), ("unclear", True), ("pass", False)]


def test_a_condition_without_a_sign_is_on_the_candidates_score(tables, runs):
    clean = 100 * wrong(tables["after"][CLEAN]).mean()
    check, other = compare(runs, f"clean > {clean / 3}", f"clean < {clean / 3}").checks
    assert (check.change, check.verdict, other.verdict) == (False, "fail", "pass")
    assert check.interval.value == pytest.approx(clean / 100)


def test_equal_predictions_pass_even_a_strict_gate(runs):
    found = compare(runs, "any > +0", "worst > +0", candidate="before", strict=True)
    assert not found.failed
    assert {one.finding for one in found.differences} == {"same"}


def test_any_corruption_is_a_condition_on_each_with_wider_intervals(runs):
    found = compare(runs, "any > +1", "fog > +1")
    fog, contrast, single = found.checks
    assert [one.name for one in found.checks] == ["fog", "contrast", "fog"]
    assert (fog.level, single.level) == (pytest.approx(1 - 0.05 / 2), 0.95)
    assert fog.interval.low < single.interval.low < single.interval.high < fog.interval.high
    assert contrast.level == fog.level
    assert compare(runs, "any > +1", strict=True).checks[0].level == 0.95


@pytest.mark.parametrize(
    ("text", "name"),
    [("Fog > +1", "fog"), ("fog-3 > +1", "fog-3"), ("Calibration error > +1", "calibration_error"),
     ("rPC < -1", "rpc"), ("Worst corruption > +1", "worst"), ("mean >= \N{MINUS SIGN}1 points", "mean"),
     ("Error under corruption > +1", "mean"), ("error > +1", "mean"),
     ("calibration > +1", "calibration_error")],
)  # fmt: skip
def test_names_of_measures_may_be_spelled_in_several_ways(runs, text, name):
    assert compare(runs, text).checks[0].name == name


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("mean", InputError, "Expected a condition such as"),
        ("mean > much", InputError, "got 'mean > much'"),
        ("mean > 0", InputError, "write \\+0 for a difference"),
        ("mean > 1e999", InputError, "finite number"),
        ("mCE > +1", InputError, "no mCE: mCE is normalized by AlexNet"),
        ("fgo > +1", UnknownNameError, "Did you mean 'fog'"),
        ("corruption error > +1", UnknownNameError, "mean, Error under corruption, rpc"),
    ],
)
def test_invalid_conditions_are_refused(runs, text, error, message):
    with pytest.raises(error, match=message):
        compare(runs, text)


def test_a_condition_is_read_with_its_sign_unit_and_threshold():
    found = parse_condition(" Gaussian noise <= \N{MINUS SIGN}2.5 % ")
    assert (found.measure, found.sign, found.threshold, found.change) == (
        "Gaussian noise", "<=", -2.5, True,
    )  # fmt: skip


# ---------------------------------------------------------------- shared images and cells


def select(record, rows):
    return dataclasses.replace(
        record, ids=[record.ids[at] for at in rows], error=[record.error[at] for at in rows],
        **{name: getattr(record, name)[rows]
           for name in ("position", "target", "prediction", "confidence", "loss", "top")},
    )  # fmt: skip


def test_images_are_paired_by_name_in_any_order_and_number(tables, runs, tmp_path):
    rows = np.random.default_rng(0).permutation(COUNT)
    write_run(
        tmp_path / "shuffled",
        {"source": {cell: select(record, rows) for cell, record in tables["after"].items()}},
    )
    shuffled = shiftproof.compare(runs / "before", tmp_path / "shuffled", show_progress=False)
    assert shuffled.differences == compare(runs).differences
    write_run(
        tmp_path / "half",
        {"source": {cell: select(record, rows[:150]) for cell, record in tables["after"].items()}},
    )
    half = shiftproof.compare(runs / "before", tmp_path / "half", show_progress=False)
    kept = np.sort(rows[:150])
    change = wrong(tables["after"][CLEAN])[kept] - wrong(tables["before"][CLEAN])[kept]
    assert half.images == 150
    assert find_difference(half, "clean").difference.value == pytest.approx(change.mean())
    assert any("150 images are in one run alone" in one for one in half.warnings)


def test_cells_of_one_run_alone_are_skipped_with_a_warning(tables, runs, tmp_path):
    part = {cell: tables["after"][cell] for cell in [CLEAN, *GRID[:2]]}
    write_run(tmp_path / "part", {"source": part})
    found = shiftproof.compare(runs / "before", tmp_path / "part", show_progress=False)
    assert found.cells == 3
    assert {one.name for one in found.differences if one.role == "corruption"} == {"fog"}
    warnings = " ".join(found.warnings)
    assert "4 cells are in one run alone" in warnings
    assert "corruptions (before: fog and contrast; part: fog)" in warnings


def test_runs_that_cannot_be_paired_are_refused(tables, runs, tmp_path):
    elsewhere = {
        cell: dataclasses.replace(record, ids=[f"x{name}" for name in record.ids])
        for cell, record in tables["after"].items()
    }
    write_run(tmp_path / "elsewhere", {"source": elsewhere})
    with pytest.raises(RunMismatchError, match="no image in common"):
        shiftproof.compare(runs / "before", tmp_path / "elsewhere")
    renamed = {
        cell: dataclasses.replace(record, target=(record.target + 1) % 8)
        for cell, record in tables["after"].items()
    }
    write_run(tmp_path / "renamed", {"source": renamed})
    with pytest.raises(RunMismatchError, match="other labels on 300 of the 300 images"):
        shiftproof.compare(runs / "before", tmp_path / "renamed")
    write_run(tmp_path / "apart", {"source": draw_tables(20, cells=[Cell("snow", 2)])["source"]})
    with pytest.raises(RunMismatchError, match="no corrupted cell in common"):
        shiftproof.compare(runs / "before", tmp_path / "apart")
    with pytest.raises(UnknownNameError, match="Unknown model of"):
        shiftproof.compare(runs / "before", runs / "after", model="bn")


def test_an_adapter_is_compared_with_the_model_of_its_run(tmp_path):
    write_run(tmp_path / "run", draw_tables(60))
    found = shiftproof.compare(
        tmp_path / "run", tmp_path / "run", model="BN", baseline_model="source", show_progress=False
    )
    assert (found.baseline.model, found.candidate.model) == ("source", "BN")
    own = shiftproof.load_run(tmp_path / "run").scores.differences[0]
    mean = find_difference(found, "mean")
    assert mean.difference == own.summary["mean"]


# ---------------------------------------------------------------- other kinds


def test_detectors_are_compared(tmp_path):
    good = blobs.make_detector()

    def shake(images):
        return [
            dataclasses.replace(one, boxes=one.boxes + np.float32(2))
            for one in good.predict(images)
        ]

    models = {"good": good, "moved": shiftproof.Detector(shake, good.classes, name="moved")}
    data = blobs.write_blocks(tmp_path / "blocks", images=4)
    grid = {"corruptions": ["contrast"], "severities": [1], "workers": 0}
    run = bench.run(models, data, task=bench.Detection(), out=tmp_path / "run", **grid)
    found = shiftproof.compare(
        run, run, model="moved", baseline_model="good", fail_if="clean < -1", show_progress=False
    )
    for side, scored in zip(("baseline", "candidate"), run.scores.models, strict=True):
        for name in ("clean", "mean", "rpc"):
            assert getattr(find_difference(found, name), side) == scored.summary[name]
    assert found.failed
    with pytest.raises(InputError, match="no mPC: 14 of the 15 corruptions are not there"):
        shiftproof.compare(run, run, fail_if="mPC < -1")


def test_segmenters_are_compared(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data", 4), classes=list(STUFF))

    def answer_sky(images):
        return [np.zeros(image.shape[:2], np.int64) for image in images]

    models = {
        "good": shiftproof.Segmenter(nearest_color, STUFF),
        "sky": shiftproof.Segmenter(answer_sky, STUFF),
    }
    grid = {"corruptions": ["contrast"], "severities": [1], "workers": 0}
    run = bench.run(models, data, out=tmp_path / "run", show_progress=False, **grid)
    found = shiftproof.compare(
        run, run, model="sky", baseline_model="good", fail_if="clean < -1", show_progress=False
    )
    for side, scored in zip(("baseline", "candidate"), run.scores.models, strict=True):
        assert getattr(find_difference(found, "clean"), side) == scored.summary["clean"]
    assert found.failed


def test_evaluations_are_compared_by_test_set(tmp_path):
    folders = {"near": write_photos(tmp_path / "near", 6), "far": write_photos(tmp_path / "far", 5)}
    model = make_model()
    rolled = shiftproof.Classifier(
        lambda batch: np.roll(mean_colour(batch), 1, axis=1), model.preprocess, model.classes,
        name="rolled",
    )  # fmt: skip
    for name, one in (("one", model), ("two", rolled)):
        evaluate(one, folders, out=tmp_path / name, workers=0, show_progress=False)
    found = shiftproof.compare(
        tmp_path / "one", tmp_path / "two", fail_if=["accuracy < -1", "far < -1"]
    )
    assert [one.name for one in found.differences] == ["mean", "worst", "near", "far"]
    assert (found.images, found.cells) == (33, 2)
    assert [check.name for check in found.checks] == ["mean", "far"]
    for place, name in enumerate(("near", "far")):
        change = find_difference(found, name)
        for side, run in (("baseline", "one"), ("candidate", "two")):
            stated = shiftproof.load_run(tmp_path / run).scores.models[0].sets[name].accuracy
            assert getattr(change, side) == stated, place
    assert found.failed == (find_difference(found, "mean").difference.high < -0.01)
    moved = shiftproof.Classifier(
        lambda batch: mean_colour(batch)[:, ::-1], model.preprocess, model.classes.names[::-1],
        name="moved",
    )  # fmt: skip
    evaluate(moved, folders, out=tmp_path / "moved", workers=0, show_progress=False)
    with pytest.raises(RunMismatchError, match=r"other labels on .* the same in another order"):
        shiftproof.compare(tmp_path / "one", tmp_path / "moved")
    with pytest.raises(RunMismatchError, match="of the kind 'evaluation'"):
        shiftproof.compare(
            tmp_path / "one", write_run(tmp_path / "grid", draw_tables(20, cells=GRID[:1]))
        )


@pytest.mark.parametrize("width", [20, 40, 80])
def test_printed_figures_are_never_broken(runs, width):
    found, text = compare(runs), io.StringIO()
    print_comparison(found, Console(file=text, width=width))
    (fog,) = [line for line in text.getvalue().splitlines() if line.startswith("Fog ")]
    (expected,) = [
        line
        for line in comparison_markdown(found).splitlines()
        if line.startswith("| Fog |") and "interval" not in line
    ]
    assert fog.split() == expected.replace("|", "").split()
