import numpy as np
import pytest
from scipy import integrate, special, stats

from shiftproof.contrastive import process
from shiftproof.contrastive.process import PairProcess
from shiftproof.errors import InputError
from shiftproof.rng import generator

COUNT = 20_000


def moments_on_the_circle(density):
    """Mean of the cosine and of its square of an angle with that density, by integration."""
    total = integrate.quad(density, -np.pi, np.pi)[0]
    return [
        integrate.quad(lambda t, k=k: np.cos(t) ** k * density(t), -np.pi, np.pi)[0] / total
        for k in (1, 2)
    ]


@pytest.mark.parametrize("space", ["sphere", "box", "gaussian"])
def test_latents_are_spread_as_their_space_says(space):
    random = generator(0, "test")
    z = PairProcess((1.0, 1.0, 1.0), space=space).latents(COUNT, random)
    if space == "sphere":
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1)
        # Archimedes: a coordinate of a point on the sphere of three dimensions is uniform.
        assert stats.kstest(z[:, 1], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    else:
        law = stats.uniform(-1, 2) if space == "box" else stats.norm()
        assert stats.kstest(z.ravel(), law.cdf).pvalue > 1e-3


def test_partners_have_the_density_that_is_claimed():
    # From (1, 0) on the circle: exp(-½ (λ1 (cos t - 1)² + λ2 sin² t)), by integration.
    precision = (3.0, 12.0)
    z = np.tile([1.0, 0.0], (COUNT, 1))
    found = PairProcess(precision, width=0.01).partners(z, generator(0, "p"))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    first, second = moments_on_the_circle(
        lambda t: np.exp(
            -0.5 * (precision[0] * (np.cos(t) - 1) ** 2 + precision[1] * np.sin(t) ** 2)
        )
    )
    assert found[:, 0].mean() == pytest.approx(first, abs=0.01)
    assert (found[:, 0] ** 2).mean() == pytest.approx(second, abs=0.01)
    assert found[:, 1].mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("dim", [2, 3, 10])
@pytest.mark.parametrize("concentration", [0.5, 20.0, 1e5])
def test_von_mises_fisher_has_its_mean_resultant_length(dim, concentration):
    z = process.sphere(COUNT, dim, generator(1, "z"))
    partners = process.von_mises_fisher(z, concentration, generator(1, "v"))
    np.testing.assert_allclose(np.linalg.norm(partners, axis=1), 1)
    # Mardia & Jupp 2000, section 9.3.2: a quotient of Bessel functions.
    expected = special.ive(dim / 2, concentration) / special.ive(dim / 2 - 1, concentration)
    assert (z * partners).sum(1).mean() == pytest.approx(
        expected, abs=0.012 * (1 - expected) + 4e-3
    )


def test_without_a_sphere_steps_are_normal_or_laplace_of_the_same_variance():
    for conditional, law in (("normal", stats.norm()), ("laplace", stats.laplace(0, np.sqrt(0.5)))):
        chosen = PairProcess((4.0, 100.0), space="gaussian", conditional=conditional)
        z, partner = chosen.pairs(COUNT, seed=0)
        steps = (partner - z) * [2.0, 10.0]
        assert stats.kstest(steps.ravel(), law.cdf).pvalue > 1e-3


def test_in_the_box_steps_are_cut_off():
    z = np.full((COUNT, 1), 0.9)
    partner = PairProcess((4.0,), space="box").partners(z, generator(0, "b"))
    law = stats.truncnorm((-1 - 0.9) / 0.5, (1 - 0.9) / 0.5, loc=0.9, scale=0.5)
    assert stats.kstest(partner.ravel(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("space", ["sphere", "box", "gaussian"])
def test_content_never_varies_and_style_is_drawn_anew(space):
    chosen = PairProcess((5.0,) * 6, space=space, content=(0,), style=(2, 4, 5))
    z, partner = chosen.pairs(COUNT, seed=1)
    assert (z[:, 0] == partner[:, 0]).all()
    assert np.abs(np.corrcoef(z[:, 2], partner[:, 2])[0, 1]) < 0.03
    assert np.corrcoef(z[:, 1], partner[:, 1])[0, 1] > 0.3
    if space == "sphere":
        np.testing.assert_allclose(np.linalg.norm(partner, axis=1), 1)


def test_style_on_the_sphere_leaves_the_others_their_density():
    # One varying latent v near 0.5 of three: p(v) ∝ exp(-½ λ (v - 0.5)²), flat by Archimedes.
    z = np.tile([0.5, np.sqrt(0.75), 0.0], (COUNT, 1))
    partner = PairProcess((8.0, 1.0, 1.0), style=(1, 2)).partners(z, generator(0, "s"))
    spread = 1 / np.sqrt(8)
    law = stats.truncnorm((-1 - 0.5) / spread, (1 - 0.5) / spread, loc=0.5, scale=spread)
    assert stats.kstest(partner[:, 0], law.cdf).pvalue > 1e-3


def test_all_style_is_the_uniform_sphere():
    z = np.tile([1.0, 0.0, 0.0], (COUNT, 1))
    partner = PairProcess((1.0,) * 3, style=(0, 1, 2)).partners(z, generator(0, "s"))
    assert stats.kstest(partner[:, 0], stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_a_wide_spread_of_precisions_is_drawn_too():
    z, partner = PairProcess((1.0, 5.6, 31.6, 178.0, 1000.0), width=0.01).pairs(4000, seed=0)
    strength = ((z - partner) ** 2).mean(0)
    assert (np.diff(strength) < 0).all()
    assert strength[-1] == pytest.approx(1e-3, rel=0.1)


def test_pairs_hang_on_seed_and_step_alone():
    chosen = PairProcess((5.0, 5.0))
    first = chosen.pairs(10, seed=1, step=3)
    again = chosen.pairs(10, seed=1, step=3)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[0] == chosen.pairs(10, seed=1, step=4)[0]).any()
    assert not (first[0] == chosen.pairs(10, seed=2, step=3)[0]).any()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: PairProcess((1.0, 0.0)), "above 0.*style"),
        (lambda: PairProcess(()), "one number per latent"),
        (lambda: PairProcess((1.0, np.nan)), "above 0"),
        (lambda: PairProcess((1.0, 1.0), space="spher"), "Did you mean 'sphere'"),
        (lambda: PairProcess((1.0, 1.0), conditional="vmf"), "Unknown conditional"),
        (lambda: PairProcess((1.0,) * 3, content=(3,)), "numbers of 0 to 2"),
        (lambda: PairProcess((1.0,) * 4, content=(1,), style=(1, 2)), "different"),
        (lambda: PairProcess((1.0,) * 3, style=(1,)), "at least two"),
        (lambda: PairProcess((1.0,) * 2, content=(1,)), "alone cannot vary"),
        (lambda: PairProcess((1.0, 2.0), conditional="von_mises_fisher"), "one precision"),
        (lambda: PairProcess((1.0, 1.0), width=0), "width"),
        (lambda: PairProcess((1.0, 1.0)).pairs(0, seed=0), "count"),
        (lambda: PairProcess((1.0, 1.0)).partners(np.ones((3, 3)), generator(0)), r"\(N, 2\)"),
        (lambda: process.von_mises_fisher(np.ones((3, 1)), 1.0, generator(0)), "D at least 2"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(call, said):
    with pytest.raises(InputError, match=said):
        call()
