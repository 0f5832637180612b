import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from shiftproof import Classifier, Preprocess, bench, compare
from shiftproof.adapt import BatchNorm
from shiftproof.data import open_data
from shiftproof.errors import InputError, ModelError
from shiftproof.report import write_report
from support.learner import Learner
from support.tiny import write_photos

GRID = {"corruptions": ["gaussian_noise", "contrast"], "severities": [1, 5]}
CELLS = [(c, s) for c in GRID["corruptions"] for s in GRID["severities"]]


def small_network():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, stride=2),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 3),
    )
    with torch.no_grad():
        for _ in range(20):
            module(torch.randn(16, 3, 24, 24) * 3)
    return Classifier(module, Preprocess((24, 24), 24), ["red", "green", "blue"], name="small")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    photos = write_photos(folder / "photos", per_class=30)
    model = small_network()
    data = open_data(photos, classes=model.classes)
    return bench.run(
        model, data, adapters={"mean 0": BatchNorm(model, prior=0), "mixed": "batchnorm:prior=16"},
        out=folder / "run", workers=0, batch_size=32, **GRID,
    )  # fmt: skip


def per_image_errors(run, model):
    records = [run.cell(model, *cell) for cell in CELLS]
    return np.stack([r.prediction != r.target for r in records]).mean(axis=0)


def test_an_interval_is_that_of_a_bootstrap_over_images(finished):
    errors = per_image_errors(finished, "source")
    figure = finished.scores.models[0].summary["mean"]
    other = stats.bootstrap(
        (errors,), np.mean, method="percentile", n_resamples=4000, random_state=1
    ).confidence_interval
    assert figure.value == pytest.approx(errors.mean())
    assert figure.low == pytest.approx(other.low, abs=0.02)
    assert figure.high == pytest.approx(other.high, abs=0.02)
    assert figure.high - figure.low > 0.05


def test_the_interval_of_a_difference_is_paired(finished):
    source, adapted = per_image_errors(finished, "source"), per_image_errors(finished, "mixed")
    [difference] = [d for d in finished.scores.differences if d.name == "mixed"]
    figure = difference.summary["mean"]
    paired = stats.bootstrap(
        (adapted - source,), np.mean, method="percentile", n_resamples=4000, random_state=1
    ).confidence_interval
    assert difference.against == "source"
    assert figure.value == pytest.approx((adapted - source).mean())
    assert figure.low == pytest.approx(paired.low, abs=0.02)
    assert figure.high == pytest.approx(paired.high, abs=0.02)
    # Taken as two independent groups, the interval would be wider by far.
    unpaired = np.hypot(source.std(), adapted.std()) * 2 * 1.96 / np.sqrt(len(source))
    assert figure.high - figure.low < 0.8 * unpaired


def test_every_adapter_is_a_model_of_the_run_beside_the_source(finished):
    assert [m.name for m in finished.scores.models] == ["source", "mean-0", "mixed"]
    info = finished.folder.info()["settings"]["adapters"]
    assert info["mean-0"]["prior"] == 0
    assert info["mixed"]["prior"] == 16
    assert "classifier" not in info["mixed"]


def test_an_adapter_sees_the_batches_of_the_stream_and_is_reset_before_each_cell(finished):
    """Redo one cell by hand: the same images, in the recorded order, in batches of 32."""
    run = finished
    records = run.cell("mean-0", "contrast", 5)
    model = small_network()
    data = open_data(run.path.parent / "photos", classes=model.classes)
    from shiftproof import corrupt

    order = np.argsort(records.position)
    images = [
        corrupt(model.preprocess.geometry(data.read(data.samples[i])), "contrast", severity=5,
                key=data.samples[i].id)
        for i in order
    ]  # fmt: skip
    module = model.module
    logits = []
    for start in range(0, len(images), 32):
        batch = model.preprocess.normalize(np.stack(images[start : start + 32]))
        # N = 0 is batch norm in training mode, applied to the part before the pooling.
        conv, norm, *rest = list(module)
        with torch.no_grad():
            hidden = torch.nn.functional.batch_norm(
                conv(torch.from_numpy(batch)), None, None, norm.weight, norm.bias, training=True
            )
            for layer in rest:
                hidden = layer(hidden)
        logits.append(hidden.numpy())
    prediction = np.concatenate(logits).argmax(axis=1)
    np.testing.assert_array_equal(records.prediction[order], prediction)


def test_the_expected_calibration_error_over_the_records(finished):
    records = finished.cell("source", "gaussian_noise", 5)
    right = (records.prediction == records.target).astype(float)
    total = 0.0
    for low in range(15):
        inside = (records.confidence > low / 15) & (records.confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - records.confidence[inside].mean())
    cell = finished.scores.models[0].cells[1]
    assert (cell.corruption, cell.severity) == ("gaussian_noise", 5)
    assert cell.figures["calibration_error"].value == pytest.approx(total, abs=1e-6)


def test_each_corrupted_cell_says_what_would_have_been_guessed_without_labels(finished):
    for model in finished.scores.models:
        names = [entry["name"] for entry in model.detail["estimators"]]
        assert names == ["atc", "doc"] + ["disagreement"] * (model.name != "source")
        assert list(model.detail["estimates"]) == [str(cell.cell) for cell in model.cells]
        for guesses in model.detail["estimates"].values():
            assert list(guesses) == names
            assert all(0 <= guess <= 1 for guess in guesses.values())


def test_the_worst_classes_come_first(finished):
    rows = finished.scores.models[0].detail["classes"]
    assert {row["name"] for row in rows} == {"red", "green", "blue"}
    assert [row["error"] for row in rows] == sorted((row["error"] for row in rows), reverse=True)
    assert {row["images"] for row in rows} == {30}


def test_an_image_that_cannot_be_read_is_none_of_its_class(tmp_path):
    photos = write_photos(tmp_path / "photos")
    (photos / "red" / "0.png").write_bytes(b"no image")
    model = small_network()
    data = open_data(photos, classes=model.classes)
    run = bench.run(model, data, out=tmp_path / "run", workers=0, **GRID)
    rows = run.scores.models[0].detail["classes"]
    assert {row["name"]: row["images"] for row in rows} == {"red": 3, "green": 4, "blue": 4}


@pytest.mark.parametrize(
    ("adapters", "error", "message"),
    [
        ({"a b": "batchnorm", "a-b": "batchnorm"}, InputError, "Two models of the run are called"),
        ({"source": "batchnorm"}, InputError, "Two models of the run are called 'source'"),
        ([lambda model: model], ModelError, "Expected an adapter"),
        ("batchnorm", InputError, r"write \['batchnorm'\]"),
    ],
)
def test_adapters_that_cannot_be_used(finished, tmp_path, adapters, error, message):
    model = small_network()
    data = open_data(finished.path.parent / "photos", classes=model.classes)
    with pytest.raises(error, match=message):
        bench.run(model, data, adapters=adapters, out=tmp_path / "run", workers=0, **GRID)
    assert not (tmp_path / "run").exists()


def test_an_answer_that_is_not_a_number_counts_as_wrong(finished, tmp_path):
    """A model whose answer is not a number is wrong there, and nothing else is touched."""

    def sometimes_nothing(batch):
        logits = np.ascontiguousarray(batch.mean(axis=(2, 3)), dtype=np.float32)
        logits[0] = np.nan
        return logits

    model = Classifier(sometimes_nothing, Preprocess((24, 24), 24), ["red", "green", "blue"])
    data = open_data(finished.path.parent / "photos", classes=model.classes)
    run = bench.run(model, data, out=tmp_path / "run", workers=0, batch_size=30, **GRID)
    records = run.cell("source", "contrast", 1)
    assert int((records.prediction < 0).sum()) == 3
    assert np.isnan(records.confidence[records.prediction < 0]).all()
    cell = run.scores.models[0].cells[2]
    assert cell.figures["error"].value == pytest.approx(
        np.mean(records.prediction != records.target)
    )
    assert cell.figures["loss"] is None
    assert cell.figures["calibration_error"] is None


class Remembers(Learner):
    """Answers by the number of images it has seen since its last reset."""

    seen = 0

    def predict(self, images):
        logits = np.eye(3, dtype=np.float32)[[self.seen // 50] * len(images)]
        self.seen += len(images)
        return logits

    def reset(self):
        self.seen = 0


def test_what_an_adapter_learnt_in_one_cell_is_gone_in_the_next(finished, tmp_path):
    model = small_network()
    data = open_data(finished.path.parent / "photos", classes=model.classes)
    run = bench.run(
        model, data, adapters={"remembers": Remembers}, out=tmp_path / "run", workers=0,
        batch_size=50, **GRID,
    )  # fmt: skip
    for cell in [("clean", 0), *CELLS]:
        records = run.cell("remembers", *cell)
        np.testing.assert_array_equal(records.prediction, records.position // 50)


SIGNED_OR_ABOVE_ONE = {
    "loss", "ce", "mce", "relative_ce", "relative_mce", "rpc", "brier", "change", "against",
}  # fmt: skip


def test_every_interval_holds_its_figure_and_stays_in_its_range(finished):
    def figures(node):
        if isinstance(node, dict) and set(node) == {"value", "low", "high"}:
            yield node
        elif isinstance(node, dict):
            for key, child in node.items():
                if key not in SIGNED_OR_ABOVE_ONE:
                    yield from figures(child)
        elif isinstance(node, list):
            for child in node:
                yield from figures(child)

    scores = json.loads((finished.path / "scores.json").read_text())
    found = list(figures(scores["models"]))
    assert len(found) > 30
    for figure in found:
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1


def test_the_report_can_be_written_from_the_run(finished):
    from shiftproof.report import table_csv, table_latex, write_report

    page = write_report(finished.path)
    text = page.read_text(encoding="utf-8")
    error = finished.scores.models[0].summary["mean"].value
    assert f"{100 * error:.1f}" in text
    assert "gaussian_noise" in table_csv(finished.scores)
    assert r"\toprule" in table_latex(finished.scores)


def test_a_ranking_holds_every_pair_with_the_interval_of_a_bootstrap_over_images(finished):
    ranking = finished.scores.ranking
    assert ranking.headline == "mean"
    values = [per_image_errors(finished, place.name).mean() for place in ranking.places]
    assert values == sorted(values)
    assert len(ranking.pairs) == 3
    for pair in ranking.pairs:
        paired = per_image_errors(finished, pair.name) - per_image_errors(finished, pair.against)
        expected = stats.bootstrap(
            (paired,), np.mean, method="percentile", n_resamples=4000, random_state=1
        ).confidence_interval
        assert pair.difference.value == pytest.approx(paired.mean())
        assert pair.difference.low == pytest.approx(expected.low, abs=0.02)
        assert pair.difference.high == pytest.approx(expected.high, abs=0.02)


def test_one_image_makes_no_difference_significant(tmp_path):
    """All resamples of one image are equal, so two models differed with p = 0.002."""
    folder = tmp_path / "photos"
    (folder / "red").mkdir(parents=True)
    Image.fromarray(np.full((24, 24, 3), 9, np.uint8)).save(folder / "red" / "0.png")

    def say(number):
        return lambda batch: np.eye(3, dtype=np.float32)[np.full(len(batch), number)]

    right, wrong = (
        Classifier(say(number), Preprocess((24, 24), 24), ["red", "green", "blue"], name=name)
        for number, name in enumerate(("right", "wrong"))
    )
    run = bench.run(
        {"right": right, "wrong": wrong}, folder, out=tmp_path / "run", workers=0, **GRID
    )
    scores = run.scores
    [difference] = scores.differences
    assert difference.summary["mean"].value == 1
    assert difference.summary["mean"].bare
    assert scores.ranking.pairs[0].p is None
    assert all(figure.bare for figure in scores.models[1].of_cells("error").values())
    trust = scores.models[1].detail["trust"]
    assert all(figure["low"] is None for figure in trust["mean"]["figures"].values())
    page = write_report(run.path).read_text()
    assert "Only 1 image: there are no intervals" in page
    [check] = compare(run, run, model="wrong", baseline_model="right", fail_if="mean > +5").checks
    assert check.verdict == "unclear"
