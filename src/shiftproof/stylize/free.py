"""Style transfer without weights: the style's colors and strokes on the content's shapes.

From the style: the color distribution, texture patches at two scales, and the strength of each
scale. From the content: the positions of its edges. These pass the symmetric smoothing filter, and
the added texture has no low frequencies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftproof.stylize.contract import fit_size
from shiftproof.types import F32, F64, Image, Indices

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""

COMPARED_SIDE = 96
"""Height and width at which colors are compared, in pixels."""

MIN_CONTRAST = 0.13
"""Minimum deviation of gray values. A style of lower contrast is stretched to it, so that it
remains visible; a content of lower contrast is treated as having it, so that texture is added.
"""

MAX_STRETCH = 4.0
"""Maximum stretch of colors: for nearly gray content, more would amplify its noise."""

FLAT_VARIANCE = np.float32(2e-4)
"""Variances below this count as flat."""

STYLE_SIDE = 512
"""Maximum length of a style's shorter side, in pixels."""

MIN_STYLE_SIDE = 24
"""Minimum length of a style's shorter side, in pixels."""

CANDIDATES = 4096
"""Maximum number of candidate patches of the style."""


def free(content: Image, style: Image, alpha: float, rng: np.random.Generator) -> Image:
    """Return ``content`` in the style of ``style``; an engine for
    :func:`~shiftproof.stylize.stylize`.

    Args:
        content: ``(H, W, 3)`` uint8 RGB.
        style: ``(H', W', 3)`` uint8 RGB.
        alpha: strength of the style, 0..1.
        rng: chooses the part of the style, and among equal patches.
    """
    pixels = _to_float(content)
    example = _to_float(_fit_style(style, min(content.shape[:2]), rng))
    # A pixel's colors are mixed with its surroundings, so that grain is not amplified.
    side = min(content.shape[:2])
    base = transfer_colors(smooth_texture(pixels, _choose_radius(side)), example)
    result = base
    if side >= 2 * MIN_PATCH:
        result = _add_texture(base, example, _choose_patch_size(side), rng)
    mixed = pixels + np.float32(alpha) * (result - pixels)
    return np.asarray((np.clip(mixed, 0, 1) * 255 + 0.5).astype(np.uint8))


BLOCK = 64
"""Positions of the content compared with all candidates at a time: a megabyte, which fits the
cache.
"""

MIN_PATCH = 4

TEXTURE_SHARE = 0.5
"""Maximum ratio of the deviations of the texture's and the shapes' gray values."""


def _choose_patch_size(side: int) -> int:
    """Return the size of fine patches for an image whose shorter side is ``side``: 4, 8, ... 20."""
    return int(np.clip(4 * round(side / 90), MIN_PATCH, 20))


def _choose_radius(side: int) -> int:
    return int(np.clip(round(side / 100), 1, 6))


def _to_float(image: Image) -> F32:
    return np.asarray(image.astype(np.float32) / np.float32(255))


def _to_gray(picture: F32) -> F32:
    import cv2

    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def _fit_style(style: Image, side: int, rng: np.random.Generator) -> Image:
    """Scale a style so that its strokes suit an image of that side; elongated ones are cropped."""
    import cv2

    wanted = int(np.clip(side, MIN_STYLE_SIDE, STYLE_SIDE))
    height, width = style.shape[:2]
    part = 2 * min(height, width)
    place = rng.random()
    if width > part:
        start = int(place * (width - part))
        style = style[:, start : start + part]
    elif height > part:
        start = int(place * (height - part))
        style = style[start : start + part]
    height, width = style.shape[:2]
    mode = cv2.INTER_AREA if wanted < min(height, width) else cv2.INTER_CUBIC
    size = fit_size(width, height, wanted)
    return np.asarray(cv2.resize(style, size, interpolation=mode), np.uint8)


# ---------------------------------------------------------------- smoothing of the content


def smooth_texture(pixels: F32, radius: int) -> F32:
    """Return ``(H, W, 3)`` with texture smoothed out and edges kept sharp.

    The filter of Kuwahara with soft weights (Papari et al. 2007): a pixel is the weighted mean of
    four adjacent windows, in which flatter ones dominate.
    """
    import cv2

    from shiftproof.stylize import kernels

    def mean(values: F32) -> F32:
        # Mean of the window whose upper left corner is the pixel.
        size = (radius + 1, radius + 1)
        border = cv2.BORDER_REFLECT_101
        return np.asarray(
            cv2.boxFilter(values, -1, size, anchor=(0, 0), borderType=border), np.float32
        )

    gray = _to_gray(pixels)
    means, first, second = mean(pixels), mean(gray), mean(gray * gray)
    variance = np.maximum(second - first * first, 0)
    weight = np.asarray(1 / (variance + FLAT_VARIANCE) ** 2, np.float32)
    out = np.empty_like(pixels)
    kernels.average_windows(means, weight, radius, out)
    return out


# ---------------------------------------------------------------- colors


def transfer_colors(pixels: F32, example: F32) -> F32:
    """Give ``(H, W, 3)`` the colors of an example: mean, covariance, and the spread of lightness.

    The linear map of optimal transport between two normal distributions (Pitié and Kokaram 2007),
    and half of the way to the example's quantiles of gray.
    """
    import cv2

    size = (COMPARED_SIDE, COMPARED_SIDE)
    few = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)
    # Subsampled, not averaged: averages over strokes of different colors would be paler.
    seen = np.asarray(cv2.resize(example, size, interpolation=cv2.INTER_NEAREST), np.float32)
    mean, spread = _compute_moments(few)
    goal, goal_spread = _compute_moments(seen)
    have = float(np.einsum("i,ij,j->", LUMA, goal_spread, LUMA))
    goal_spread = goal_spread + max(MIN_CONTRAST**2 - have, 0)
    root = _compute_root(spread)
    inverse = np.linalg.inv(root)
    matrix = inverse @ _compute_root(root @ goal_spread @ root) @ inverse
    stretch = np.linalg.eigvalsh(matrix)[-1]
    matrix = matrix * min(MAX_STRETCH / stretch, 1.0)
    both = np.column_stack([matrix, goal - matrix @ mean]).astype(np.float32)
    moved = np.asarray(cv2.transform(pixels, both), np.float32)
    levels = np.linspace(0.01, 0.99, 25)
    gray = _to_gray(moved)
    own = np.quantile(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), levels)
    theirs = np.quantile(_to_gray(seen), levels)
    own = np.maximum.accumulate(own + 1e-4 * np.arange(len(levels)))
    change = np.interp(gray, own, 0.5 * (theirs - own)).astype(np.float32)
    return np.asarray(moved + change[..., np.newaxis], np.float32)


def _compute_moments(pixels: F32) -> tuple[F64, F64]:
    values = pixels.reshape(-1, 3).astype(np.float64)
    mean = values.mean(axis=0)
    centered = values - mean
    # einsum without BLAS: independent of the number of threads.
    return mean, np.einsum("ni,nj->ij", centered, centered) / len(values) + 1e-5 * np.eye(3)


def _compute_root(matrix: F64) -> F64:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


# ---------------------------------------------------------------- texture


def _add_texture(base: F32, example: F32, patch: int, rng: np.random.Generator) -> F32:
    """Add the texture of ``example`` to ``base``, coarse patches first."""
    coarse = _blur(example, patch / 3)
    coarsest = _blur(example, patch)
    # Less of the coarse texture, which is as large as small shapes and would hide them.
    layers = [(2 * patch, coarse - coarsest, 0.9), (patch, example - coarse, 1.2)]
    # And less if the texture is stronger than the shapes.
    contrast = max(float(_to_gray(base).std()), MIN_CONTRAST)
    strength = sum(amount**2 * float(_to_gray(detail).var()) for _, detail, amount in layers) ** 0.5
    share = min(1.0, TEXTURE_SHARE * contrast / max(strength, 1e-6))
    result = np.array(base)
    for size, detail, amount in layers:
        if min(base.shape[:2]) >= 2 * size and min(example.shape[:2]) >= 2 * size:
            _lay_over(result, example, detail, size, share * amount, rng)
    return result


def _blur(picture: F32, sigma: float) -> F32:
    """Blur by a Gaussian; a wide one is applied at lower resolution."""
    import cv2

    share = max(int(sigma / 3), 1)
    height, width = picture.shape[:2]
    small = cv2.resize(
        picture, (-(-width // share), -(-height // share)), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (0, 0), sigma / share)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)


def _lay_over(
    base: F32, example: F32, detail: F32, size: int, amount: float, rng: np.random.Generator
) -> None:
    """Add matching patches of ``detail`` to ``base``, overlapping by half."""
    from shiftproof.stylize import kernels

    height, width = base.shape[:2]
    step = size // 2
    rows, columns = -(-height // step) + 1, -(-width // step) + 1
    quarter = size // 4
    wanted = _compute_features(base, quarter, ((rows + 1) * 2, (columns + 1) * 2), size)
    theirs = _compute_features(example, quarter, None, size)
    tops, lefts = np.divmod(np.arange(theirs.shape[0] * theirs.shape[1]), theirs.shape[1])
    fits = (tops * quarter + size <= example.shape[0]) & (
        lefts * quarter + size <= example.shape[1]
    )
    chosen = np.flatnonzero(fits)
    if len(chosen) > CANDIDATES:
        chosen = np.sort(rng.choice(chosen, CANDIDATES, replace=False))
    pool = theirs.reshape(-1, theirs.shape[2])[chosen]
    goal = wanted[::2, ::2][:rows, :columns].copy()
    # In flat areas the flattest patches would be nearest, and the style would lose its texture. So
    # the content is blended with a part of the style: where it has no edges, the style's strokes
    # continue.
    down = _mirror(int(rng.integers(1 << 16)) + 2 * np.arange(rows), theirs.shape[0])
    right = _mirror(int(rng.integers(1 << 16)) + 2 * np.arange(columns), theirs.shape[1])
    goal[..., :16] += theirs[down[:, np.newaxis], right, :16]
    best = chosen[_find_nearest(goal.reshape(rows * columns, -1), pool)].reshape(rows, columns)
    ramp = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    # Weights sum to one, so that continued strokes show no seams.
    window = (ramp[:, np.newaxis] * ramp).astype(np.float32)
    kernels.lay_patches(
        detail, tops[best] * quarter, lefts[best] * quarter, window, step, amount, base
    )


def _find_nearest(goals: F32, pool: F32) -> Indices:
    """Return for each row of ``goals`` the nearest row of ``pool``, ties to the first."""
    half = -0.5 * np.einsum("ij,ij->i", pool, pool)
    # The squared distance without the goal's own norm, as one matrix product.
    columns = np.ascontiguousarray(np.column_stack([pool, half]).T, np.float32)
    rows = np.column_stack([goals, np.ones(len(goals), np.float32)])
    blocks = [rows[at : at + BLOCK] for at in range(0, len(rows), BLOCK)]
    return np.concatenate([(block @ columns).argmax(axis=1) for block in blocks])


def _compute_features(picture: F32, quarter: int, shape: tuple[int, int] | None, size: int) -> F32:
    """Return ``(rows, columns, K)`` of the patches that begin at each multiple of ``quarter``.

    A patch's 4 x 4 gray values minus their mean, its mean, and its two color differences, as
    integers of up to 7 bits: sums of their products are exact in float32 in any order, so the
    nearest patch does not depend on the number of threads.
    """
    import cv2

    height, width = picture.shape[:2]
    if shape is None:
        rows, columns = height // quarter, width // quarter
        covered = picture[: rows * quarter, : columns * quarter]
    else:
        rows, columns = shape
        before = size // 2
        below = max(rows * quarter - height - before, 0)
        right = max(columns * quarter - width - before, 0)
        bordered = np.asarray(
            cv2.copyMakeBorder(picture, before, below, before, right, cv2.BORDER_REFLECT_101),
            np.float32,
        )
        covered = bordered[: rows * quarter, : columns * quarter]
    shrunk = np.asarray(
        cv2.resize(covered, (columns, rows), interpolation=cv2.INTER_AREA), np.float32
    )
    small = np.pad(shrunk, ((0, 3), (0, 3), (0, 0)), mode="edge")
    gray = _to_gray(small)
    warm = small[..., 0] - small[..., 2]
    green = small[..., 1] - 0.5 * (small[..., 0] + small[..., 2])
    windows = np.lib.stride_tricks.sliding_window_view(gray, (4, 4)).reshape(rows, columns, 16)
    mean = windows.mean(axis=2, keepdims=True)
    middle = [plane[1 : 1 + rows, 1 : 1 + columns, np.newaxis] for plane in (warm, green)]
    parts = [220 * (windows - mean), 120 * (mean - 0.5), 60 * middle[0], 60 * middle[1]]
    whole = np.clip(np.round(np.concatenate(parts, axis=2)), -127, 127)
    return np.asarray(whole, np.float32)


def _mirror(places: NDArray[np.int_], count: int) -> NDArray[np.int_]:
    """Map unbounded indices to ``count`` by reflection."""
    turned = places % (2 * count)
    return np.where(turned < count, turned, 2 * count - 1 - turned)
