import numpy as np
import pytest
from scipy import linalg, optimize

from shiftproof.contrastive import slow_start
from shiftproof.errors import InputError


def pairs(count=5000, seed=0):
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(4, 4))
    z = random.normal(size=(count, 4)) @ mixing + 3
    return z, z + random.normal(size=(count, 4)) * [0.1, 0.5, 1.0, 0.05]


def test_directions_are_those_of_the_generalised_eigenproblem():
    first, second = pairs()
    start = slow_start(first, second)
    differences = first - second
    _, vectors = linalg.eigh(differences.T @ differences / len(first), np.cov(first.T))
    # Each as long as it makes the variance 1, of either sign.
    np.testing.assert_allclose(np.abs(start.matrix), np.abs(vectors), rtol=1e-6)
    encoded = (first - start.mean) @ start.matrix
    np.testing.assert_allclose(np.cov(encoded.T), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(encoded.mean(0), 0, atol=1e-9)


def test_the_precision_is_that_of_the_density_of_normal_pairs():
    # Of p(z, z') ∝ exp(-λ/2 (z' - z)²) b(z) b(z') with a normal b, the inverse covariance has -λ off
    # its diagonal; what stands on it is sought so that a latent has the variance 1 / 4.
    wanted = (400.0, 30.0, 3.0, 0.5)
    random = np.random.default_rng(0)

    def covariance(diagonal, value):
        return linalg.inv([[diagonal, -value], [-value, diagonal]])

    columns = []
    for value in wanted:
        diagonal = optimize.brentq(
            lambda each, value=value: covariance(each, value)[0, 0] - 0.25, value + 1e-9, value + 99
        )
        drawn = random.multivariate_normal([0, 0], covariance(diagonal, value), size=200_000)
        columns.append(drawn)
    first, second = np.stack(columns, axis=2).transpose(1, 0, 2)
    start = slow_start(first, second)
    np.testing.assert_allclose(start.precision, wanted, rtol=0.05)


def test_partners_that_are_the_same_or_have_nothing_in_common_have_a_precision():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 1000, 2))
    second[:, 0] = first[:, 0]
    start = slow_start(first, second)
    assert np.isfinite(start.precision).all()
    assert start.precision[0] > 1e6
    assert 0 < start.precision[1] < 0.5


def test_on_the_sphere_it_is_near_the_precision():
    # Latents that are not mixed: directions are the latents; that partners stay on the sphere takes
    # some of their variation away.
    from shiftproof.contrastive.process import PairProcess

    z, partner = PairProcess((400.0, 100.0, 25.0, 25.0), width=0.02).pairs(20_000, seed=0)
    start = slow_start(z, partner)
    quotient = start.precision / [400, 100, 25, 25]
    assert (quotient > 1).all()
    assert (quotient < 1.7).all()
    assert np.abs(start.matrix).argmax(0)[:2].tolist() == [0, 1]


def test_the_slowest_may_be_kept_alone():
    first, second = pairs()
    whole, two = slow_start(first, second), slow_start(first, second, dim=2)
    np.testing.assert_allclose(two.matrix, whole.matrix[:, :2])
    # The sphere of two dimensions is as large, so each has twice the variance.
    np.testing.assert_allclose(two.precision, whole.precision[:2] / 2)


X, Y = pairs(20)
NAN = X.copy()
NAN[2] = np.inf


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: slow_start(X, Y[:5]), r"\(20, 4\) and \(5, 4\)"),
        (lambda: slow_start(X[:4], Y[:4]), "more pairs than dimensions"),
        (lambda: slow_start(NAN, Y), "NaN"),
        (lambda: slow_start(X, Y, dim=5), "1 to 4"),
        (lambda: slow_start(np.c_[X, X[:, 0]], np.c_[Y, Y[:, 0]]), "do not vary"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(call, said):
    with pytest.raises(InputError, match=said):
        call()
