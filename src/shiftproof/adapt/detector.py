"""A detector that adapts its batch-norm statistics to the images it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast, final

from shiftproof.adapt.events import Event
from shiftproof.adapt.table import make_adapter
from shiftproof.classes import Classes
from shiftproof.errors import InputError, ModelError
from shiftproof.models.detectors.detector import Detector
from shiftproof.models.structure import is_torch_module
from shiftproof.types import Detections, Image, Settings

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.adapter import State
    from shiftproof.adapt.batchnorm import BatchNorm


@final
class AdaptedDetector:
    """A detector whose batch-norm layers normalise by the images they see (Schneider et al. 2020).

    It is a detector, and wraps one, which it never changes; what ``BatchNorm`` says of batches,
    priors and layers holds. Each call of the network is one batch, so ``batch_size`` is the n of the
    paper. Layers that are called with boxes and not with images count each call as the whole batch.

    Self-learning has no published form for detectors: what a pseudo-label of a box is, and what its
    loss, is another question than that of this package's papers.

    Args:
        detector: a detector on torch.
        adapter: a spec of ``batchnorm`` as the command line takes it, ``"batchnorm:prior=16"``; or
            a ``BatchNorm`` of ``detector.module``.

    Raises:
        InputError: an adapter that learns from classes, or none of this detector's network.
        ModelError: the graph is fixed, as in an ONNX file, or there is no batch norm.

    >>> import torch
    >>> class Middle(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, images):
    ...         values = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images]).float()
    ...         mean = self.norm(values).abs().mean((1, 2, 3)).tolist()
    ...         return [Detections([[0, 0, 4, 4]], [min(m, 1.0)], [0]) for m in mean]
    >>> import numpy as np
    >>> images = [np.full((8, 8, 3), level, np.uint8) for level in (90, 110)]
    >>> adapted = AdaptedDetector(Detector(Middle(), ["thing"]), "batchnorm:prior=0")
    >>> [round(float(found.scores[0]), 2) for found in adapted.predict(images)]
    [1.0, 1.0]
    """

    def __init__(self, detector: Detector, adapter: BatchNorm | str = "batchnorm") -> None:
        if not isinstance(detector, Detector) or not is_torch_module(detector.module):
            name = getattr(detector, "name", type(detector).__name__)
            raise ModelError(
                f"{name} cannot be adapted: expected a Detector around a torch.nn.Module. The graph "
                "of an ONNX file is fixed; adapt the model that it was exported from."
            )
        self._detector = detector
        self._batchnorm = _batch_norm(detector, adapter)

    def __repr__(self) -> str:
        return f"AdaptedDetector({self._detector!r}, {self._batchnorm!r})"

    @property
    def detector(self) -> Detector:
        """The detector that is adapted."""
        return self._detector

    @property
    def name(self) -> str:
        """The wrapped detector's name."""
        return self._detector.name

    @property
    def classes(self) -> Classes:
        """The wrapped detector's classes."""
        return self._detector.classes

    @property
    def settings(self) -> Settings:
        """What reproduces it, as JSON takes it; the wrapped detector's under ``detector``."""
        own = {k: v for k, v in self._batchnorm.settings.items() if k != "module"}
        return {**own, "detector": self._detector.settings}

    @property
    def events(self) -> Sequence[Event]:
        """Batches that were not finite and so did not count."""
        return self._batchnorm.events

    def predict(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Detections]:
        """Adapt to each batch of images and return what is found; as ``Detector.predict``."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: expected a number of 1 or more, got {batch_size!r}.")
        found: list[Detections] = []
        for start in range(0, len(images), batch_size):
            batch = list(images[start : start + batch_size])
            found += self._run_batch(batch)
        return found

    def _run_batch(self, batch: list[Image]) -> list[Detections]:
        return self._batchnorm.run_batch(
            lambda network: self._detector.through(network, batch), len(batch)
        )

    def frozen(self) -> AbstractContextManager[None]:
        """Predict with what has been learned, and a batch's own statistics as ever."""
        return self._batchnorm.frozen()

    def end_epoch(self) -> None:
        """With ``over="set"``: what this pass has collected is used from now on."""
        self._batchnorm.end_epoch()

    def reset(self) -> None:
        """Forget all images that were seen."""
        self._batchnorm.reset()

    def merge(self) -> Detector:
        """Return a plain detector whose batch norm has the statistics of the last prediction."""
        return self._detector.with_network(self._batchnorm.merge())

    def state(self) -> State:
        """Return the statistics that were learned."""
        return self._batchnorm.state()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up the statistics that another one of the same settings has learned."""
        self._batchnorm.load_state(state)


def _batch_norm(detector: Detector, adapter: BatchNorm | str) -> BatchNorm:
    from shiftproof.adapt.batchnorm import BatchNorm

    if isinstance(adapter, str):
        made = make_adapter(adapter, cast("torch.nn.Module", detector.module))
    else:
        made = adapter
    if not isinstance(made, BatchNorm):
        raise InputError(
            f"{adapter!r}: expected batchnorm with its options, which alone adapts a detector. The "
            "others learn from one answer per image, and a detector gives boxes."
        )
    return made
