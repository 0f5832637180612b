"""Digital corruptions: by cameras, screens and file formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random, get_constants, to_uint8
from shiftproof.corruptions.filters import (
    add_channel_axis,
    count_channels,
    expand_like,
    filter_gaussian,
    pack_pixels,
    unpack_pixels,
)
from shiftproof.errors import ImageError
from shiftproof.types import F32, I64, U8, Image

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2 for the any-size form of elastic_transform (Michaelis et al. 2019,
# arXiv 1907.07484). ``table`` holds the constants of another scale.

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
"""Factor of the distance to the mean."""

ELASTIC_TRANSFORM = (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12)
"""Factor of the smoothed displacements."""

ELASTIC_REACH = 0.005
"""Displacements are drawn up to this share of the height, in both directions."""

ELASTIC_SIGMA = 0.01
"""Sigma of their smoothing, as a share of the height for rows and of the width for columns."""

ELASTIC_IMAGENET_C = tuple(
    (244 * amplitude, 244 * sigma, 244 * affine)
    for amplitude, sigma, affine in (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    )
)
"""Factor and sigma of the displacements, and jitter of the corner points, in pixels of 224."""

PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
"""Factor of the side length."""

JPEG_COMPRESSION = (25, 18, 15, 10, 7)
"""Quality, 1 to 100."""

WEBP_LONGEST_SIDE = 16_383
"""Maximum side length of the WebP format."""

JPEG_LONGEST_SIDE = 65_500
"""Maximum side length of the JPEG library."""

# Not in the benchmark:

WEBP_COMPRESSION = (30, 20, 12, 6, 2)
"""Quality, 0 to 100."""

JPEG2000_COMPRESSION = (40, 25, 15, 8, 4)
"""Size of the file, in thousandths of the raw size."""

JPEG2000_SHORTEST_SIDE = 64
"""Smaller images are padded for the codec, which needs several resolution levels."""

BLOCK_LOSS = (0.02, 0.05, 0.1, 0.2, 0.3)
"""Share of lost macroblocks."""

MACROBLOCK = 16
"""Side of a macroblock in pixels, as in H.264."""

COLOR_CAST = (0.1, 0.18, 0.27, 0.38, 0.5)
"""Maximum relative change of a channel."""

VIGNETTE = (0.3, 0.45, 0.6, 0.75, 0.9)
"""Relative loss of light in the corners."""

SATURATE = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
"""Factor and offset of the saturation."""


def apply_table(image: Image, table: U8) -> Image:
    """Return ``table[channel, value]``; the table is ``(3, 256)``, or ``(1, 256)`` for gray."""
    from shiftproof.corruptions.kernels import digital as kernels

    out = np.empty_like(image)
    kernels.look_up_levels(add_channel_axis(image), table, add_channel_axis(out))
    return out


def contrast(
    image: Image, severity: float, rng: Random, table: Sequence[float] = CONTRAST
) -> Image:
    """Pull every value towards the mean of its channel."""
    from shiftproof.corruptions.kernels import digital as kernels

    factor = get_constants(table, severity)
    levels = np.arange(256) / 255.0
    sums = np.empty(count_channels(image))
    kernels.sum_channels(add_channel_axis(image), levels, sums)
    means = sums[:, np.newaxis] / (image.shape[0] * image.shape[1])
    return apply_table(image, to_uint8((levels - means) * factor + means))


def _displace(image: Image, down: F32, right: F32) -> Image:
    from shiftproof.corruptions.kernels import digital as kernels

    displaced, out = np.empty(image.shape[:2], np.uint32), np.empty_like(image)
    width = image.shape[1]
    kernels.displace_pixels(
        pack_pixels(image).reshape(-1),
        down,
        right,
        np.empty((4, width), np.int32),
        np.empty((4, width), np.uint32),
        np.empty((2, width), np.float32),
        displaced,
    )
    unpack_pixels(displaced, out)
    return out


def _draw_displacements(
    rng: Random, height: int, width: int, reach: float, sigma: tuple[float, float]
) -> F32:
    """Draw displacements ``(height, width)`` uniform within ``reach`` and smooth them."""
    # A field this smooth is computed on a grid of nodes, five or more per sigma, and interpolated.
    steps = [1 if isinstance(rng, np.random.RandomState) else max(1, int(s / 5)) for s in sigma]
    if steps == [1, 1]:
        noise = draws.uniform(rng, (height, width))
        noise *= np.float32(reach)
        return filter_gaussian(noise, sigma, truncate=3, reflect=True)
    from shiftproof.corruptions.kernels import digital as kernels

    # Interpolation is a further smoothing, with a triangle of variance step ** 2 / 6. It also
    # reduces the variance between the nodes, which the amplitude compensates on average.
    node_sigma = tuple(
        math.sqrt(s**2 - (step**2 / 6 if step > 1 else 0)) / step
        for s, step in zip(sigma, steps, strict=True)
    )
    amplitude = reach * math.sqrt(math.prod(node_sigma) / math.prod(sigma))
    for step, s in zip(steps, node_sigma, strict=True):
        if step > 1:
            amplitude /= math.sqrt(2 / 3 + math.exp(-1 / (4 * s**2)) / 3)
    noise = draws.uniform(rng, (-(-height // steps[0]) + 1, -(-width // steps[1]) + 1))
    noise *= np.float32(amplitude)
    nodes = filter_gaussian(noise, (node_sigma[0], node_sigma[1]), truncate=3, reflect=True)
    out = np.empty((height, width), np.float32)
    count = nodes.shape[1]
    mixed, row = np.empty(count, np.float32), np.empty(count * steps[1], np.float32)
    kernels.refine_grid(nodes, steps[0], steps[1], mixed, row, out)
    return out


def _elastic(image: Image, severity: float, rng: Random, reach: tuple[float, float]) -> Image:
    height, width = image.shape[:2]
    sigma = (ELASTIC_SIGMA * height, ELASTIC_SIGMA * width)
    alpha = get_constants(ELASTIC_TRANSFORM, severity)
    right, down = (_draw_displacements(rng, height, width, r * alpha, sigma) for r in reach)
    return _displace(image, down, right)


def elastic_transform(image: Image, severity: float, rng: Random) -> Image:
    """Move pixels along smooth random displacements, as if the image were on rubber.

    The displacements of both directions are in proportion to the height, as in the published code.
    """
    reach = ELASTIC_REACH * image.shape[0]
    return _elastic(image, severity, rng, (reach, reach))


def elastic_transform_corrected(image: Image, severity: float, rng: Random) -> Image:
    """Move pixels along smooth random displacements, as if the image were on rubber.

    Differs from ``elastic_transform``: displacements across are in proportion to the width.
    """
    height, width = image.shape[:2]
    return _elastic(image, severity, rng, (ELASTIC_REACH * width, ELASTIC_REACH * height))


def _skew_and_displace(image: Image, constants: tuple[float, float, float], rng: Random) -> Image:
    """Skew an image, then move its pixels; ``constants`` as ``ELASTIC_IMAGENET_C`` has them."""
    import cv2

    from shiftproof.corruptions.kernels import digital as kernels

    amplitude, sigma, jitter = constants
    height, width = image.shape[:2]
    center = np.array([height, width], np.float32) // 2
    half_side = np.float32(min(height, width) // 3)
    corners = np.array(
        [center + half_side, [center[0] + half_side, center[1] - half_side], center - half_side],
        dtype=np.float32,
    )
    moved = corners + rng.uniform(-jitter, jitter, size=corners.shape).astype(np.float32)
    # Below three pixels the corners coincide and define no map.
    inverse = np.eye(2, 3)
    if half_side > 0:
        inverse[:] = cv2.invertAffineTransform(cv2.getAffineTransform(corners, moved))
    values = np.empty(add_channel_axis(image).shape, np.float32)
    kernels.skew_image(add_channel_axis(image), inverse, values)
    right, down = (
        filter_gaussian(
            draws.uniform(rng, (height, width)) * np.float32(amplitude),
            sigma,
            truncate=3,
            reflect=True,
        )
        for _ in range(2)
    )
    out = np.empty_like(image)
    kernels.displace_values(values, down, right, add_channel_axis(out))
    return out


def elastic_transform_imagenet_c(image: Image, severity: float, rng: Random) -> Image:
    """Skew the image a little, then move its pixels along random displacements.

    The version of the original ImageNet-C, for images of 224 x 224 pixels: its constants are in
    pixels, independent of the size. At severities 1 and 2 the displacements are nearly constant; at
    3 to 5 they are rough.

    Differs from ``elastic_transform`` in all steps.
    """
    return _skew_and_displace(image, get_constants(ELASTIC_IMAGENET_C, severity), rng)


def elastic_transform_skewed(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float, float]]
) -> Image:
    """Skew the image a little, then move its pixels along random displacements.

    Differs from ``elastic_transform_imagenet_c``: the constants are shares of the shorter side.
    """
    amplitude, sigma, jitter = get_constants(table, severity)
    side = min(image.shape[:2])
    return _skew_and_displace(image, (side * amplitude, side * sigma, side * jitter), rng)


@lru_cache(maxsize=64)
def compute_boxes(size: int, small: int) -> tuple[I64, I64, I64]:
    """Return Pillow's boxes along one side: start, end and weight of each.

    Pillow computes with weights in units of 2 ** -22.
    """
    scale = size / small
    reach = max(scale, 1.0) / 2
    centers = (np.arange(small) + 0.5) * scale
    first = np.maximum((centers - reach + 0.5).astype(np.int64), 0)
    after = np.minimum((centers + reach + 0.5).astype(np.int64), size)
    # A pixel whose center lies on a box's left border belongs to the box before.
    first += (first - centers + 0.5) * (1 / max(scale, 1.0)) <= -0.5
    after -= (after - 1 - centers + 0.5) * (1 / max(scale, 1.0)) > 0.5
    weight = (0.5 + (1 / (after - first)) * 2**22).astype(np.int64)
    return first, after, weight


@lru_cache(maxsize=64)
def compute_nearest(size: int, small: int) -> I64:
    """Return the index among ``small`` pixels for each of ``size``, by Pillow's cumulative sum."""
    step = small / size
    positions = np.add.accumulate(np.concatenate([[step * 0.5], np.full(size - 1, step)]))
    return np.minimum(positions.astype(np.int64), small - 1)


def pixelate(
    image: Image, severity: float, rng: Random, table: Sequence[float] = PIXELATE
) -> Image:
    """Shrink by averaging boxes of pixels and enlarge again by repetition.

    The arithmetic is that of Pillow up to version 11, which averages across and then down;
    later versions choose the order by size and round differently.

    Differs from the published code: at least one pixel remains along each side.
    """
    from shiftproof.corruptions.kernels import digital as kernels

    share = get_constants(table, severity)
    height, width = image.shape[:2]
    rows, columns = max(1, int(height * share)), max(1, int(width * share))
    small = np.empty((rows, columns, count_channels(image)), np.uint8)
    kernels.reduce_boxes(
        add_channel_axis(image), *compute_boxes(width, columns), *compute_boxes(height, rows), small
    )
    out = np.empty_like(image)
    kernels.repeat_pixels(
        small, compute_nearest(height, rows), compute_nearest(width, columns), add_channel_axis(out)
    )
    return out


def jpeg_compression(
    image: Image, severity: float, rng: Random, table: Sequence[int] = JPEG_COMPRESSION
) -> Image:
    """Save as JPEG of low quality, with halved color resolution, and load again.

    OpenCV includes the same library as Pillow, which the published code uses, and is faster.

    Raises:
        ImageError: a side is longer than JPEG allows.
    """
    import cv2

    _check_side(image, "JPEG", JPEG_LONGEST_SIDE)
    quality = get_constants(table, severity)
    return _encode_and_decode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def saturate(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float]] = SATURATE
) -> Image:
    """Change the saturation (HSV); a gray image is unchanged."""
    from shiftproof.corruptions.kernels import digital as kernels

    if image.ndim == 2:
        return np.array(image)
    scale, offset = get_constants(table, severity)
    out = np.empty_like(image)
    kernels.scale_saturation(image, scale, offset, out)
    return out


def _check_side(image: Image, codec: str, longest: int) -> None:
    if max(image.shape) > longest:
        raise ImageError(
            f"{codec} allows at most {longest} pixels along a side; got shape {image.shape}. Cut the "
            "image into pieces."
        )


def _encode_and_decode(image: Image, suffix: str, options: list[int]) -> Image:
    """Encode and decode an image by one of OpenCV's codecs."""
    import cv2

    if image.ndim == 2:
        encoded = cv2.imencode(suffix, image, options)[1]
        decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        return decoded.reshape(image.shape)
    encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def webp_compression(image: Image, severity: float, rng: Random) -> Image:
    """Save as WebP of low quality and load again. Not in the benchmark.

    Raises:
        ImageError: a side is longer than WebP allows.
    """
    import cv2

    _check_side(image, "WebP", WEBP_LONGEST_SIDE)
    quality = get_constants(WEBP_COMPRESSION, severity)
    return _encode_and_decode(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def jpeg2000_compression(image: Image, severity: float, rng: Random) -> Image:
    """Save as JPEG 2000 of a small size and load again. Not in the benchmark."""
    import cv2

    share = get_constants(JPEG2000_COMPRESSION, severity)
    height, width = image.shape[:2]
    bottom, right = max(0, JPEG2000_SHORTEST_SIDE - height), max(0, JPEG2000_SHORTEST_SIDE - width)
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, share]
    decoded = _encode_and_decode(np.asarray(padded, dtype=np.uint8), ".jp2", options)
    return np.ascontiguousarray(decoded[:height, :width])


def block_loss(image: Image, severity: float, rng: Random) -> Image:
    """Replace macroblocks by neighboring ones, as after losses in a video stream.

    A decoder conceals a lost block by another part of the frame. Losses are in runs along the
    rows of blocks. Not in the benchmark.
    """
    share = get_constants(BLOCK_LOSS, severity)
    height, width = image.shape[:2]
    rows, columns = -(-height // MACROBLOCK), -(-width // MACROBLOCK)
    uniform = rng.uniform(size=(rows, columns))
    # The four blocks of a run share one random number.
    uniform = np.repeat(uniform[:, ::4], 4, axis=1)[:, :columns]
    # At least one block is lost, also in a small image.
    lost = uniform <= max(share, float(uniform.min()))
    moves = np.round(rng.uniform(-1, 1, size=(rows, columns, 2)) * 1.5 * MACROBLOCK).astype(int)
    down, across = (
        np.kron(np.where(lost, moves[..., axis], 0), np.ones((MACROBLOCK, MACROBLOCK), int))
        for axis in (0, 1)
    )
    y = np.clip(np.arange(height)[:, np.newaxis] + down[:height, :width], 0, height - 1)
    x = np.clip(np.arange(width) + across[:height, :width], 0, width - 1)
    return np.ascontiguousarray(image[y, x])


def color_cast(image: Image, severity: float, rng: Random) -> Image:
    """Shift the white balance by gains of red and blue. Not in the benchmark.

    In a gray image the brightness changes by one of the gains.
    """
    max_change = get_constants(COLOR_CAST, severity)
    # Towards blue or towards orange, with a little magenta or green.
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    warm, tint = side * rng.uniform(0.7, 1.0), rng.uniform(-0.3, 0.3)
    gains = 1 + max_change * np.array([[warm + tint], [0.0], [-warm + tint]])
    gains = gains if image.ndim == 3 else gains[:1]
    return apply_table(image, to_uint8(np.arange(256) / 255.0 * gains))


def vignette(image: Image, severity: float, rng: Random) -> Image:
    """Darken towards the corners, like a wide-angle lens. Not in the benchmark."""
    loss = get_constants(VIGNETTE, severity)
    height, width = image.shape[:2]
    y = np.linspace(-1, 1, height)[:, np.newaxis] if height > 1 else np.zeros((1, 1))
    x = np.linspace(-1, 1, width) if width > 1 else np.zeros(1)
    light = 1 - loss * ((y**2 + x**2) / 2) ** 1.5
    return np.asarray((image * expand_like(light, image)).astype(np.uint8))
