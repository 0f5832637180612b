"""The contract of encoders as a public check."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shiftproof.models.encoders.encoder import EncoderLike, Vectors
from shiftproof.testing.untouched import check_json, check_untouched
from shiftproof.types import Image

TOLERANCE = 1e-4
"""Tolerance relative to a vector's norm between batch sizes, which change the order of
summation.
"""


def check_encoder(
    encoder: EncoderLike,
    images: Sequence[Image] | None = None,
    *,
    batch_independent: bool = True,
) -> None:
    """Check that an encoder keeps the contract of encoders.

    It has a name, a width and JSON-compatible settings with its ``fingerprint``, ``width`` and
    ``normalize``; returns one finite float32 vector of its width per image, in the order of the
    images, for no, one and many images, of length 1 if ``normalize`` is set; its vectors differ
    between images. It does not change the images, accepts read-only arrays and views, is
    deterministic, and changes neither its weights and settings nor a global random state or torch's
    number of threads.

    Args:
        encoder: the encoder to check.
        images: two or more, ``(H, W, 3)`` uint8 of any sizes; None generates some.
        batch_independent: whether an image's vector does not depend on its batch.

    Raises:
        AssertionError: the contract is violated; the message begins with the violated clause.

    >>> from shiftproof.models import Encoder, Preprocess
    >>> check_encoder(Encoder(lambda inputs: inputs.mean(axis=(2, 3)), Preprocess((8, 8), 8)))
    """
    originals = _make_images() if images is None else list(images)
    if len(originals) < 2:
        raise ValueError("check_encoder needs two images or more.")
    _check_surface(encoder)
    fitted = [encoder.preprocess.geometry(image) for image in originals]
    with check_untouched(encoder, "encoding"):
        _check_vectors(encoder, fitted, batch_independent=batch_independent)


def _check_vectors(
    encoder: EncoderLike, fitted: Sequence[Image], *, batch_independent: bool
) -> None:
    before = [image.copy() for image in fitted]
    expected = _encode(encoder, fitted)
    for image, kept in zip(fitted, before, strict=True):
        assert np.array_equal(image, kept), "images: encode changed its argument"
    assert np.array_equal(_encode(encoder, fitted), expected), "deterministic: other vectors"
    assert np.ptp(expected, axis=0).max() > 0, "vectors: the same for all images"
    _encode(encoder, [])

    read_only = [image.copy() for image in fitted]
    for image in read_only:
        image.flags.writeable = False
    _check_same(_encode(encoder, read_only), expected, "read-only images")
    views = [np.repeat(image, 2, axis=1)[:, ::2] for image in fitted]
    _check_same(_encode(encoder, views), expected, "views of larger arrays")

    single = np.concatenate([_encode(encoder, [image]) for image in fitted])
    reversed_order = _encode(encoder, fitted[::-1])[::-1]
    if batch_independent:
        _check_same(reversed_order, expected, "order: in another order of the images")
        _check_same(single, expected, "batches: one by one")


def _check_surface(encoder: EncoderLike) -> None:
    for name in ("name", "width", "normalize", "preprocess", "settings", "encode"):
        assert hasattr(encoder, name), f"is an encoder: it has no attribute {name!r}"
    assert isinstance(encoder.name, str), "is an encoder: its name is not a string"
    width = encoder.width
    assert isinstance(width, int), "is an encoder: its width is not an integer"
    assert width > 0, f"is an encoder: its width is {width}"
    settings = encoder.settings
    check_json(settings)
    for name in ("fingerprint", "width", "normalize"):
        assert name in settings, f"settings: they have no {name!r}"
    assert isinstance(settings["fingerprint"], str), "settings: the fingerprint is not a string"
    assert settings["width"] == width, "settings: another width than the encoder's"
    assert settings["normalize"] == encoder.normalize, "settings: another normalize"


def _encode(encoder: EncoderLike, images: Sequence[Image]) -> Vectors:
    what = f"{len(images)} images"
    try:
        vectors = encoder.encode(images)
    except Exception as error:
        raise AssertionError(f"{what}: encode raised {type(error).__name__}: {error}") from error
    assert isinstance(vectors, np.ndarray), f"{what}: encode returned {type(vectors).__name__}"
    assert vectors.dtype == np.float32, f"{what}: vectors of {vectors.dtype}, expected float32"
    shape = (len(images), encoder.width)
    assert vectors.shape == shape, f"{what}: vectors of shape {vectors.shape}, expected {shape}"
    assert np.isfinite(vectors).all(), f"{what}: a vector that is not finite"
    if encoder.normalize:
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        assert np.allclose(lengths, 1, rtol=0, atol=1e-3), f"{what}: a vector not of length 1"
    # Copied, since an encoder may reuse its output array.
    kept: Vectors = vectors.copy()
    return kept


def _check_same(found: Vectors, expected: Vectors, clause: str) -> None:
    distances = np.linalg.norm(found - expected, axis=1)
    allowed = TOLERANCE * np.linalg.norm(expected, axis=1)
    for index, (distance, limit) in enumerate(zip(distances, allowed, strict=True)):
        assert distance <= limit, f"{clause}: another vector for image {index}"


def _make_images() -> list[Image]:
    rng = np.random.default_rng(0)
    shapes = [(64, 64), (48, 80), (71, 33), (64, 64)]
    # Of different colors, so that features of low resolution differ, too.
    return [
        (rng.integers(0, 128, (*shape, 3)) + rng.integers(0, 128, 3)).astype(np.uint8)
        for shape in shapes
    ]
