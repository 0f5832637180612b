"""Training from scratch that goes on where it was interrupted, with the same weights in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.progress import progress
from shiftproof.io import files
from shiftproof.rng import generator
from shiftproof.types import Settings
from shiftproof_reproduce.checkpoints import keep, take_up
from shiftproof_reproduce.network import PREPROCESS, WIDTHS, build_network
from shiftproof_reproduce.schedule import one_cycle

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Training:
    """What decides the weights, beside the images.

    SGD with Nesterov momentum on the cross-entropy; the learning rate rises to ``peak_rate`` over
    the first ``warm_up`` of all steps and falls to 0, both along a cosine (Smith & Topin 2017,
    arXiv 1708.07120). Images are mirrored by chance, and each batch is moved by up to one pixel.
    """

    epochs: int = 12
    batch_size: int = 128
    peak_rate: float = 0.2
    warm_up: float = 0.25
    momentum: float = 0.9
    weight_decay: float = 5e-4
    widths: tuple[int, ...] = WIDTHS
    seed: int = 0

    @property
    def settings(self) -> Settings:
        """All of it, as JSON takes it."""
        settings: Settings = json.loads(json.dumps(asdict(self)))
        return settings

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, of so many."""
        return one_cycle(step, steps, peak=self.peak_rate, warm_up=self.warm_up)


def train(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    checkpoint: Path,
    training: Training,
    *,
    show_progress: bool | None = None,
) -> torch.nn.Module:
    """Train a network, or go on with the training that ``checkpoint`` holds.

    A checkpoint is written after each epoch. Everything that is drawn depends on seed and epoch
    alone, so a training that was interrupted ends with the weights of one that was not. torch's
    global random state is left as it was.

    Args:
        images: ``(N, 28, 28)`` uint8.
        labels: ``(N,)`` integers.
        checkpoint: a ``.safetensors`` file; one of other settings or images is written over.
        training: what decides the weights.
        show_progress: None shows it on a terminal only.

    Returns:
        The network in evaluation mode.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = build_network(training.widths)
    network.to(memory_format=torch.channels_last)
    parameters = dict(network.named_parameters())
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    about = {
        "training": training.settings,
        "data": files.fingerprint([images.tobytes(), labels.tobytes()]),
    }
    learnt = {"network": network.state_dict(), "velocity": velocity}
    done = take_up(checkpoint, about, learnt)
    steps = len(images) // training.batch_size
    with progress("Training", training.epochs * steps, show=show_progress) as advance:
        advance(done * steps)
        for epoch in range(done, training.epochs):
            network.train()
            rates = [
                training.rate(epoch * steps + step, training.epochs * steps)
                for step in range(steps)
            ]
            for rate, (inputs, targets) in zip(
                rates, _batches(images, labels, training, epoch), strict=True
            ):
                loss = torch.nn.functional.cross_entropy(network(inputs), targets)
                gradients = torch.autograd.grad(loss, list(parameters.values()))
                _step(parameters, gradients, velocity, rate, training)
                advance(note=f"epoch {epoch + 1} of {training.epochs}")
            keep(checkpoint, about, epoch + 1, learnt)
    return network.eval()


def _step(
    parameters: dict[str, torch.nn.Parameter],
    gradients: tuple[torch.Tensor, ...],
    velocity: dict[str, torch.Tensor],
    rate: float,
    training: Training,
) -> None:
    """Take one step of SGD with Nesterov momentum, as ``torch.optim.SGD`` does."""
    import torch

    with torch.no_grad():
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            pulled = gradient.add(parameter, alpha=training.weight_decay)
            moved = velocity[name].mul_(training.momentum).add_(pulled)
            parameter.add_(pulled.add(moved, alpha=training.momentum), alpha=-rate)


def _batches(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], training: Training, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of an epoch, normalised and moved; images that fill none are left out."""
    import torch

    random = generator(training.seed, "training", str(epoch))
    order = random.permutation(len(images))
    for start in range(0, len(images) - training.batch_size + 1, training.batch_size):
        chosen = order[start : start + training.batch_size]
        batch = images[chosen]
        mirrored = random.random(len(batch)) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
        down, right = random.integers(-1, 2, 2)
        values = np.roll(batch, (down, right), (1, 2)).astype(np.float32)
        values /= np.float32(255)
        values -= np.float32(PREPROCESS.mean[0])
        values /= np.float32(PREPROCESS.std[0])
        inputs = torch.from_numpy(values[:, None]).contiguous(memory_format=torch.channels_last)
        yield inputs, torch.from_numpy(labels[chosen].astype(np.int64))
