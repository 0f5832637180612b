"""Runs that calibrate on held-out images: what is kept, what is measured of it, and what is refused."""

import json
import shutil

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

from shiftproof import bench, cli
from shiftproof.adapt import make_adapter
from shiftproof.bench import Classification, parse_protocol
from shiftproof.bench.cells.stream import list_episodes
from shiftproof.bench.tasks.classification.calibrators import draw_uniforms
from shiftproof.data import ImageArrays
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.metrics import brier_scores, expected_calibration_error
from shiftproof.report import describe_trust, write_report
from shiftproof.runs import load_run
from shiftproof.runs.records.classification import CellRecords, read_cell, write_cell
from shiftproof.runs.records.logits import read_logits
from shiftproof.types import CLEAN, Cell
from support.small_networks import classifier
from support.tiny import make_model, write_photos

FROST = Cell("frost", 5)
SHIFTS = {"corruptions": ["frost"], "severities": [5], "workers": 0, "show_progress": False}


def noisy_images(count, seed=0):
    """Squares of one color whose strength leaves some answers wrong, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.normal(120, 25, (count, 24, 24, 3))
    images[np.arange(count), ..., labels] += rng.normal(5, 8, count)[:, None, None]
    return ImageArrays(
        list(np.clip(images, 0, 255).astype(np.uint8)), labels, make_model().classes,
        ids=[f"{seed}-{number:03}" for number in range(count)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = make_model()
    return bench.run(
        {"source": model, "twin": model}, noisy_images(240), task=Classification(calibrate=0.5),
        out=tmp_path_factory.mktemp("trust") / "run", **SHIFTS,
    )  # fmt: skip


def test_held_out_images_are_not_measured(run):
    held = read_logits(run.path / "calibration" / "records" / "source" / "clean.parquet")
    measured = run.cell("source", "clean", 0).ids
    assert len(held.ids) == len(measured) == 120
    assert not set(held.ids) & set(measured)
    assert np.bincount(held.target).tolist() == [40, 40, 40]
    assert run.settings["calibration"]["coverage"] == 0.9


def test_the_fitted_temperature_is_that_of_the_held_out_logits(run):
    held = read_logits(run.path / "calibration" / "records" / "source" / "clean.parquet")
    fitted = run.trust()["source"].calibration

    def loss(temperature):
        chances = softmax(held.logits / temperature, axis=1)
        return -np.log(chances[np.arange(120), held.target]).mean()

    grid = np.geomspace(0.02, 5, 4000)
    best = grid[np.argmin([loss(one) for one in grid])]
    assert fitted.temperature == pytest.approx(best, rel=2e-3)
    assert (fitted.images, fitted.coverage, fitted.absent) == (120, 0.9, 0)


def test_records_hold_what_the_model_says_at_its_temperature(run):
    records = run.cell("source", "frost", 5)
    fitted = run.trust()["source"].calibration
    model, images = make_model(), noisy_images(240)
    # The clean cell, whose images are at hand.
    clean = run.cell("source", "clean", 0)
    chosen = [sample for sample in images.samples if sample.id in set(clean.ids)]
    logits = model.predict(np.stack([images.read(one) for one in chosen]))
    chances = softmax(logits / fitted.temperature, axis=1)
    np.testing.assert_allclose(clean.calibrated.confidence, chances.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(clean.brier, brier_scores(softmax(logits, 1), clean.target), 1e-5)
    lac = 1 - chances <= fitted.thresholds["lac"]
    assert clean.calibrated.sizes[:, 0].tolist() == lac.sum(axis=1).tolist()
    assert clean.calibrated.covers[:, 0].tolist() == lac[np.arange(120), clean.target].tolist()
    assert records.calibrated.sizes.min() >= 0


def test_figures_are_those_of_the_records(run):
    trust = run.trust()["source"]
    assert [str(one.cell) for one in trust.cells] == ["clean", "frost-5"]
    for cell, records in ((trust.clean, run.cell("source", "clean", 0)),
                          (trust.corrupted[0], run.cell("source", "frost", 5))):  # fmt: skip
        right = records.prediction == records.target
        scaled = records.calibrated
        assert cell.figures["calibration_error"].value == pytest.approx(
            expected_calibration_error(records.confidence, right)
        )
        assert cell.scaled["calibration_error"].value == pytest.approx(
            expected_calibration_error(scaled.confidence, right)
        )
        assert cell.scaled["brier"].value == pytest.approx(scaled.brier.mean())
        change = (scaled.loss - records.loss).astype(float)
        assert cell.change["loss"].value == pytest.approx(change.mean())
        assert cell.change["loss"].low < change.mean() < cell.change["loss"].high
        surest = np.argsort(-records.confidence)[:96]  # 0.8 x 120
        assert cell.figures["risk80"].value == pytest.approx(1 - right[surest].mean())
        for place, name in enumerate(("lac", "aps", "raps")):
            assert cell.sets[name].coverage.value == pytest.approx(scaled.covers[:, place].mean())
            assert cell.sets[name].size.value == pytest.approx(scaled.sizes[:, place].mean())


def test_a_model_that_is_the_same_differs_by_nothing(run):
    trust = run.trust()
    assert trust["source"].cells[0].against == {}
    for figure in trust["twin"].cells[0].against.values():
        assert figure.is_zero
    assert trust["twin"].mean.figures == trust["twin"].corrupted[0].figures


def test_lost_coverage_is_said_loudly(run):
    trust = run.trust()["source"]
    assert trust.find_lost("lac") == trust.corrupted  # white ice hides the colors
    lines, lost = describe_trust(run)
    assert any("temperature" in line for line in lines)
    assert lost[0].startswith("source: coverage is lost. Sets with a target coverage of 90.0")
    page = write_report(run.path).read_text(encoding="utf-8")
    for words in ("coverage is lost", "Do prediction sets reach their target coverage?", "E-AURC",
                  "Is it right when it is confident?", "Is it calibrated after"):  # fmt: skip
        assert words in page


def test_a_run_goes_on_with_what_was_fitted(run, tmp_path):
    model = make_model()
    given = {"models": {"source": model, "twin": model}, "out": run.path, **SHIFTS}
    before = (run.path / "scores.json").read_bytes()
    for path in (run.path / "records").rglob("frost-5.parquet"):
        path.unlink()
    again = bench.run(data=noisy_images(240), task=Classification(calibrate=0.5), **given)
    assert (again.path / "scores.json").read_bytes() == before


def test_other_images_can_be_held_out(tmp_path):
    write_photos(tmp_path / "photos", per_class=4)
    found = bench.run(
        make_model(), tmp_path / "photos", task=Classification(calibrate=noisy_images(60, seed=1)),
        out=tmp_path / "run", **SHIFTS,
    )  # fmt: skip
    assert found.trust()["source"].calibration.images == 60
    assert len(found.cell("source", "clean", 0)) == 12


def test_a_run_that_calibrates_nothing_measures_what_needs_no_calibration(tmp_path):
    found = bench.run(make_model(), noisy_images(60), out=tmp_path / "run", **SHIFTS)
    trust = found.trust()["source"]
    assert trust.calibration is None
    assert (trust.clean.scaled, trust.clean.sets) == ({}, {})
    assert trust.clean.figures["aurc"].value > 0
    assert not (tmp_path / "run" / "calibration").exists()


def test_an_adapted_model_is_calibrated_on_what_it_says_itself(tmp_path):
    """From a reset on, in batches of the run and in its order: as it sees the clean cell."""
    model = classifier()
    rng = np.random.default_rng(3)
    images = list(rng.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8))
    data = ImageArrays(images, rng.integers(0, 5, 40), model.classes)
    found = bench.run(
        model, data, task=Classification(calibrate=0.5), adapters={"BN": "batchnorm:prior=0"},
        batch_size=10, out=tmp_path / "run", **SHIFTS,
    )  # fmt: skip
    held = {
        name: read_logits(found.path / "calibration" / "records" / name / "clean.parquet")
        for name in ("source", "BN")
    }
    samples = [sample for sample in data.samples if sample.id in held["BN"].ids]
    [stream] = list_episodes([CLEAN], samples, parse_protocol("online"), seed=0)
    adapter = make_adapter("batchnorm:prior=0", model)
    expected = np.empty_like(held["BN"].logits)
    for rows in np.split(stream.visits[0].rows, 2):
        expected[rows] = adapter.predict(np.stack([data.read(samples[row]) for row in rows]))
    np.testing.assert_allclose(held["BN"].logits, expected, atol=1e-4)
    assert abs(held["BN"].logits - held["source"].logits).max() > 0.1
    thresholds = [found.trust()[name].calibration.thresholds["lac"] for name in held]
    assert thresholds[0] != thresholds[1]


def test_one_number_and_calibration_are_refused_together(tmp_path, capsys):
    given = ["--model", "demo", "--data", "demo", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", *given, "--calibrate", "fraction=0.5", "--budget", "10min"])
    assert "--budget measures one number" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("asked", "coverage", "sentence"),
    [
        ("fraction=0.1", 0.9, "at least 9 held-out images for sets .* 90 % .* got 6"),
        ("fraction=0", 0.9, "between 0 and 1"),
        ("fraction=much", 0.9, "between 0 and 1"),
        ("0.2", 0.9, "write fraction=0.2"),
        (0.999, 0.9, "none is left to measure"),
        (0.5, 1.0, "coverage between 0 and 1"),
        (noisy_images(60), 0.9, "60 of 60 held-out images .* are measured"),
        (ImageArrays([np.zeros((9, 9, 3), np.uint8)]), 0.9, "has no labels"),
    ],
)
def test_images_that_cannot_be_held_out_are_refused(asked, coverage, sentence, tmp_path):
    task = Classification(calibrate=asked, coverage=coverage)
    with pytest.raises(InputError, match=sentence):
        bench.run(make_model(), noisy_images(60), task=task, out=tmp_path / "run", **SHIFTS)
    assert not (tmp_path / "run").exists()


def test_images_without_labels_calibrate_nothing(tmp_path):
    data = ImageArrays([np.zeros((9, 9, 3), np.uint8)] * 3)
    with pytest.raises(InputError, match="holds what a model says against labels"):
        bench.run(make_model(), data, task=Classification(calibrate=0.5), out=tmp_path / "r",
                  **SHIFTS)  # fmt: skip


def test_a_class_that_never_occurs_and_a_temperature_that_does_not_converge_are_told(tmp_path):
    strong = np.zeros((40, 24, 24, 3), np.uint8)
    strong[np.arange(40), ..., np.arange(40) % 2] = 200
    images = strong + np.arange(40, dtype=np.uint8)[:, None, None, None]
    data = ImageArrays(list(images), np.arange(40) % 2, make_model().classes)
    found = bench.run(
        make_model(), data, task=Classification(calibrate=0.5), out=tmp_path / "r", **SHIFTS
    )
    fitted = found.trust()["source"].calibration
    assert (fitted.temperature, fitted.absent) == (None, 1)
    clean = found.trust()["source"].clean
    assert all(figure.is_zero for figure in clean.change.values())
    lines = "\n".join(describe_trust(found)[0])
    assert "source: its confidences are not changed: No temperature fits" in lines
    assert "1 class has no held-out image" in lines
    assert "20 held-out images are few" in lines


# ---------------------------------------------------------------- records


def plain_records():
    return CellRecords(
        ids=["a", "b"],
        position=np.array([0, 1], np.int32),
        target=np.array([1, 0], np.int32),
        prediction=np.array([1, -1], np.int32),
        confidence=np.array([0.5, np.nan], np.float32),
        loss=np.array([0.1, np.nan], np.float32),
        top=np.array([[1, 2, 3, 4, 5], [-1] * 5], np.int32),
        error=[None, "b: broken"],
    )


def test_tables_from_before_are_read(tmp_path):
    write_cell(tmp_path / "old.parquet", plain_records())
    back = read_cell(tmp_path / "old.parquet")
    assert (back.brier, back.calibrated) == (None, None)
    assert back.ids == ["a", "b"]


def test_what_was_written_comes_back(run, tmp_path):
    records = run.cell("source", "frost", 5)
    write_cell(tmp_path / "a.parquet", records)
    back = read_cell(tmp_path / "a.parquet")
    np.testing.assert_array_equal(back.brier, records.brier)
    for name in ("confidence", "loss", "brier", "sizes", "covers"):
        np.testing.assert_array_equal(
            getattr(back.calibrated, name), getattr(records.calibrated, name)
        )


def test_a_table_with_half_of_the_columns_is_refused(run, tmp_path):
    table = pq.read_table(run.folder.records_file("source", FROST)).drop_columns(["raps_covers"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BrokenFileError, match="expected the columns"):
        read_cell(tmp_path / "a.parquet")


def test_scores_from_before_have_no_trust(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "old")
    scores = json.loads((run.path / "scores.json").read_text())
    for model in scores["models"]:
        del model["detail"]["trust"]
    (tmp_path / "old" / "scores.json").write_text(json.dumps(scores))
    assert load_run(tmp_path / "old").trust() == {}


def test_each_image_has_one_random_number_of_its_own():
    numbers = draw_uniforms([f"{name}" for name in range(300)])
    assert draw_uniforms(["7"]) == numbers[7]
    assert len(set(numbers.tolist())) == 300
    assert abs(numbers.mean() - 0.5) < 0.06


# ---------------------------------------------------------------- answers made elsewhere


def write_answers(folder, data, *, logits):
    model = make_model()
    images = np.stack([data.read(one) for one in data.samples])
    names = np.array([one.id for one in data.samples])
    labels = np.array([one.label for one in data.samples])
    for place, pixels in (
        ("clean", images),
        ("frost-5", np.clip(images + np.array([40, 0, 0]), 0, 255).astype(np.uint8)),
    ):
        folder.mkdir(exist_ok=True)
        answers = model.predict(pixels)
        if logits:
            np.savez(folder / f"{place}.npz", logits=answers, images=names, labels=labels)
        else:
            rows = zip(names, answers.argmax(axis=1), labels, strict=True)
            text = "\n".join(["image,top1,label", *(",".join(map(str, row)) for row in rows)])
            (folder / f"{place}.csv").write_text(text)
    return folder


def test_answers_made_elsewhere_are_calibrated_on_a_share_of_their_images(tmp_path, run):
    answers = write_answers(tmp_path / "answers", noisy_images(240), logits=True)
    found = bench.score(answers, out=tmp_path / "run", calibrate="fraction=0.5", workers=0,
                        show_progress=False)  # fmt: skip
    own = run.trust()["source"]
    theirs = found.trust()["classifier"]
    assert theirs.calibration.temperature == pytest.approx(own.calibration.temperature, rel=1e-6)
    assert msgspec.to_builtins(theirs.clean.sets) == msgspec.to_builtins(own.clean.sets)
    assert len(found.cell("classifier", "clean", 0)) == 120


def test_the_best_classes_alone_cannot_be_calibrated(tmp_path):
    answers = write_answers(tmp_path / "answers", noisy_images(60), logits=False)
    with pytest.raises(InputError, match="has the best classes alone, and to calibrate takes"):
        bench.score(answers, out=tmp_path / "run", calibrate=0.5, workers=0, show_progress=False)
    assert not (tmp_path / "run").exists()


def test_the_best_classes_alone_have_what_they_tell(tmp_path):
    answers = write_answers(tmp_path / "answers", noisy_images(60), logits=False)
    found = bench.score(answers, out=tmp_path / "run", workers=0, show_progress=False)
    figures = found.trust()["classifier"].clean.figures
    assert set(figures.values()) == {None}


def test_answers_of_detectors_cannot_be_calibrated(tmp_path):
    (tmp_path / "clean.json").write_text("[]")
    with pytest.raises(InputError, match="Only classifiers can be calibrated"):
        bench.score(tmp_path, out=tmp_path / "run", calibrate=0.5)


def test_the_command_line_shows_what_holds_where_it_is_asked(tmp_path, capsys):
    answers = write_answers(tmp_path / "answers", noisy_images(240), logits=True)
    given = ["score", "--predictions", str(answers), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="0"):
        cli.main([*given, "--calibrate", "fraction=0.5", "--workers", "0"])
    said = capsys.readouterr()
    assert "classifier: temperature" in said.out
    assert "coverage is lost" in said.err.replace("\n", " ")
    with pytest.raises(SystemExit, match="0"):
        cli.main([*given[:-1], str(tmp_path / "plain"), "--workers", "0"])
    assert "temperature" not in capsys.readouterr().out
