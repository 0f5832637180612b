"""Training the small detector from scratch; it goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.progress import progress
from shiftproof.io import files
from shiftproof.rng import generator
from shiftproof.types import Image, Settings
from shiftproof_reproduce import centrepoint
from shiftproof_reproduce.checkpoints import keep, take_up
from shiftproof_reproduce.schedule import one_cycle

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class DetectorTraining:
    """What decides the weights, beside the images.

    AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); the learning rate rises to ``peak_rate`` over
    the first ``warm_up`` of all steps and falls to 0, both along a cosine. Batches are mirrored by
    chance.
    """

    epochs: int = 10
    batch_size: int = 32
    peak_rate: float = 4e-3
    warm_up: float = 0.25
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    widths: tuple[int, ...] = centrepoint.WIDTHS
    seed: int = 0

    @property
    def settings(self) -> Settings:
        """All of it, as JSON takes it."""
        settings: Settings = json.loads(json.dumps(asdict(self)))
        return settings

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, of so many."""
        return one_cycle(step, steps, peak=self.peak_rate, warm_up=self.warm_up)


@dataclass(frozen=True, eq=False)
class Scenes:
    """Training images with their boxes.

    ``images`` square uint8 RGB of one size; ``boxes`` of each ``(N, 4)`` x, y, width, height in
    pixels; ``labels`` of each ``(N,)``.
    """

    images: Sequence[Image]
    boxes: Sequence[NDArray[np.float64]]
    labels: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Return 32 hex digits that change with any pixel, box or label."""
        return files.fingerprint(
            part.tobytes()
            for one in zip(self.images, self.boxes, self.labels, strict=True)
            for part in one
        )


def train_detector(
    scenes: Scenes,
    checkpoint: Path,
    training: DetectorTraining,
    *,
    title: str = "Training",
    show_progress: bool | None = None,
) -> torch.nn.Module:
    """Train a network, or go on with the training that ``checkpoint`` holds.

    A checkpoint is written after each epoch. Everything that is drawn depends on seed and epoch
    alone, so a training that was interrupted ends with the weights of one that was not. torch's
    global random state is left as it was.

    Args:
        scenes: what it is trained on.
        checkpoint: a ``.safetensors`` file; one of other settings or scenes is written over.
        training: what decides the weights.
        title: of the progress display.
        show_progress: None shows it on a terminal only.

    Returns:
        The network in evaluation mode.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = centrepoint.build_centrepoint(training.widths)
    parameters = dict(network.named_parameters())
    first = {name: torch.zeros_like(value) for name, value in parameters.items()}
    second = {name: torch.zeros_like(value) for name, value in parameters.items()}
    about = {"training": training.settings, "data": scenes.fingerprint()}
    learnt = {"network": network.state_dict(), "first": first, "second": second}
    done = take_up(checkpoint, about, learnt)
    steps = len(scenes) // training.batch_size
    with progress(title, training.epochs * steps, show=show_progress) as advance:
        advance(done * steps)
        for epoch in range(done, training.epochs):
            network.train()
            order = generator(training.seed, "training", str(epoch)).permutation(len(scenes))
            for step in range(steps):
                chosen = order[step * training.batch_size : (step + 1) * training.batch_size]
                mirrored = bool(
                    generator(training.seed, "mirror", f"{epoch} {step}").random() < 0.5
                )
                gradients = _gradients(network, parameters, scenes, chosen, mirrored)
                number = epoch * steps + step
                rate = training.rate(number, training.epochs * steps)
                _step(parameters, gradients, first, second, number + 1, rate, training)
                advance(note=f"epoch {epoch + 1} of {training.epochs}")
            keep(checkpoint, about, epoch + 1, learnt)
    return network.eval()


def _gradients(
    network: torch.nn.Module,
    parameters: Mapping[str, torch.nn.Parameter],
    scenes: Scenes,
    chosen: NDArray[np.int64],
    mirrored: bool,
) -> tuple[torch.Tensor, ...]:
    import torch

    images = np.stack([scenes.images[at] for at in chosen])
    boxes = [scenes.boxes[at] for at in chosen]
    side = images.shape[1]
    if mirrored:
        images = images[:, :, ::-1]
        boxes = [np.stack([side - b[:, 0] - b[:, 2], *b.T[1:]], axis=1) for b in boxes]
    scores, geometry, counts = centrepoint.targets(
        boxes, [scenes.labels[at] for at in chosen], side
    )
    batch = torch.from_numpy(centrepoint.prepared(images))
    maps = cast(centrepoint.Maps, network).maps(batch.contiguous(memory_format=torch.channels_last))
    loss = centrepoint.loss(
        maps, torch.from_numpy(scores), torch.from_numpy(geometry), torch.from_numpy(counts)
    )
    return torch.autograd.grad(loss, list(parameters.values()))


def _step(
    parameters: Mapping[str, torch.nn.Parameter],
    gradients: tuple[torch.Tensor, ...],
    first: Mapping[str, torch.Tensor],
    second: Mapping[str, torch.Tensor],
    number: int,
    rate: float,
    training: DetectorTraining,
) -> None:
    """Take one step of AdamW, as ``torch.optim.AdamW`` does; ``number`` counts from 1."""
    import torch

    b1, b2 = training.betas
    with torch.no_grad():
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            parameter.mul_(1 - rate * training.weight_decay)
            first[name].lerp_(gradient, 1 - b1)
            second[name].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            spread = (second[name] / (1 - b2**number)).sqrt_().add_(1e-8)
            parameter.addcdiv_(first[name], spread, value=-rate / (1 - b1**number))
