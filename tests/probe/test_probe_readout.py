"""What is read out of vectors, against scikit-learn; and that no image is on both sides."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as ReferenceRidge
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shiftproof.probe.mlp import read_out_by_network
from shiftproof.probe.readout import PENALTIES, Ridge, assign_folds, read_out
from shiftproof.probe.records import Readings
from shiftproof.probe.summary import compute_terms, share_kept


def rows(width, images=15, versions=4, noise=0.3):
    rng = np.random.default_rng(width)
    features = rng.normal(3, rng.uniform(0.1, 5, width), (images, versions, width))
    values = features @ rng.normal(size=width) + 7 + noise * rng.normal(size=(images, versions))
    return features, values


def reference(features, values, train, test, penalty):
    fitted = make_pipeline(StandardScaler(), ReferenceRidge(alpha=penalty))
    fitted.fit(features[train].reshape(-1, features.shape[2]), values[train].reshape(-1))
    read = fitted.predict(features[test].reshape(-1, features.shape[2]))
    return read.reshape(values[test].shape)


@pytest.mark.parametrize("width", [1, 6, 100])
def test_ridge_is_that_of_scikit_learn(width):
    features, values = rows(width)
    train = np.arange(15) < 10
    fit = Ridge(features, values, train)
    read = fit.predict(features[~train], [0.01, 1.0, 300.0])
    for penalty, found in zip([0.01, 1.0, 300.0], read, strict=True):
        expected = reference(features, values, train, ~train, penalty)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [6, 80])
def test_the_penalty_is_chosen_without_the_fold_it_is_for(width):
    features, values = rows(width, noise=3)
    folds = np.arange(15) % 3
    expected = np.empty_like(values)
    for fold in range(3):
        errors = []
        for penalty in PENALTIES:
            error = 0.0
            for other in {0, 1, 2} - {fold}:
                train, stop = ~np.isin(folds, (fold, other)), folds == other
                read = reference(features, values, train, stop, penalty)
                error += ((read - values[stop]) ** 2).sum()
            errors.append(error)
        best = PENALTIES[int(np.argmin(errors))]
        expected[folds == fold] = reference(features, values, folds != fold, folds == fold, best)
    np.testing.assert_allclose(read_out(features, values, folds), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("images", [10, 13, 40])
def test_folds_are_even_and_hold_whole_images(images):
    folds = assign_folds(images, seed=1)
    counts = np.bincount(folds)
    assert len(counts) == 5
    assert counts.max() - counts.min() <= 1
    assert not np.array_equal(folds, assign_folds(images, seed=2))


def by_network(features, values, folds):
    return read_out_by_network(features, features, values, folds)


@pytest.mark.parametrize("read", [read_out, by_network])
def test_what_is_read_of_an_image_does_not_depend_on_its_own_values(read):
    features, values = rows(5)
    folds = assign_folds(15)
    before = read(features, values, folds)
    changed = values.copy()
    changed[folds == 2] = 1e3
    after = read(features, changed, folds)
    np.testing.assert_allclose(after[folds == 2], before[folds == 2], rtol=1e-6)
    assert not np.allclose(after[folds == 1], before[folds == 1])


def test_a_change_below_the_least_deviation_is_no_feature():
    rng = np.random.default_rng(0)
    values = rng.random((20, 4))
    features = 1e-9 * values[..., None]
    folds = assign_folds(20)
    assert r2_score(values.ravel(), read_out(features, values, folds).ravel()) > 0.999
    blunt = read_out(features, values, folds, min_deviation=1e-3)
    assert r2_score(values.ravel(), blunt.ravel()) < 0.05
    seen = read_out_by_network(features, 0 * features, values, folds, min_deviation=1e-3)
    assert r2_score(values.ravel(), seen.ravel()) < 0.05


def test_the_network_reads_what_no_line_does():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4, 3))
    values = np.abs(features[..., 0])
    folds = assign_folds(60)
    assert r2_score(values.ravel(), read_out(features, values, folds).ravel()) < 0.1
    read = by_network(features, values, folds)
    assert r2_score(values.ravel(), read.ravel()) > 0.8
    np.testing.assert_array_equal(read, by_network(features, values, folds))


def test_noise_is_stopped_at_the_mean():
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(30, 4, 50)), rng.random((30, 4))
    read = by_network(features, values, assign_folds(30))
    assert r2_score(values.ravel(), read.ravel()) > -0.15


# ---------------------------------------------------------------- kept


def sums(values, read, *, binary):
    readings = Readings(("a",) * len(values), np.zeros(len(values), int), values, {"alone": read})
    parts = compute_terms(readings, "alone", binary=binary)
    assert parts.shape == (len(values), 4)
    return parts.sum(axis=0, keepdims=True)


def test_of_a_number_kept_is_r2():
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, (20, 3))
    read = values + rng.normal(size=(20, 3))
    (kept,) = share_kept(sums(values, read, binary=False), binary=False)
    assert kept == pytest.approx(r2_score(values.ravel(), read.ravel()))
    (nothing,) = share_kept(sums(values, -values, binary=False), binary=False)
    assert nothing == 0


def test_of_a_yes_or_no_kept_is_balanced_accuracy_above_chance():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (20, 3)).astype(float)
    read = 0.3 * values + 0.2 + 0.5 * rng.random((20, 3))
    (kept,) = share_kept(sums(values, read, binary=True), binary=True)
    accuracy = balanced_accuracy_score(values.ravel(), (read > 0.5).ravel())
    assert 0.6 < accuracy < 1
    assert kept == pytest.approx(2 * accuracy - 1)


def test_the_networks_do_not_depend_on_the_default_dtype():
    torch = pytest.importorskip("torch")
    features, values = rows(5)
    folds = assign_folds(15)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        wide = by_network(features, values, folds)
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_array_equal(by_network(features, values, folds), wide)
