"""Errors estimated without labels, held against runs whose truth is known."""

import copy
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from shiftproof.bench import estimate_stream
from shiftproof.bench.estimates.error_estimates import _draw_half, estimate_grid, measure_quality
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.metrics import agreement, average_thresholded_confidence, difference_of_confidences
from shiftproof.runs import Run
from shiftproof.types import CLEAN, Cell
from support.simulated_runs import ADAPTERS, GRID, MODEL, draw_tables, write_run

FOG = Cell("fog", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A labeled run that calibrates, and a stream of other images without labels."""
    path = tmp_path_factory.mktemp("estimates")
    write_run(path / "labeled", draw_tables(2000, hope=0.006))
    write_run(path / "stream", draw_tables(100, seed=1, cells=[FOG], hope=0.006, labeled=False))
    return path


def error_of(record):
    return np.mean(record.prediction != record.target)


def test_each_half_is_judged_by_the_other():
    tables = draw_tables(501)
    half = _draw_half(501)
    assert 200 < half.sum() < 300
    clean, cell = tables["source"][CLEAN], tables["source"][FOG]
    expected = {}
    for name, estimator in (
        ("atc", average_thresholded_confidence),
        ("doc", difference_of_confidences),
    ):
        parts = [
            estimator(
                clean.confidence[source], (clean.prediction == clean.target)[source],
                cell.confidence[~source],
            )
            for source in (half, ~half)
        ]  # fmt: skip
        expected[name] = np.average(parts, weights=[(~half).sum(), half.sum()])
    found = estimate_grid(tables)["source"][FOG]
    assert found == pytest.approx(expected, abs=1e-6)


def test_no_image_is_judged_by_what_was_learnt_on_it():
    """One half is sure and the other is not: learnt on itself, each would look as it is."""
    tables = draw_tables(400, models=("source",))
    half = _draw_half(400)
    for record in tables["source"].values():
        record.confidence = np.where(half, 0.9, 0.5).astype(np.float32)
    estimates = estimate_grid(tables)["source"]
    # The sure half is all right by the threshold of the other, which is all wrong by its own.
    assert {cell: found["atc"] for cell, found in estimates.items()} == dict.fromkeys(GRID, 0.5)


def test_the_disagreement_is_that_with_the_first_model():
    tables = draw_tables(300)
    found = estimate_grid(tables)
    same = agreement(tables["BN"][FOG].prediction, tables["source"][FOG].prediction)
    assert found["BN"][FOG]["disagreement"] == pytest.approx(1 - same)
    assert "disagreement" not in found["source"][FOG]
    assert 0.1 < same < 0.9


def test_where_confidence_tells_the_truth_the_difference_is_the_error():
    tables = draw_tables(4000, models=("source",), hope=0.0)
    errors = {cell: error_of(record) for cell, record in tables["source"].items()}
    quality = measure_quality(estimate_grid(tables)["source"], errors)["doc"]
    assert errors[Cell("fog", 5)] - errors[CLEAN] > 0.15
    # Clean and corrupted error each have a standard error below 0.8 points.
    assert quality.mean_absolute_error < 0.02
    assert abs(quality.bias) < 0.02


def test_where_confidence_is_too_high_under_corruption_the_guess_is_too_hopeful():
    tables = draw_tables(4000, models=("source",), hope=0.04)
    errors = {cell: error_of(record) for cell, record in tables["source"].items()}
    quality = measure_quality(estimate_grid(tables)["source"], errors)["doc"]
    # Severities 1, 3, 5 are wrong 4, 12 and 20 points more often than the confidence says.
    assert quality.bias == pytest.approx(-0.12, abs=0.02)
    assert quality.worst.cell.severity == 5
    assert quality.worst.estimate - quality.worst.error == pytest.approx(-0.2, abs=0.03)


def test_images_that_could_not_be_read_count_nowhere():
    tables = draw_tables(300, models=("source",))
    for cell, broken in ((CLEAN, [3, 4]), (FOG, [4, 7, 9])):
        record = tables["source"][cell]
        for row in broken:
            record.error[row], record.prediction[row] = "torn", -1
            record.confidence[row] = np.nan
    half = _draw_half(300)
    clean, cell = tables["source"][CLEAN], tables["source"][FOG]
    total = 0.0
    for source in (half, ~half):
        learnt, made = source & clean.readable, ~source & cell.readable
        right = (clean.prediction == clean.target)[learnt]
        estimate = average_thresholded_confidence(
            clean.confidence[learnt], right, cell.confidence[made]
        )
        total += estimate * made.sum()
    assert estimate_grid(tables)["source"][FOG]["atc"] == pytest.approx(total / 297)


def test_an_answer_that_is_no_number_is_wrong():
    tables = draw_tables(200, models=("source",))
    record = tables["source"][FOG]
    record.confidence[:] = np.nan
    record.prediction[:] = -1
    assert estimate_grid(tables)["source"][FOG]["atc"] == 1


def test_nothing_is_estimated_without_a_clean_cell_or_two_images():
    tables = draw_tables(50)
    del tables["source"][CLEAN]
    assert estimate_grid(tables)["source"] == {}
    assert estimate_grid(draw_tables(1)) == {"source": {}, "BN": {}}


def test_the_scores_hold_every_estimate_and_how_far_it_is_off(folder):
    scores = Run(folder / "labeled").scores
    for model in scores.models:
        names = ["atc", "doc"] + (["disagreement"] if model.name == "BN" else [])
        assert [entry["name"] for entry in model.detail["estimators"]] == names
        truth = np.array([cell.figures["error"].value for cell in model.cells])
        guesses = [model.detail["estimates"][str(cell.cell)] for cell in model.cells]
        for entry in model.detail["estimators"]:
            deviations = np.array([guess[entry["name"]] for guess in guesses]) - truth
            assert entry["cells"] == len(GRID)
            assert entry["mean_absolute_error"] == pytest.approx(np.abs(deviations).mean())
            assert entry["root_mean_square"] == pytest.approx(np.sqrt((deviations**2).mean()))
            assert entry["bias"] == pytest.approx(deviations.mean())
            assert (
                entry["within"]
                == (np.abs(deviations) <= 1.96 * np.sqrt((deviations**2).mean())).sum()
            )
            worst = int(np.abs(deviations).argmax())
            assert entry["worst"] == {
                "corruption": model.cells[worst].corruption,
                "severity": model.cells[worst].severity,
                "estimate": guesses[worst][entry["name"]],
                "error": model.cells[worst].figures["error"].value,
            }
    assert scores.differences[0].detail == {}


def test_a_run_without_labels_has_no_estimates_of_its_own(folder):
    for model in Run(folder / "stream").scores.models:
        assert model.detail == {}


# ---------------------------------------------------------------- a stream


def test_a_stream_is_estimated_from_all_labeled_clean_images(folder):
    found = estimate_stream(folder / "stream", Run(folder / "labeled"))
    assert [model.name for model in found.models] == ["source", "BN"]
    assert (found.images, found.corruptions) == (2000, ("fog", "contrast"))
    for model in found.models:
        clean = Run(folder / "labeled").cell(model.name, "clean", 0)
        right = clean.prediction == clean.target
        for cell in model.cells:
            record = Run(folder / "stream").cell(model.name, *vars(cell.cell).values())
            assert cell.images == 100
            assert cell.error is None
            for name, estimator in (
                ("atc", average_thresholded_confidence),
                ("doc", difference_of_confidences),
            ):
                assert cell.estimates[name].value == pytest.approx(
                    estimator(clean.confidence, right, record.confidence), abs=1e-6
                )
    source, adapted = (model.cells[0] for model in found.models)
    assert "disagreement" not in source.estimates
    assert adapted.cell == CLEAN
    first, other = (Run(folder / "stream").cell(m, "clean", 0) for m in ("source", "BN"))
    assert adapted.estimates["disagreement"].value == pytest.approx(
        np.mean(first.prediction != other.prediction)
    )


def test_the_interval_adds_chance_and_the_misses_seen_with_labels(folder):
    [source, _] = estimate_stream(folder / "stream", folder / "labeled").models
    [entry] = [
        entry
        for entry in Run(folder / "labeled").scores.models[0].detail["estimators"]
        if entry["name"] == "doc"
    ]
    assert source.quality["doc"].root_mean_square == pytest.approx(entry["root_mean_square"])
    confidence = Run(folder / "stream").cell("source", "clean", 0).confidence
    chance = stats.bootstrap(
        (confidence,), np.mean, method="percentile", n_resamples=4000, random_state=1
    ).confidence_interval
    interval = source.cells[0].estimates["doc"]
    width = np.hypot(confidence.mean() - chance.low, 1.96 * entry["root_mean_square"])
    assert interval.high - interval.value == pytest.approx(width, abs=0.003)
    assert interval.value - interval.low == pytest.approx(width, abs=0.003)
    assert width > 1.05 * 1.96 * entry["root_mean_square"]


def test_the_best_estimator_is_the_one_that_was_off_least(folder):
    for model in estimate_stream(folder / "stream", folder / "labeled").models:
        spreads = {name: quality.root_mean_square for name, quality in model.quality.items()}
        assert spreads[model.best] == min(spreads.values())
        scores = Run(folder / "labeled").scores
        [cells] = [m.cells for m in scores.models if m.name == model.name]
        assert model.max_error == pytest.approx(max(c.figures["error"].value for c in cells))


def test_with_labels_the_truth_stands_beside_and_is_not_used(folder, tmp_path):
    tables = draw_tables(100, seed=1, cells=[FOG], hope=0.006)
    write_run(tmp_path / "labeled", tables)
    known = estimate_stream(tmp_path / "labeled", folder / "labeled")
    blind = estimate_stream(folder / "stream", folder / "labeled")
    for these, those in zip(known.models, blind.models, strict=True):
        for cell, other in zip(these.cells, those.cells, strict=True):
            assert cell.estimates == other.estimates
            assert cell.error == pytest.approx(error_of(tables[these.name][cell.cell]))


def test_a_stream_image_that_could_not_be_read_counts_nowhere(folder, tmp_path):
    tables = draw_tables(50, seed=2, models=("source",), labeled=False)
    record = tables["source"][CLEAN]
    record.error[0], record.prediction[0], record.confidence[0] = "torn", -1, np.nan
    write_run(tmp_path / "stream", tables)
    [model] = estimate_stream(tmp_path / "stream", folder / "labeled").models
    clean = Run(folder / "labeled").cell("source", "clean", 0)
    assert model.cells[0].images == 49
    assert model.cells[0].estimates["atc"].value == pytest.approx(
        average_thresholded_confidence(
            clean.confidence, clean.prediction == clean.target, record.confidence[1:]
        )
    )


def test_another_name_or_device_is_the_same_model(folder, tmp_path):
    tables = draw_tables(50, cells=[FOG], labeled=False, models=("source",))
    other = {**MODEL, "name": "mine", "device": "cuda"}
    write_run(tmp_path / "stream", tables, model=other)
    assert estimate_stream(tmp_path / "stream", folder / "labeled").models[0].name == "source"
    # Nothing but its name tells a function from another.
    write_run(tmp_path / "nameless", tables, model={**other, "fingerprint": "unknown"})
    write_run(
        tmp_path / "labeled", draw_tables(50, models=("source",)),
        model={**MODEL, "fingerprint": "unknown"},
    )  # fmt: skip
    with pytest.raises(RunMismatchError, match="differ in the name"):
        estimate_stream(tmp_path / "nameless", tmp_path / "labeled")


def test_an_adapter_is_known_by_its_settings_and_not_by_its_name(folder, tmp_path):
    tables = draw_tables(50, cells=[FOG], labeled=False)
    tables["mine"] = tables.pop("BN")
    write_run(tmp_path / "stream", tables, adapters={"mine": ADAPTERS["BN"]})
    names = [
        model.name for model in estimate_stream(tmp_path / "stream", folder / "labeled").models
    ]
    assert names == ["source", "mine"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {**MODEL, "fingerprint": "0" * 16}}, "differ in the fingerprint"),
        ({"model": {**MODEL, "preprocess": {"size": [9, 9]}}}, "differ in the preprocess"),
        ({"adapters": {"BN": {"adapter": "batchnorm", "prior": 0}}}, "no adapter like 'BN'"),
        ({"batch_size": 8}, "no adapter like 'BN'"),
    ],
)
def test_another_model_cannot_calibrate(folder, tmp_path, changes, says):
    tables = draw_tables(50, cells=[FOG], labeled=False)
    write_run(tmp_path / "stream", tables, **changes)
    with pytest.raises(RunMismatchError, match=says):
        estimate_stream(tmp_path / "stream", folder / "labeled")


def test_a_run_that_cannot_calibrate(folder, tmp_path):
    with pytest.raises(InputError, match="its images have no labels"):
        estimate_stream(folder / "stream", folder / "stream")
    without = copy.deepcopy(draw_tables(50))
    for table in without.values():
        del table[CLEAN]
    write_run(tmp_path / "without", without)
    with pytest.raises(InputError, match="it has no clean cell"):
        estimate_stream(folder / "stream", tmp_path / "without")
    write_run(tmp_path / "one", draw_tables(1))
    with pytest.raises(InputError, match="too few readable images"):
        estimate_stream(folder / "stream", tmp_path / "one")
    with pytest.raises(InputError, match="holds no run"):
        estimate_stream(folder / "stream", tmp_path)


def test_a_run_that_is_not_finished_or_damaged(folder, tmp_path):
    shutil.copytree(folder / "labeled", tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    (tmp_path / "run" / "scores.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        estimate_stream(folder / "stream", tmp_path / "run")
    written = "not what a run writes"
    for damage, says in (
        ("models", "at least one"),
        ("name", r"models\[1\].*name"),
        ("path", written),
    ):
        damaged = copy.deepcopy(scores)
        if damage == "models":
            damaged["models"] = []
        elif damage == "name":
            del damaged["models"][1]["name"]
        else:
            elsewhere = json.dumps("../../labeled/records/BN")
            damaged = json.loads(json.dumps(scores).replace('"BN"', elsewhere))
        (tmp_path / "run" / "scores.json").write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(BrokenFileError, match=says):
            estimate_stream(folder / "stream", tmp_path / "run")
    (tmp_path / "run" / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    (tmp_path / "run" / "records" / "BN" / "fog-3.parquet").write_bytes(b"torn")
    with pytest.raises(BrokenFileError, match="not a readable record table"):
        estimate_stream(folder / "stream", tmp_path / "run")


# ---------------------------------------------------------------- on the page


def test_the_page_has_the_estimates(folder, tmp_path):
    from shiftproof.report import write_report

    page = write_report(
        folder / "stream", tmp_path / "page.html", calibration=folder / "labeled"
    ).read_text(encoding="utf-8")
    [source, _] = estimate_stream(folder / "stream", folder / "labeled").models
    interval = source.cells[0].estimates[source.best]
    half = max(interval.high - interval.value, interval.value - interval.low)
    belief = (
        f"{100 * (1 - interval.value):.0f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{100 * half:.0f}"
    )
    assert (
        f"source is estimated to be right on {belief}\N{NO-BREAK SPACE}% of your original images"
        in page
    )


def test_the_command_line_takes_a_calibration(folder, tmp_path, capsys):
    from shiftproof.cli import run

    words = ["report", str(folder / "stream"), "--calibration", str(folder / "labeled")]
    assert run([*words, "--out", str(tmp_path / "page.html")]) == 0
    assert 'id="estimate"' in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert run([*words, "--table", "csv"]) == 2
    assert "leave out --table" in " ".join(capsys.readouterr().err.split())
