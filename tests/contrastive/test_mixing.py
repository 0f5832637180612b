import numpy as np
import pytest

from shiftproof.contrastive.mixing import SPRITE_FACTORS, InvertibleMLP, SpiralMap, render_sprites
from shiftproof.errors import InputError


def drawn(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


@pytest.mark.parametrize("dim", [1, 5, 40])
def test_an_invertible_network_is_inverted(dim):
    mixing = InvertibleMLP(dim, seed=3)
    latents = drawn(0, 50, dim)
    np.testing.assert_allclose(mixing.inverse(mixing(latents)), latents, atol=1e-9)


def test_it_is_the_network_that_torch_would_run():
    torch = pytest.importorskip("torch")
    mixing = InvertibleMLP(4, layers=2, slope=0.3, seed=1)
    latents = torch.tensor(drawn(0, 6, 4))
    first, second = (torch.tensor(weight) for weight in mixing.weights)
    expected = torch.nn.functional.leaky_relu(latents @ first, 0.3) @ second
    np.testing.assert_allclose(mixing(latents), expected)
    assert (
        np.abs(mixing(latents) - latents.numpy() @ mixing.weights[0] @ mixing.weights[1]).max()
        > 0.01
    )


def test_no_layer_is_worse_conditioned_than_allowed():
    for seed in range(20):
        mixing = InvertibleMLP(10, max_condition=4.0, seed=seed)
        assert all(np.linalg.cond(weight) <= 4.0 + 1e-9 for weight in mixing.weights)
    assert max(np.linalg.cond(w) for w in InvertibleMLP(10, max_condition=1e9).weights) > 4


def test_the_condition_at_a_point_is_that_of_finite_differences():
    mixing = InvertibleMLP(3, seed=2)
    latents = drawn(1, 4, 3)
    step = 1e-6
    for point, found in zip(latents, mixing.conditions(latents), strict=True):
        moved = mixing(point + step * np.eye(3)) - mixing(point - step * np.eye(3))
        assert found == pytest.approx(np.linalg.cond(moved / (2 * step)), rel=1e-5)


def test_a_spiral_is_inverted_and_winds():
    mixing = SpiralMap(3, 11, seed=1)
    latents = drawn(0, 100, 3)
    observations = mixing(latents)
    assert observations.shape == (100, 11)
    np.testing.assert_allclose(mixing.inverse(observations), latents, atol=1e-9)
    # No linear map reads the latents out.
    ones = np.c_[observations, np.ones(100)]
    left = latents - ones @ np.linalg.lstsq(ones, latents, rcond=None)[0]
    assert left.var() > 0.1 * latents.var()


def test_each_factor_changes_the_picture_as_it_says():
    middle = np.zeros((1, 6))
    [image] = render_sprites(middle)
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8

    def with_(factor, value):
        latents = middle.copy()
        latents[0, SPRITE_FACTORS.index(factor)] = value
        return render_sprites(latents)[0]

    def ink(image):
        return (image.max(2) > 150).astype(float)

    def centre(image):
        down, across = np.nonzero(ink(image))
        return across.mean(), down.mean()

    x, y = centre(image)
    assert centre(with_("x", 1))[0] - x == pytest.approx(8, abs=1)
    assert centre(with_("y", -1))[1] - y == pytest.approx(-8, abs=1)
    assert ink(with_("size", 1)).sum() == pytest.approx(
        ink(image).sum() * (0.4 / 0.3) ** 2, rel=0.15
    )
    turned = with_("rotation", 1)
    np.testing.assert_allclose(ink(turned), np.rot90(ink(image), -1), atol=1)
    assert np.abs(ink(turned) - np.rot90(ink(image), -1)).sum() < 12
    red, violet = with_("colour", -1), with_("colour", 1)
    assert red[16, 16].argmax() == 0
    assert violet[16, 16].argmax() == 2
    assert with_("background", -1)[0, 0].tolist() == [0, 0, 0]
    assert with_("background", 1)[0, 0].tolist() == [128, 128, 128]


def test_near_latents_make_near_and_different_pictures():
    latents = drawn(0, 20, 6)
    for factor in range(6):
        moved = latents.copy()
        moved[:, factor] = np.clip(moved[:, factor] - 0.02 * np.sign(moved[:, factor]), -1, 1)
        change = np.abs(render_sprites(moved).astype(int) - render_sprites(latents)).mean((1, 2, 3))
        assert (change > 0).all()
        assert (change < 12).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: InvertibleMLP(0), "dim and layers"),
        (lambda: InvertibleMLP(3, slope=0), "slope"),
        (lambda: InvertibleMLP(3, max_condition=0.5), "max_condition"),
        (lambda: InvertibleMLP(3)(np.ones((2, 4))), r"\(N, 3\), got \(2, 4\)"),
        (lambda: InvertibleMLP(1)([[np.nan]]), "NaN"),
        (lambda: SpiralMap(3, 5), "twice"),
        (lambda: SpiralMap(1, 2)([[1.5]]), "-1 to 1"),
        (lambda: SpiralMap(1, 2, turns=-1), "turns"),
        (lambda: render_sprites(np.zeros((1, 5))), r"\(N, 6\)"),
        (lambda: render_sprites(np.full((1, 6), 2.0)), "-1 to 1"),
        (lambda: render_sprites(np.zeros((1, 6)), side=4), "side"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(call, said):
    with pytest.raises(InputError, match=said):
        call()
