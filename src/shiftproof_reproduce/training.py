"""Resumable training from scratch, with the same final weights after an interruption."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.progress import progress
from shiftproof.io import fingerprint, make_folder, write_bytes
from shiftproof.rng import generator
from shiftproof.types import Settings
from shiftproof_reproduce.network import PREPROCESS, WIDTHS, build_network
from shiftproof_reproduce.result import to_json

if TYPE_CHECKING:
    import torch


class Schedule(Protocol):
    """The learning-rate schedule that all training settings here have."""

    @property
    def epochs(self) -> int:
        """Number of epochs."""

    @property
    def peak_rate(self) -> float:
        """The largest learning rate."""

    @property
    def warm_up(self) -> float:
        """The share of all steps over which the rate rises."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training settings.

    SGD with Nesterov momentum on the cross-entropy; the learning rate rises to ``peak_rate`` over
    the first ``warm_up`` of all steps and falls to 0, both along a cosine. Images are randomly
    mirrored, and each batch is shifted by up to one pixel.
    """

    epochs: int = 12
    batch_size: int = 128
    peak_rate: float = 0.2
    warm_up: float = 0.25
    momentum: float = 0.9
    weight_decay: float = 5e-4
    widths: tuple[int, ...] = WIDTHS
    seed: int = 0


def train(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    checkpoint: Path,
    training: Training,
    *,
    show_progress: bool | None = None,
) -> torch.nn.Module:
    """Train a network, or resume the training in ``checkpoint``; return it in evaluation mode.

    Images are ``(N, 28, 28)`` uint8 and labels ``(N,)``. A checkpoint of other settings or images
    is overwritten.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = build_network(training.widths)
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=training.peak_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=True,
    )

    def measure_losses(epoch: int) -> Iterator[torch.Tensor]:
        for inputs, targets in draw_batches(images, labels, training, epoch):
            yield torch.nn.functional.cross_entropy(network(inputs), targets)

    about = {
        "training": to_json(training),
        "data": fingerprint([images.tobytes(), labels.tobytes()]),
    }
    return run_epochs(
        network,
        optimizer,
        measure_losses,
        training,
        steps=len(images) // training.batch_size,
        checkpoint=Checkpoint(checkpoint, about),
        show_progress=show_progress,
    )


def draw_batches(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], training: Training, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of an epoch, normalized and shifted; the last incomplete batch is
    dropped.
    """
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


# ---------------------------------------------------------------- for any network


def run_epochs(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    measure_losses: Callable[[int], Iterator[torch.Tensor]],
    schedule: Schedule,
    *,
    steps: int,
    checkpoint: Checkpoint,
    title: str = "Training",
    show_progress: bool | None = None,
) -> torch.nn.Module:
    """Train with one optimizer step per loss, resuming from the checkpoint.

    A checkpoint is written after each epoch. If the losses depend only on the weights and the
    epoch, an interrupted training ends with the same weights. ``measure_losses`` yields the
    ``steps`` losses of an epoch, counted from 0; the optimizer's rate is set before each step. The
    network is returned in evaluation mode.
    """
    import torch

    done = checkpoint.load(network, optimizer)
    total = schedule.epochs * steps
    with progress(title, total, show=show_progress) as advance:
        advance(done * steps)
        for epoch in range(done, schedule.epochs):
            network.train()
            for step, loss in enumerate(measure_losses(epoch)):
                rate = one_cycle(
                    epoch * steps + step, total, peak=schedule.peak_rate, warm_up=schedule.warm_up
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                torch.autograd.backward([loss])
                optimizer.step()
                advance(note=f"epoch {epoch + 1} of {schedule.epochs}")
            checkpoint.save(network, optimizer, epoch + 1)
    return network.eval()


def one_cycle(step: int, steps: int, *, peak: float, warm_up: float) -> float:
    """Return the learning rate of a step: from 0 up to ``peak`` and down to 0, both along a cosine.

    It rises over the share ``warm_up`` of all steps (Smith & Topin 2017, arXiv 1708.07120).

    >>> [round(one_cycle(step, 4, peak=1.0, warm_up=0.5), 3) for step in range(4)]
    [0.25, 0.75, 1.0, 0.5]
    """
    turn = warm_up * steps
    if step < turn:
        return peak * (1 - math.cos(math.pi * (step + 1) / (turn + 1))) / 2
    return peak * (1 + math.cos(math.pi * (step - turn) / (steps - turn))) / 2


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint file of a training.

    Attributes:
        path: path of the file.
        about: settings that determine the weights; a file with other settings is ignored.
    """

    path: Path
    about: Settings

    def load(self, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load network and optimizer, and return the number of finished epochs; 0 without a
        checkpoint.
        """
        import torch

        try:
            kept = torch.load(self.path, weights_only=True)
            if kept["about"] != self.about:
                return 0
            network.load_state_dict(kept["network"])
            optimizer.load_state_dict(kept["optimizer"])
            return int(kept["epochs"])
        except Exception:  # a damaged file may raise anything, and is overwritten
            return 0

    def save(self, network: torch.nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """Write the file, atomically."""
        import torch

        learned = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        content = io.BytesIO()
        torch.save({"about": self.about, "epochs": epochs, **learned}, content)
        write_bytes(make_folder(self.path.parent) / self.path.name, content.getvalue())
