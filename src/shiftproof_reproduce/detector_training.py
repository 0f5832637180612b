"""Resumable training of the small detector from scratch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shiftproof.io import fingerprint
from shiftproof.rng import generator
from shiftproof.types import Image
from shiftproof_reproduce import center_points
from shiftproof_reproduce.result import to_json
from shiftproof_reproduce.training import Checkpoint, run_epochs

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class DetectorTraining:
    """Training settings.

    AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); the learning rate rises to ``peak_rate``
    over the first ``warm_up`` of all steps and falls to 0, both along a cosine. Batches are
    randomly mirrored.
    """

    epochs: int = 10
    batch_size: int = 32
    peak_rate: float = 4e-3
    warm_up: float = 0.25
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    widths: tuple[int, ...] = center_points.WIDTHS
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Scenes:
    """Training images with their boxes.

    ``images`` are square uint8 RGB of one size; ``boxes`` ``(N, 4)`` per image, x, y, width, height
    in pixels; ``labels`` ``(N,)`` per image.
    """

    images: Sequence[Image]
    boxes: Sequence[NDArray[np.float64]]
    labels: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Return 32 hex digits that change with any pixel, box or label."""
        scenes = zip(self.images, self.boxes, self.labels, strict=True)
        return fingerprint(part.tobytes() for scene in scenes for part in scene)


def train_detector(
    scenes: Scenes,
    checkpoint: Path,
    training: DetectorTraining,
    *,
    title: str = "Training",
    show_progress: bool | None = None,
) -> torch.nn.Module:
    """Train a network, or resume the training in ``checkpoint``; return it in evaluation mode.

    A checkpoint of other settings or scenes is overwritten.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = center_points.build_network(training.widths)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=training.peak_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
    )

    def measure_losses(epoch: int) -> Iterator[torch.Tensor]:
        for chosen, mirrored in draw_steps(len(scenes), training, epoch):
            yield measure_loss(network, scenes, chosen, mirrored=mirrored)

    return run_epochs(
        network,
        optimizer,
        measure_losses,
        training,
        steps=len(scenes) // training.batch_size,
        checkpoint=Checkpoint(
            checkpoint, {"training": to_json(training), "data": scenes.fingerprint()}
        ),
        title=title,
        show_progress=show_progress,
    )


def draw_steps(
    count: int, training: DetectorTraining, epoch: int
) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Yield the scenes of each step of an epoch, and whether they are mirrored."""
    order = generator(training.seed, "training", str(epoch)).permutation(count)
    for step in range(count // training.batch_size):
        chosen = order[step * training.batch_size : (step + 1) * training.batch_size]
        yield chosen, bool(generator(training.seed, "mirror", f"{epoch} {step}").random() < 0.5)


def measure_loss(
    network: torch.nn.Module, scenes: Scenes, chosen: NDArray[np.int64], *, mirrored: bool
) -> torch.Tensor:
    """Return the loss of a network on some scenes."""
    import torch

    images = np.stack([scenes.images[at] for at in chosen])
    boxes = [scenes.boxes[at] for at in chosen]
    side = images.shape[1]
    if mirrored:
        images = images[:, :, ::-1]
        boxes = [np.stack([side - b[:, 0] - b[:, 2], *b.T[1:]], axis=1) for b in boxes]
    targets = center_points.draw_targets(boxes, [scenes.labels[at] for at in chosen], side)
    maps = center_points.compute_maps(network, center_points.normalize(images))
    return center_points.measure_loss(maps, *map(torch.from_numpy, targets))
