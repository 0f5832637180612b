"""Rows scaled to length 1, compared with float64 at any magnitude."""

import numpy as np
import pytest

from shiftproof import Encoder, Preprocess
from shiftproof.unit_rows import measure_rows, normalize_rows, normalize_tensor

SCALES = (1.0, 1e30, 3e38 / 4, 1e-20, 1e-30, 1e-36)


def sample_rows(scale, count=3, width=4):
    drawn = np.random.default_rng(0).normal(size=(count, width))
    return (drawn / np.abs(drawn).max() * scale).astype(np.float32)


def scale_to_unit(values):
    float64_values = values.astype(np.float64)
    return float64_values / np.linalg.norm(float64_values, axis=-1, keepdims=True)


@pytest.mark.parametrize("scale", SCALES)
def test_arrays_of_any_magnitude(scale):
    values = sample_rows(scale)
    np.testing.assert_allclose(normalize_rows(values), scale_to_unit(values), rtol=1e-6)
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    np.testing.assert_allclose(measure_rows(values.copy(), scale=False), lengths, rtol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_tensors_of_any_magnitude(scale):
    torch = pytest.importorskip("torch")
    values = sample_rows(scale)
    found = normalize_tensor(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found, scale_to_unit(values), rtol=1e-6)


def test_tensors_of_usual_magnitude_have_the_bits_and_gradients_of_torch():
    torch = pytest.importorskip("torch")
    first = torch.from_numpy(sample_rows(3.0)).requires_grad_()
    second = first.detach().clone().requires_grad_()
    weights = torch.arange(12.0).reshape(3, 4)
    found, expected = normalize_tensor(first), torch.nn.functional.normalize(second, dim=-1)
    assert torch.equal(found, expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_rows_of_zeros_infinity_and_nan():
    torch = pytest.importorskip("torch")
    values = np.array([[0, 0], [np.inf, 1], [np.nan, 1], [3e30, 4e30]], np.float32)
    expected = values.copy()
    expected[3] = [0.6, 0.8]
    np.testing.assert_array_almost_equal(normalize_rows(values), expected)
    found = normalize_tensor(torch.from_numpy(values)).numpy()
    assert (found[0] == 0).all()
    assert np.isnan(found[1, 0])
    assert np.isnan(found[2]).any()
    np.testing.assert_allclose(found[3], [0.6, 0.8], rtol=1e-6)


def test_float16_rows_whose_squares_overflow():
    torch = pytest.importorskip("torch")
    values = torch.full((1, 16), 60_000.0, dtype=torch.float16)
    torch.testing.assert_close(normalize_tensor(values), torch.full_like(values, 0.25))


# ---------------------------------------------------------------- callers


@pytest.mark.parametrize("scale", SCALES)
def test_encoders_and_text_towers(scale):
    torch = pytest.importorskip("torch")
    from shiftproof.models import TextEncoder
    from shiftproof.models.image_text.class_vectors import _normalize
    from shiftproof.models.image_text.towers import TextTower

    values = sample_rows(scale)

    def encode(texts):
        return torch.from_numpy(values[: len(texts)])

    tower = TextTower(encode, lambda: "fixed", None)
    np.testing.assert_allclose(
        TextEncoder(tower).encode(["a", "b", "c"]), scale_to_unit(values), rtol=1e-6
    )
    np.testing.assert_allclose(
        _normalize(torch.from_numpy(values)).numpy(), scale_to_unit(values), rtol=1e-6
    )

    def embed(inputs):
        return values[: len(inputs)]

    encoder = Encoder(embed, Preprocess((8, 8), 8))
    images = np.zeros((3, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(encoder.encode(images), scale_to_unit(values), rtol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_adapters_and_losses(scale):
    torch = pytest.importorskip("torch")
    from shiftproof.adapt.methods.lame import laplacian_assignments
    from shiftproof.adapt.methods.t3a import Supports, average_supports
    from shiftproof.contrastive.losses import _to_space

    values = torch.from_numpy(sample_rows(scale))
    float64_values = torch.from_numpy(scale_to_unit(values.numpy()))
    supports = Supports(values, torch.tensor([0, 1, 1]), torch.zeros(3))
    sums = torch.stack([float64_values[0], float64_values[1] + float64_values[2]])
    expected = sums / torch.linalg.vector_norm(sums, dim=1, keepdim=True)
    torch.testing.assert_close(
        average_supports(supports, 2).double(), expected, rtol=1e-5, atol=1e-6
    )
    placed = _to_space(values, "u", "sphere")
    torch.testing.assert_close(placed.double(), float64_values, rtol=1e-6, atol=1e-7)
    logits = torch.eye(3)
    torch.testing.assert_close(
        laplacian_assignments(logits, values, neighbors=1),
        laplacian_assignments(logits, float64_values, neighbors=1),
    )
