"""The augmentations of SimCLR with known parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

SHARED = ("x", "y", "size", "flip", "brightness", "contrast", "blur")
COLORED = ("saturation", "hue")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """The augmentations of SimCLR (Chen et al. 2020, arXiv 2002.05709), each with one number.

    Args:
        least_area: minimum area of the square crop, as a share of the image.
        jitter: brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter, and
            the hue is rotated by up to a fifth of jitter of a full turn.
        most_blur: maximum standard deviation of the blur, as a share of the side.
    """

    least_area: float = 0.2
    jitter: float = 0.5
    most_blur: float = 0.04

    @staticmethod
    def names(channels: int) -> tuple[str, ...]:
        """Return the names of the parameters in order; color images have two more."""
        return SHARED + (COLORED if channels == 3 else ())

    def draw(self, count: int, channels: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Draw ``(count, P)`` parameters.

        x and y are the crop's center, -1 to 1 from edge to edge of the image; size its side as a
        share of the image's; flip 0 or 1; brightness, contrast and saturation factors; blur a
        standard deviation as a share of the side; hue in turns.
        """
        size = np.sqrt(random.uniform(self.least_area, 1, count))
        room = 1 - size
        columns = [
            room * random.uniform(-1, 1, count),
            room * random.uniform(-1, 1, count),
            size,
            random.integers(0, 2, count),
            random.uniform(1 - self.jitter, 1 + self.jitter, count),
            random.uniform(1 - self.jitter, 1 + self.jitter, count),
            random.uniform(0, self.most_blur, count),
        ]
        if channels == 3:
            columns.append(random.uniform(1 - self.jitter, 1 + self.jitter, count))
            columns.append(random.uniform(-self.jitter / 5, self.jitter / 5, count))
        return np.stack(columns, axis=1).astype(np.float32)


def apply(images: torch.Tensor, parameters: torch.Tensor, *, side: int) -> torch.Tensor:
    """Return the views of images: cropped and mirrored, then their colors, then the blur.

    Args:
        images: ``(N, C, H, W)`` floating in 0..1, C 1 or 3.
        parameters: ``(N, P)`` from ``Augment.draw``.
        side: height and width of the views.

    Returns:
        ``(N, C, side, side)`` in 0..1.
    """
    import torch

    x, y, size, flip, brightness, contrast, blur = parameters[:, :7].unbind(1)
    matrix = parameters.new_zeros(len(images), 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = size * (1 - 2 * flip), size
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    grid = torch.nn.functional.affine_grid(
        matrix, [len(images), images.shape[1], side, side], align_corners=False
    )
    views = torch.nn.functional.grid_sample(
        images, grid, padding_mode="border", align_corners=False
    )
    views = (views * _expand(brightness)).clamp(0, 1)
    mean = _to_gray(views).mean((2, 3), keepdim=True)
    views = ((views - mean) * _expand(contrast) + mean).clamp(0, 1)
    if images.shape[1] == 3:
        saturation, hue = parameters[:, 7:9].unbind(1)
        gray = _to_gray(views)
        views = ((views - gray) * _expand(saturation) + gray).clamp(0, 1)
        views = _rotate_hue(views, hue).clamp(0, 1)
    return _blur(views, blur * side)


def _expand(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _to_gray(views: torch.Tensor) -> torch.Tensor:
    if views.shape[1] == 1:
        return views
    weights = views.new_tensor([0.299, 0.587, 0.114])  # luma, ITU-R BT.601
    return (views * weights[:, None, None]).sum(1, keepdim=True)


def _rotate_hue(views: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Rotate the colors around the gray axis."""
    import torch

    angle = 2 * torch.pi * turns
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    third = views.new_full((3, 3), 1 / 3)
    root = 3**-0.5
    cross = views.new_tensor([[0, -root, root], [root, 0, -root], [-root, root, 0]])
    turn = cosine * torch.eye(3, device=views.device) + sine * cross + (1 - cosine) * third
    return torch.einsum("nij,njhw->nihw", turn, views)


def _blur(views: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Blur each view with its own Gaussian."""
    import torch

    count, channels, side, _ = views.shape
    reach = max(1, min(side // 2, int(np.ceil(2.5 * float(deviation.max())))))
    places = torch.arange(-reach, reach + 1, device=views.device)
    kernel = torch.exp(-0.5 * (places / deviation.clamp(min=0.1)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = views.reshape(1, count * channels, side, side)
    for across in (True, False):
        shape = (count * channels, 1, 1, -1) if across else (count * channels, 1, -1, 1)
        padding = (reach, reach, 0, 0) if across else (0, 0, reach, reach)
        padded = torch.nn.functional.pad(flat, padding, mode="replicate")
        flat = torch.nn.functional.conv2d(padded, kernel.view(shape), groups=count * channels)
    return flat.view(count, channels, side, side)
