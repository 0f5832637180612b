"""Runs over the sequences of ImageNet-P: records, going on, rates and their intervals."""

import json

import numpy as np
import pytest

from shiftproof.bench import measure_stability
from shiftproof.bench.other_runs.stability import DISTANCE, FLIP, FLIP_RATE, MEAN
from shiftproof.errors import InputError, RunMismatchError, UnknownNameError
from shiftproof.models import Classifier, Preprocess
from support.tiny import write_photos

NAMES = ("translate", "brightness", "gaussian_noise")


def make_classifier(sharpness, seen=None):
    """Six classes by the mean brightness of the left half; every call is counted in ``seen``."""

    def module(batch):
        if seen is not None:
            seen.append(len(batch))
        level = batch[:, :, :, : batch.shape[3] // 2].mean(axis=(1, 2, 3))
        centres = np.linspace(-1.5, 1.5, 6)
        return (-sharpness * (level[:, None] - centres) ** 2).astype(np.float32)

    return Classifier(module, Preprocess((28, 28), 32), [f"c{n}" for n in range(6)], name="levels")


def make_constant():
    def module(batch):
        return np.tile(np.arange(6, dtype=np.float32), (len(batch), 1))

    return Classifier(
        module, Preprocess((28, 28), 32), [f"c{n}" for n in range(6)], name="constant"
    )


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", per_class=3, side=40)
    return tmp_path / "photos"


def test_a_run_has_figures_with_intervals_and_goes_on(photos, tmp_path):
    seen = []
    models = {"levels": make_classifier(1.0, seen), "constant": make_constant()}
    out = tmp_path / "run"
    scores = measure_stability(
        models, photos, out=out, perturbations=NAMES, reference="levels", show_progress=False
    )
    levels, constant = scores.figures["levels"], scores.figures["constant"]
    assert set(levels) == {*NAMES, MEAN}
    assert constant[MEAN][FLIP].value == constant[MEAN][DISTANCE].value == 0
    assert levels["brightness"][FLIP].value > 0
    assert levels["brightness"][FLIP].low <= levels["brightness"][FLIP].value
    # A model is as steady as itself, in every resample.
    assert levels["brightness"][FLIP_RATE].low == levels["brightness"][FLIP_RATE].high == 1
    written = json.loads((out / "scores.json").read_text())
    assert written["models"]["levels"]["brightness"][FLIP]["value"] == pytest.approx(
        levels["brightness"][FLIP].value
    )

    (out / "records" / "levels" / "translate.parquet").unlink()
    before = (out / "scores.json").read_bytes()
    seen.clear()
    measure_stability(
        models, photos, out=out, perturbations=NAMES, reference="levels", show_progress=False
    )
    assert seen == [41] * scores.images
    assert (out / "scores.json").read_bytes() == before
    with pytest.raises(RunMismatchError, match="difficulty"):
        measure_stability(
            models, photos, out=out, perturbations=NAMES, reference="levels", difficulty=2
        )


def test_an_image_that_cannot_be_read_counts_for_no_model(photos, tmp_path):
    whole = measure_stability(
        make_constant(), photos, out=tmp_path / "whole", perturbations=["tilt"], show_progress=False
    )
    next(photos.rglob("*.png")).write_bytes(b"no picture")
    scores = measure_stability(
        make_constant(), photos, out=tmp_path / "run", perturbations=["tilt"], show_progress=False
    )
    assert scores.images == whole.images - 1
    assert len(scores.broken) == 1


def test_what_cannot_be_measured_is_refused_before_anything_is_written(photos, tmp_path):
    out = tmp_path / "run"
    for changes, error, message in (
        ({"perturbations": ["tilts"]}, UnknownNameError, "Did you mean 'tilt'"),
        ({"perturbations": []}, InputError, "each once"),
        ({"difficulty": 0}, InputError, "1, 2 or 3"),
        ({"reference": "alexnet"}, UnknownNameError, "alexnet"),
    ):
        with pytest.raises(error, match=message):
            measure_stability(make_constant(), photos, out=out, **changes)
    one = Classifier(lambda b: np.zeros((len(b), 1), np.float32), Preprocess((8, 8), 8), ["a"])
    with pytest.raises(InputError, match="one class only"):
        measure_stability(one, photos, out=out)
    (tmp_path / "none.csv").write_text("path\nnothing.png\n")
    with pytest.raises(InputError, match=r"None of the images of none\.csv can be read"):
        measure_stability(make_constant(), tmp_path / "none.csv", out=out)
    assert not out.exists()


def test_two_classes_flip_and_have_no_top5_distance(photos, tmp_path):
    def alternate(batch):
        return np.eye(2, dtype=np.float32)[np.arange(len(batch)) % 2]

    model = Classifier(alternate, Preprocess((8, 8), 8), ["a", "b"])
    scores = measure_stability(
        model, photos, out=tmp_path / "run", perturbations=["brightness"], show_progress=False
    )
    # It gets the frames of an image together, and answers the other class in each.
    assert scores.figures["source"]["brightness"][FLIP].value == 1
    assert DISTANCE not in scores.figures["source"]["brightness"]
