"""Evaluating a small grid on held-out images after training epochs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof.classes import Classes
from shiftproof.errors import InputError
from shiftproof.integrations.logged import list_figures

if TYPE_CHECKING:
    import torch

    from shiftproof.data import ImageData
    from shiftproof.models import Preprocess
    from shiftproof.runs import Run

CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")
"""One corruption of each group of the benchmark: fast, and sufficient to see a trend."""


@dataclass(frozen=True)
class EpochGrid:
    """The evaluation after an epoch; custom training loops call :meth:`measure`.

    Attributes:
        data: labeled held-out images.
        preprocess: preprocessing of the network's images.
        classes: classes of the outputs; numbered by default.
        corruptions: names of corruptions; by default four, one of each group.
        severities: severities from 1 to 5.
        images: maximum number of images, the same in every epoch.
        every: interval between two evaluations, in epochs.
        batch_size: images per forward pass.
        out: folder for each epoch's run, such as ``epoch-0003``; None saves none.
        prefix: prefix of the metrics' names.
    """

    data: ImageData
    preprocess: Preprocess
    classes: Classes | Sequence[str] | None = None
    corruptions: Sequence[str] = CORRUPTIONS
    severities: Sequence[int] = (3,)
    images: int | None = 500
    every: int = 1
    batch_size: int = 64
    out: str | Path | None = None
    prefix: str = "shift/"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"Expected a grid every 1 epoch or more, got {self.every}.")

    def is_due(self, epoch: int) -> bool:
        """Return whether the grid is evaluated after this epoch, counted from 0."""
        return (epoch + 1) % self.every == 0

    def measure(self, module: torch.nn.Module, epoch: int) -> dict[str, float]:
        """Evaluate a network on its device, without changing it or its mode.

        Returns:
            ``shift/clean``, ``shift/mean`` (errors, fractions), and the error of each corruption.

        Raises:
            InputError: data and network do not match.
        """
        with tempfile.TemporaryDirectory(prefix="shiftproof-") as temporary:
            folder = Path(temporary if self.out is None else self.out) / f"epoch-{epoch:04d}"
            run = self._run(module, folder)
            return {
                f"{self.prefix}{name}": value
                for name, value in list_figures(run.scores).items()
                if not name.endswith((".low", ".high"))
            }

    def _run(self, module: torch.nn.Module, folder: Path) -> Run:
        from shiftproof import bench
        from shiftproof.models import Classifier

        # The classifier is a copy in evaluation mode that shares the tensors, so the network's mode
        # does not change.
        classifier = Classifier(
            module, self.preprocess, self.classes, device=_find_device(module), name="network"
        )
        return bench.run(
            classifier, self.data, task=bench.Classification(), out=folder,
            corruptions=self.corruptions, severities=self.severities,
            images=self._limit_images(), batch_size=self.batch_size, workers=0, show_progress=False,
        )  # fmt: skip

    def _limit_images(self) -> int | None:
        there = len(self.data.samples)
        return None if self.images is None or self.images >= there else self.images


def _find_device(module: torch.nn.Module) -> str:
    first = next(module.parameters(), None)
    return "cpu" if first is None else str(first.device)
