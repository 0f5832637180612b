"""A small grid after an epoch of training, on images that are held out."""

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
"""One of each group of the benchmark: enough to see a trend, and quick."""


@dataclass(frozen=True)
class EpochGrid:
    """What is measured after an epoch; a training loop of one's own calls :meth:`measure`.

    Attributes:
        data: labeled images that training does not see.
        preprocess: what an image becomes before the network.
        classes: what the outputs mean; numbered by default.
        corruptions: names; four by default, one of each group.
        severities: of 1 to 5.
        images: at most so many, the same ones in every epoch.
        every: so many epochs lie between two grids.
        batch_size: images per forward pass.
        out: folder in which each epoch's run is kept as ``epoch-0003``; None keeps none.
        front: what stands before the names of the figures.
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
    front: str = "shift/"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"Expected a grid every 1 epoch or more, got {self.every}.")

    def is_due(self, epoch: int) -> bool:
        """Whether a grid is measured after this epoch, of which the first is 0."""
        return (epoch + 1) % self.every == 0

    def measure(self, module: torch.nn.Module, epoch: int) -> dict[str, float]:
        """Measure a network as it is, and leave it as it was, on its device and in its mode.

        Returns:
            ``shift/clean``, ``shift/mean`` (errors, fractions), and the error of each corruption.

        Raises:
            InputError: data or network do not fit; nothing was measured.
        """
        with tempfile.TemporaryDirectory(prefix="shiftproof-") as temporary:
            folder = Path(temporary if self.out is None else self.out) / f"epoch-{epoch:04d}"
            run = self._run(module, folder)
            return {
                f"{self.front}{name}": value
                for name, value in list_figures(run.scores).items()
                if not name.endswith((".low", ".high"))
            }

    def _run(self, module: torch.nn.Module, folder: Path) -> Run:
        from shiftproof import bench
        from shiftproof.models import Classifier

        # The classifier is a twin in evaluation mode that shares the tensors: the network stays in its.
        classifier = Classifier(
            module, self.preprocess, self.classes, device=_device_of(module), name="network"
        )
        return bench.run(
            classifier, self.data, task=bench.Classification(), out=folder,
            corruptions=self.corruptions, severities=self.severities,
            images=self._count(), batch_size=self.batch_size, workers=0, show_progress=False,
        )  # fmt: skip

    def _count(self) -> int | None:
        there = len(self.data.samples)
        return None if self.images is None or self.images >= there else self.images


def _device_of(module: torch.nn.Module) -> str:
    first = next(module.parameters(), None)
    return "cpu" if first is None else str(first.device)
