"""A small detector with batch norm that finds objects by their center points.

As in CenterNet (Zhou, Wang & Krähenbühl 2019, arXiv 1904.07850): a map of scores per class whose
peaks are the centers of objects, and beside it their sizes and the rest of the center's position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from shiftproof import Detections, Detector
from shiftproof.errors import InputError
from shiftproof.types import Image
from shiftproof_reproduce.fashion import CLASSES

if TYPE_CHECKING:
    import torch

STRIDE = 8
"""Pixels of the image per cell of the maps."""

WIDTHS = (16, 32, 64, 96)
"""Channels of the stem and of the three stages behind it."""

MEAN, DEVIATION = 0.45, 0.25
"""Mean and deviation of the input in 0..1, for all channels."""

SIZE_UNIT = 32.0
"""Unit of box sizes in pixels: about the side of a typical item."""

MAX_DETECTIONS = 30
"""Maximum number of boxes per image."""

NMS_THRESHOLD = 0.5
"""IoU threshold of non-maximum suppression within a class."""


class _Maps(Protocol):
    def maps(self, batch: torch.Tensor) -> torch.Tensor: ...


def build_network(widths: tuple[int, ...] = WIDTHS) -> torch.nn.Module:
    """Return the network with new weights, drawn from torch's global state.

    Its ``maps`` go from ``(N, 3, H, W)`` floats to ``(N, K + 4, H / 8, W / 8)``: the logits of K
    classes, then x and y of the center within its cell, and the logarithms of width and height.
    Called with a list of uint8 RGB images of one size, a multiple of 8, it gives ``Detections``.
    """
    import torch
    from torch import nn

    def block(channels: int, width: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.path = nn.Sequential(
                block(width, width, 1),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
            )

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.path(inputs) + inputs)

    class CenterPoints(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            stem, first, second, third = widths
            self.features = nn.Sequential(
                block(3, stem, 2),
                block(stem, first, 2),
                Residual(first),
                block(first, second, 2),
                Residual(second),
                block(second, third, 1),
                Residual(third),
            )
            self.head = nn.Conv2d(third, len(CLASSES) + 4, 1)
            # Initial probability of an object of 1 % in each cell.
            nn.init.constant_(cast("torch.Tensor", self.head.bias)[: len(CLASSES)], -4.6)

        def maps(self, batch: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.head(self.features(batch))
            return maps

        def forward(self, images: Sequence[Image]) -> list[Detections]:
            maps = compute_maps(self, normalize(images))
            return decode(maps.detach().float().cpu().numpy())

    return CenterPoints().to(memory_format=torch.channels_last)


def compute_maps(network: torch.nn.Module, pixels: NDArray[np.float32]) -> torch.Tensor:
    """Return the maps ``(N, K + 4, H / 8, W / 8)`` for ``(N, 3, H, W)`` normalized pixels."""
    import torch

    weight = next(network.parameters())
    batch = torch.from_numpy(pixels).to(weight.device, weight.dtype)
    return cast(_Maps, network).maps(batch.contiguous(memory_format=torch.channels_last))


def normalize(images: Sequence[Image] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``(N, 3, H, W)`` float32, normalized.

    Raises:
        InputError: images of several sizes, or of a size that is not a multiple of 8.
    """
    shapes = {image.shape for image in images}
    if len(shapes) != 1 or any(side % STRIDE for side in next(iter(shapes))[:2]):
        raise InputError(
            f"Expected images of one size, a multiple of {STRIDE}, got {sorted(shapes)!r:.80}."
        )
    values = np.stack(list(images)).astype(np.float32).transpose(0, 3, 1, 2)
    values *= np.float32(1 / (255 * DEVIATION))
    values -= np.float32(MEAN / DEVIATION)
    return np.ascontiguousarray(values)


def draw_targets(
    boxes: Sequence[NDArray[np.float64]], labels: Sequence[NDArray[np.int64]], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return the target maps of some images.

    Args:
        boxes: for each image ``(N, 4)`` x, y, width, height in pixels.
        labels: for each image ``(N,)`` classes.
        side: height and width of the images in pixels.

    Returns:
        Scores ``(I, K, S, S)`` in 0..1, 1 at each center with a Gaussian around it; the other four
        maps ``(I, 4, S, S)``; and a mask ``(I, S, S)`` of the cells where these count.
    """
    cells = side // STRIDE
    scores = np.zeros((len(boxes), len(CLASSES), cells, cells), dtype=np.float32)
    geometry = np.zeros((len(boxes), 4, cells, cells), dtype=np.float32)
    counts = np.zeros((len(boxes), cells, cells), dtype=np.bool_)
    grid = np.arange(cells)
    for at, (positions, classes) in enumerate(zip(boxes, labels, strict=True)):
        for (x, y, w, h), label in zip(positions, classes, strict=True):
            center_x, center_y = (x + w / 2) / STRIDE, (y + h / 2) / STRIDE
            column, row = min(int(center_x), cells - 1), min(int(center_y), cells - 1)
            # A box whose center is a third of the spread away still overlaps the object well.
            spread = w / STRIDE / 7 + 0.2, h / STRIDE / 7 + 0.2
            around = np.exp(
                -((grid - column) ** 2) / (2 * spread[0] ** 2)
                - (grid[:, None] - row) ** 2 / (2 * spread[1] ** 2)
            )
            scores[at, label] = np.maximum(scores[at, label], around)
            near = around >= 0.3
            geometry[at, 0][near] = (center_x - grid[None, :]).repeat(cells, 0)[near]
            geometry[at, 1][near] = (center_y - grid[:, None]).repeat(cells, 1)[near]
            geometry[at, 2][near] = np.log(w / SIZE_UNIT)
            geometry[at, 3][near] = np.log(h / SIZE_UNIT)
            counts[at] |= near
    return scores, geometry, counts


def measure_loss(
    maps: torch.Tensor, scores: torch.Tensor, geometry: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Return the loss of some images: focal loss of the scores, L1 loss of the rest.

    The focal loss is that of CornerNet (Law & Deng 2018, arXiv 1808.01244, eq. 1, with exponents 2
    and 4).
    """
    import torch
    from torch.nn import functional

    classes = scores.shape[1]
    logits = maps[:, :classes]
    probability = torch.sigmoid(logits)
    at_center = (scores == 1).to(maps.dtype)
    right = functional.logsigmoid(logits) * (1 - probability) ** 2 * at_center
    wrong = functional.logsigmoid(-logits) * probability**2 * (1 - scores) ** 4 * (1 - at_center)
    objects = at_center.sum().clamp(min=1)
    focal = -(right + wrong).sum() / objects
    distance = (maps[:, classes:] - geometry).abs() * counts[:, None]
    return focal + distance.sum() / counts.sum().clamp(min=1)


def decode(maps: NDArray[np.float32]) -> list[Detections]:
    """Decode maps ``(N, K + 4, S, S)`` to detections."""
    classes = len(CLASSES)
    found = []
    for one in maps:
        scores = 1 / (1 + np.exp(-one[:classes].astype(np.float64)))
        labels, rows, columns = np.nonzero(_find_peaks(scores) & (scores > 0.005))
        score = scores[labels, rows, columns]
        best = np.argsort(-score, kind="stable")[: 4 * MAX_DETECTIONS]
        labels, rows, columns, score = labels[best], rows[best], columns[best], score[best]
        dx, dy, log_w, log_h = one[classes:, rows, columns].astype(np.float64)
        x, y = (columns + dx) * STRIDE, (rows + dy) * STRIDE
        w = SIZE_UNIT * np.exp(np.clip(log_w, -4, 4))
        h = SIZE_UNIT * np.exp(np.clip(log_h, -4, 4))
        boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
        corners = np.stack([x - w / 2, y - h / 2, w, h], axis=1).tolist()
        kept = list(
            cv2.dnn.NMSBoxesBatched(corners, score.tolist(), labels.tolist(), 0.0, NMS_THRESHOLD)
        )[:MAX_DETECTIONS]
        found.append(Detections(boxes[kept], score[kept], labels[kept]))
    return found


def _find_peaks(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where a score is the maximum of its 3 x 3 neighborhood in its class."""
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)))
    rows, columns = scores.shape[1:]
    largest: Any = np.max(
        [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0
    )
    return np.asarray(scores >= largest)


def wrap_detector(network: torch.nn.Module, name: str) -> Detector:
    """Wrap the network as a detector."""
    return Detector(network, CLASSES, name=name)
