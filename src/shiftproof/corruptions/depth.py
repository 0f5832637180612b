"""3D common corruptions, which depend on depth (Kar et al. 2022, arXiv 2203.01441).

All constants from create_3dcc/ of their repository (EPFL-VILAB/3DCommonCorruptions).

A depth map is ``(H, W)`` floating, of the image's size, 0 at the camera; 1 stands for 15.6 m, as in
the published code, which divides Taskonomy's 16-bit depth (512 a meter) by 8,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random, get_constants
from shiftproof.corruptions.filters import expand_like
from shiftproof.errors import InputError
from shiftproof.types import F32, F64, Image

DepthFunction: TypeAlias = Callable[[Image, float, Random, F32], Image]
"""``(image, severity, rng, depth) -> image`` of the same shape."""

NEAREST = 1e-4
"""Minimum depth, since it is a divisor."""

METERS = 8000 / 512
"""Distance of a depth of 1."""

FOG_3D = (4.0, 8.0, 12.0, 16.0, 20.0)
"""alpha: a light is dimmed by the factor exp(-alpha depth)."""

PARTS = 8
"""Parts of equal area into which the depths are divided, nearest to farthest."""

NEAR_FOCUS = (3.0, 4.0, 5.0, 6.0, 7.0)
"""Aperture: sigma of the blur in pixels at infinite distance."""

FAR_FOCUS = (1.5, 2.5, 3.5, 4.5, 5.5)
"""Likewise; the focus is at the start of the last part."""

FLASH = (2.4, 1.4, 0.9, 0.6, 0.4)
"""Divisor of the reflected light."""

XY_MOTION_BLUR = (20, 30, 40, 50, 60)
Z_MOTION_BLUR = (20, 25, 30, 35, 38)
"""Number of averaged frames, of the 60 of a whole camera motion."""

MOTION_FRAMES = 60
"""Number of frames of a whole camera motion."""

MOTION_SIDE = 512
"""Side of the published frames, for which lengths in pixels are given."""


def _blend(image: Image, share: F64, color: float) -> Image:
    shares = expand_like(share, image)
    mixed = shares * image + (1 - shares) * color
    return np.asarray(np.clip(mixed + 1e-9, 0, 255).astype(np.uint8))


def fog_3d(image: Image, severity: float, rng: Random, depth: F32) -> Image:
    """Add fog of the image's mean value, denser with distance.

    Differs from the published code: the mean is of this image, not of its batch.
    """
    share = np.exp(-get_constants(FOG_3D, severity) * depth.astype(np.float64))
    return _blend(image, share, float(image.mean()))


def _smooth(image: F32, sigma: float) -> F32:
    """Smooth with a Gaussian truncated at 1.5 sigmas, the edge repeated."""
    import cv2

    size = int(3 * sigma) // 2 * 2 + 1
    if sigma < 0.1 or size == 1:
        return image
    weights = cv2.getGaussianKernel(size, sigma, cv2.CV_32F)
    smoothed = cv2.sepFilter2D(image, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smoothed, dtype=np.float32).reshape(image.shape)


def _refocus(image: Image, depth: F32, focus: int, aperture: float) -> Image:
    """Blur an image by its distance from the depth at which the part ``focus`` begins.

    At the ends of the parts the image is blurred by ``aperture |end - focus| / end``; a pixel
    between two ends is a blend of both.
    """
    ends = np.quantile(depth, np.arange(PARTS + 1) / PARTS)
    ends[0] -= NEAREST
    ends[-1] += NEAREST
    sigmas = aperture * np.abs(ends - ends[focus]) / np.maximum(ends, NEAREST)
    part = np.clip(np.searchsorted(ends, depth) - 1, 0, PARTS - 1)
    width = np.maximum(ends[part + 1] - ends[part], 1e-12)
    position = np.clip((depth - ends[part]) / width, 0, 1)
    weights = np.stack([1 - position**2, 1 - (1 - position) ** 2])
    weights /= weights.sum(axis=0)
    values = image.astype(np.float32)
    total = np.zeros(image.shape)
    # At most the image's side, since the sigma next to the camera is unbounded.
    for end, sigma in enumerate(np.minimum(sigmas, max(image.shape[:2]))):
        share = np.where(part == end, weights[0], 0) + np.where(part + 1 == end, weights[1], 0)
        if share.any():
            total += expand_like(share, image) * _smooth(values, sigma)
    return np.asarray(np.clip(total + 1e-4, 0, 255).astype(np.uint8))


def near_focus(image: Image, severity: float, rng: Random, depth: F32) -> Image:
    """Focus on the nearest objects; distant ones are blurred."""
    return _refocus(image, depth, 0, get_constants(NEAR_FOCUS, severity))


def far_focus(image: Image, severity: float, rng: Random, depth: F32) -> Image:
    """Focus on the farthest eighth; near objects are blurred."""
    return _refocus(image, depth, PARTS - 1, get_constants(FAR_FOCUS, severity))


def _shade(depth: F32) -> F64:
    """Return the reflected light of a lamp at the camera, ``(H, W)`` in 0..1.

    By Lambert's law, with surface normals from the depth, at a focal length of one side.
    """
    height, width = depth.shape
    if min(height, width) < 2:
        return np.ones(depth.shape)
    focal_length = float(max(height, width))
    y = ((np.arange(height) - (height - 1) / 2) / focal_length)[:, np.newaxis]
    x = (np.arange(width) - (width - 1) / 2) / focal_length
    distance = np.maximum(depth.astype(np.float64), NEAREST)
    rays = np.stack(np.broadcast_arrays(x, y, np.ones(depth.shape)), axis=-1)
    points = rays * distance[..., np.newaxis]
    normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    lengths = np.linalg.norm(normals, axis=-1) * np.linalg.norm(rays, axis=-1)
    return np.asarray(np.abs((normals * rays).sum(axis=-1)) / np.maximum(lengths, 1e-12))


def flash(image: Image, severity: float, rng: Random, depth: F32) -> Image:
    """Light the scene by a flash at the camera.

    Differs from the published code: the shading is computed from the depth, not read from a file.
    """
    gain = expand_like(1 + _shade(depth) / get_constants(FLASH, severity), image)
    return np.asarray(np.clip(image * gain + 1e-9, 0, 255).astype(np.uint8))


def _average(image: Image, maps: Iterator[tuple[F32, F32]]) -> Image:
    """Average an image over frames, each resampled at its ``(columns, rows)``, the edge repeated."""
    import cv2

    total, count = np.zeros(image.shape), 0
    for columns, rows in maps:
        total += cv2.remap(
            image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).reshape(image.shape)
        count += 1
    return np.asarray((total / count + 1e-9).astype(np.uint8))


def _compute_closeness(depth: F32) -> F32:
    """Return the minimum depth over the depth: the motion relative to the nearest object's."""
    near = np.maximum(depth, NEAREST)
    return np.asarray(near.min() / near, dtype=np.float32)


def _draw_motion(rng: Random, low: int, high: int) -> float:
    return float(low + draws.index(rng, high - low))


def xy_motion_blur(image: Image, severity: float, rng: Random, depth: F32) -> Image:
    """Move the camera sideways during the exposure: near objects move farther.

    Differs from the published code, which renders points in space and fills in disoccluded parts:
    here every pixel is resampled at a position shifted by its own depth.
    """
    frames = get_constants(XY_MOTION_BLUR, severity)
    scale = min(image.shape[:2]) / MOTION_SIDE
    side = 1 if draws.index(rng, 2) else -1
    right = side * _draw_motion(rng, 50, 75) * scale
    down = _draw_motion(rng, -75, 75) * scale
    closeness = _compute_closeness(depth)
    rows, columns = np.indices(depth.shape, dtype=np.float32)

    def list_maps() -> Iterator[tuple[F32, F32]]:
        for frame in range(frames):
            share = np.float32(frame / (MOTION_FRAMES - 1))
            yield (
                columns + share * np.float32(right) * closeness,
                rows + share * np.float32(down) * closeness,
            )

    return _average(image, list_maps())


def z_motion_blur(image: Image, severity: float, rng: Random, depth: F32) -> Image:
    """Move the camera forwards during the exposure: near objects grow faster.

    Over the whole move the camera gets as close as 0.5 to 0.6 of its distance from the nearest
    object, and moves up to 30 of 512 pixels sideways.

    Differs from the published code as ``xy_motion_blur`` does.
    """
    frames = get_constants(Z_MOTION_BLUR, severity)
    scale = min(image.shape[:2]) / MOTION_SIDE
    right, down = (_draw_motion(rng, -30, 30) * scale for _ in range(2))
    final_distance = float(rng.uniform(0.5, 0.6))
    closeness = _compute_closeness(depth)
    rows, columns = np.indices(depth.shape, dtype=np.float32)
    center = np.float32((depth.shape[0] - 1) / 2), np.float32((depth.shape[1] - 1) / 2)

    def list_maps() -> Iterator[tuple[F32, F32]]:
        for frame in range(frames):
            share = frame / (MOTION_FRAMES - 1)
            shrinkage = 1 - np.float32(share * (1 - final_distance)) * closeness
            yield (
                center[1]
                + (columns - center[1]) * shrinkage
                + np.float32(share * right) * closeness,
                center[0] + (rows - center[0]) * shrinkage + np.float32(share * down) * closeness,
            )

    return _average(image, list_maps())


FUNCTIONS: dict[str, DepthFunction] = {
    "near_focus": near_focus,
    "far_focus": far_focus,
    "fog_3d": fog_3d,
    "flash": flash,
    "xy_motion_blur": xy_motion_blur,
    "z_motion_blur": z_motion_blur,
}
"""The corruptions that need a depth map, by name."""


def check_depth(depth: object, image: Image, name: str) -> F32:
    """Check a depth map and return it as float32.

    Raises:
        InputError: no depth map, or one of another size, or with values that are negative or not finite.
    """
    if depth is None:
        raise InputError(
            f"{name} needs a depth map: corrupt(..., depth=...), an array (H, W), 0 at the camera and 1 "
            f"at {METERS:.1f} m; on the command line --depth FOLDER or --depth onnx:FILE."
        )
    array = np.asarray(depth)
    if array.dtype.kind != "f" or array.shape != image.shape[:2]:
        raise InputError(
            f"Expected depth as a floating array {image.shape[:2]}, the size of the image; got "
            f"{array.dtype} {array.shape}."
        )
    if not np.isfinite(array).all() or array.min() < 0:
        raise InputError("Expected depths that are finite and 0 or more.")
    return np.ascontiguousarray(array, dtype=np.float32)
