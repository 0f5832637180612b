import itertools

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from shiftproof.errors import InputError
from shiftproof.metrics import Interval, linear_r2, mean_correlation_coefficient
from shiftproof.metrics import identifiability as ident


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def turn(seed, dim):
    return np.linalg.qr(drawn(seed, dim, dim))[0]


# ---------------------------------------------------------------- linear R²


def test_an_affine_map_loses_nothing():
    latents = drawn(0, 60, 3)
    found = linear_r2(latents @ drawn(1, 3, 3) + 7, latents)
    np.testing.assert_allclose(found.per_latent, 1)
    assert found.mean == pytest.approx(1)


def test_a_missing_latent_has_an_r2_of_zero():
    latents = drawn(0, 4000, 3)
    found = linear_r2(latents[:, :2] @ turn(1, 2), latents)
    np.testing.assert_allclose(found.per_latent, [1, 1, 0], atol=0.01)
    assert found.mean == pytest.approx(2 / 3, abs=0.01)


def test_noise_takes_its_share_of_the_variance():
    # Var z / (Var z + Var noise) of z is explained.
    latents = drawn(0, 200_000, 1)
    found = linear_r2(latents + 0.5 * drawn(1, 200_000, 1), latents)
    assert found.mean == pytest.approx(1 / 1.25, abs=0.005)


def test_it_is_what_scikit_learn_finds_on_the_same_samples():
    latents, noise = drawn(0, 80, 3), drawn(1, 80, 5)
    embedding = np.tanh(latents @ drawn(2, 3, 5)) + 0.3 * noise
    found = linear_r2(embedding, latents, held_out=0.25, seed=3)
    from shiftproof.rng import generator

    order = generator(3, "held out", "80").permutation(80)
    test, train = order[:20], order[20:]
    model = LinearRegression().fit(embedding[train], latents[train])
    expected = r2_score(latents[test], model.predict(embedding[test]), multioutput="raw_values")
    np.testing.assert_allclose(found.per_latent, expected)


def test_samples_held_out_are_not_fitted():
    # With as many numbers as samples any noise would be explained perfectly.
    found = linear_r2(drawn(0, 64, 30), drawn(1, 64, 1))
    assert found.mean < 0


def test_one_factor_may_be_a_vector_and_dimensions_may_be_constant():
    latent = drawn(0, 50)
    embedding = np.stack([latent, np.ones(50)], axis=1)
    assert linear_r2(embedding, latent).mean == pytest.approx(1)
    assert mean_correlation_coefficient(embedding, latent).assignment.tolist() == [0]


# ---------------------------------------------------------------- MCC


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_order_sign_and_scale_do_not_matter(method):
    latents = drawn(0, 40, 4)
    order = [2, 0, 3, 1]
    embedding = latents[:, order] * [-1, 2, -3, 0.1] + 5
    found = mean_correlation_coefficient(embedding, latents, method=method)
    assert found.mean == pytest.approx(1)
    assert found.assignment.tolist() == [1, 3, 0, 2]


def test_of_two_latents_turned_by_45_degrees_it_is_the_root_of_a_half():
    latents = drawn(0, 200_000, 2)
    half = np.sqrt(0.5)
    embedding = latents @ np.array([[half, half], [-half, half]])
    assert mean_correlation_coefficient(embedding, latents).mean == pytest.approx(half, abs=0.01)


def test_ranks_see_any_increasing_map_as_perfect():
    latents = drawn(0, 60, 2)
    assert mean_correlation_coefficient(np.exp(3 * latents), latents, method="spearman").mean == 1
    assert mean_correlation_coefficient(np.exp(3 * latents), latents).mean < 0.9


def test_ties_share_their_mean_rank():
    # Ranks 1.5, 1.5, 3, 4 beside 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    found = mean_correlation_coefficient([[1], [1], [5], [6]], [1, 20, 21, 90], method="spearman")
    assert found.mean == pytest.approx(0.9486833)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_it_is_what_scipy_finds(method):
    latents = np.round(drawn(0, 30, 3), 1)  # with ties
    embedding = np.round(latents @ drawn(1, 3, 5) + drawn(2, 30, 5), 1)
    correlate = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method]
    strength = np.array([[abs(correlate(x, z).statistic) for x in embedding.T] for z in latents.T])
    rows, columns = optimize.linear_sum_assignment(-strength)
    found = mean_correlation_coefficient(embedding, latents, method=method)
    assert found.assignment.tolist() == columns.tolist()
    np.testing.assert_allclose(found.per_latent, strength[rows, columns])


@pytest.mark.parametrize("seed", range(20))
def test_no_other_assignment_costs_less(seed):
    random = np.random.default_rng(seed)
    rows = int(random.integers(1, 6))
    costs = random.normal(size=(rows, rows + int(random.integers(0, 3))))
    if seed % 2:
        costs = np.round(costs)  # with ties
    every = itertools.permutations(range(costs.shape[1]), rows)
    smallest = min(sum(costs[row, column] for row, column in enumerate(one)) for one in every)
    found = ident.assign(costs)
    assert len(set(found.tolist())) == rows
    assert costs[np.arange(rows), found].sum() == pytest.approx(smallest)


# ---------------------------------------------------------------- affine, DCI, precision


def test_a_rotation_has_no_error_and_a_stretch_that_of_its_singular_values():
    latents = drawn(0, 100, 3)
    fit = ident.affine_fit(2 * latents @ turn(1, 3) - 1, latents)
    assert fit.error == pytest.approx(0, abs=1e-12)
    assert fit.orthogonality == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(fit.matrix, turn(1, 3).T / 2)
    # Squared singular values 4 and 1, over their mean 1.6 and 0.4: a deviation of 0.6 each.
    stretched = ident.affine_fit(latents[:, :2] / [2.0, 1.0], latents[:, :2])
    assert stretched.orthogonality == pytest.approx(0.6)


def test_what_no_affine_map_explains_is_its_error():
    latents = drawn(0, 100_000, 2)
    fit = ident.affine_fit(latents[:, :1], latents)
    assert fit.error == pytest.approx(np.sqrt(0.5), abs=0.01)


def test_dci_of_an_aligned_and_of_a_rotated_embedding():
    latents = drawn(0, 5000, 2)
    clean = ident.dci(latents[:, ::-1] * [1, -9], latents)
    assert clean.disentanglement == pytest.approx(1, abs=1e-6)
    assert clean.completeness == pytest.approx(1, abs=1e-6)
    assert clean.informativeness == pytest.approx(1)
    half = np.sqrt(0.5)
    mixed = ident.dci(latents @ np.array([[half, half], [-half, half]]), latents)
    assert mixed.disentanglement < 0.01
    assert mixed.completeness < 0.01
    assert mixed.informativeness == pytest.approx(1)


def test_disentanglement_and_completeness_by_hand():
    # Rows: all for one; half and half. Entropy 0 and 1 bit of 1; weights 1/4 and 3/4.
    d, c = ident.disentanglement([[1, 0], [1.5, 1.5]])
    assert d == pytest.approx(0.25)
    first, second = stats.entropy([0.4, 0.6], base=2), 0.0
    assert c == pytest.approx((2.5 * (1 - first) + 1.5 * (1 - second)) / 4)


def test_a_learned_precision_is_matched_in_any_order():
    found = ident.match_precision([10, 2, 41], [40, 10, 2.5])
    assert found.learned.tolist() == [41, 10, 2]
    assert found.error == pytest.approx(0.2)
    by_place = ident.match_precision([10, 2, 41], [40, 10], assignment=[2, 0])
    assert by_place.learned.tolist() == [41, 10]
    scaled = ident.match_precision([20, 4], [1, 5], scaled=True)
    assert scaled.error == pytest.approx(0, abs=1e-12)
    assert scaled.scale == pytest.approx(0.25)


@pytest.mark.parametrize("count", [2, 5, 31])
def test_the_interval_over_seeds_is_that_of_students_t(count):
    values = drawn(count, count)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    found = ident.interval_over_seeds(values.tolist())
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
    assert ident.interval_over_seeds([3.0]) == Interval(3.0, 3.0, 3.0)


# ---------------------------------------------------------------- wrong input

X, Z = drawn(0, 20, 3), drawn(1, 20, 2)
NAN = X.copy()
NAN[0, 0] = np.nan
FLAT = Z.copy()
FLAT[:, 1] = 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_r2(X[:5], Z), r"\(5, 3\) and \(20, 2\)"),
        (lambda: linear_r2(NAN, Z), "embedding have NaN"),
        (lambda: linear_r2(X, NAN), "latents have NaN"),
        (lambda: linear_r2(X, FLAT), "Latent 1 never changes"),
        (lambda: linear_r2(X[:1], Z[:1]), "too few"),
        (lambda: linear_r2(drawn(0, 20, 10), Z), "20 samples are too few.*11 numbers"),
        (lambda: linear_r2(X, Z, held_out=1), "held_out"),
        (lambda: linear_r2(X[0], Z), "shape"),
        (lambda: mean_correlation_coefficient(Z, X), "got 2 for 3"),
        (lambda: mean_correlation_coefficient(X, FLAT), "never changes"),
        (lambda: mean_correlation_coefficient(X[:2], Z[:2]), "three samples"),
        (lambda: mean_correlation_coefficient(X, Z, method="spearmann"), "Did you mean"),
        (lambda: ident.affine_fit(X[:3], Z[:3]), "too few"),
        (lambda: ident.disentanglement([[0, 0]]), "above 0"),
        (lambda: ident.disentanglement([[-1, 2]]), "0 or more"),
        (lambda: ident.match_precision([1, 0], [1, 2]), "above 0"),
        (lambda: ident.match_precision([1, 2, 3], [1, 2]), "3 and 2"),
        (lambda: ident.match_precision([1, 2, 3], [1, 2], assignment=[0, 7]), "dimension"),
        (lambda: ident.interval_over_seeds([]), "one finite value"),
        (lambda: ident.assign([[1], [2]]), "columns as rows"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    "measure", [linear_r2, mean_correlation_coefficient, ident.affine_fit, ident.dci]
)
@pytest.mark.parametrize("constant", [0.1, 1 / 3, 1.1])
def test_a_constant_is_one_though_its_mean_is_rounded(measure, constant):
    embedding, latents, column = drawn(0, 101, 3), drawn(1, 101, 2), np.full((101, 1), constant)
    assert column.std() > 0
    with pytest.raises(InputError, match="Latent 2 never changes"):
        measure(embedding, np.hstack([latents, column]))


# ---------------------------------------------------------------- scales, and many repetitions


@pytest.mark.parametrize("embedding_scale", [1e-305, 1e-200, 1, 1e200, 1e300])
@pytest.mark.parametrize("latent_scale", [1e-200, 1, 1e200])
def test_no_score_depends_on_the_scale(embedding_scale, latent_scale):
    latents = drawn(0, 200, 3)
    embedding = latents @ drawn(1, 3, 3) + 0.1 * drawn(2, 200, 3)
    x, z = embedding * embedding_scale, latents * latent_scale
    for method in ("pearson", "spearman"):
        found = mean_correlation_coefficient(x, z, method=method).mean
        expected = mean_correlation_coefficient(embedding, latents, method=method).mean
        assert found == pytest.approx(expected, rel=1e-12)
    strength = np.abs(np.corrcoef(embedding.T, latents.T)[:3, 3:])
    place = optimize.linear_sum_assignment(-strength)
    assert mean_correlation_coefficient(x, z).mean == pytest.approx(strength[place].mean())
    assert linear_r2(x, z).mean == pytest.approx(linear_r2(embedding, latents).mean)
    assert ident.affine_fit(x, z).error == pytest.approx(ident.affine_fit(embedding, latents).error)
    np.testing.assert_allclose(ident.dci(x, z), ident.dci(embedding, latents))


def test_columns_may_have_different_scales():
    latents = drawn(0, 50, 2)
    found = mean_correlation_coefficient(latents * [1e200, 1e-200], latents * [1e-200, 1e200])
    np.testing.assert_allclose(found.per_latent, 1)


def test_the_map_of_an_affine_fit_is_in_the_units_of_the_input():
    latents = drawn(0, 50, 2)
    fit = ident.affine_fit(8 * latents + 3, 1e-150 * latents)
    np.testing.assert_allclose(fit.matrix, np.eye(2) * 1e-150 / 8, atol=1e-163)
    np.testing.assert_allclose(fit.offset, [-3e-150 / 8] * 2)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        (1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (29, 2.045), (30, 2.042), (31, 2.040),
        (40, 2.021), (60, 2.000), (120, 1.980),
    ],
)  # fmt: skip
def test_intervals_have_the_quantiles_of_the_published_table(freedom, quantile):
    # Student's t at 0.975 as in Fisher & Yates 1963, table III.
    values = drawn(freedom, freedom + 1)
    found = ident.interval_over_seeds(values.tolist())
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert (found.high - found.low) / 2 / error == pytest.approx(quantile, abs=6e-4)


def test_over_very_many_repetitions_the_quantile_is_the_normal_one():
    values = drawn(0, 100_000)
    found = ident.interval_over_seeds(values.tolist())
    half = 1.959963984540054 * values.std(ddof=1) / np.sqrt(len(values))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=2e-5)
