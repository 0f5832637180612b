"""A detector that adapts its batch-norm statistics to the images it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from shiftproof.adapt.statistics_alone import StatisticsAlone, batch_norm_of
from shiftproof.errors import ModelError
from shiftproof.models.detectors.detector import Detector
from shiftproof.models.structure import is_torch_module
from shiftproof.types import Detections, Image

if TYPE_CHECKING:
    from shiftproof.adapt.batchnorm import BatchNorm


@final
class AdaptedDetector(StatisticsAlone[Detector, Detections]):
    """A detector whose batch-norm layers normalize by the images they see (Schneider et al. 2020).

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
        super().__init__(
            detector,
            batch_norm_of(
                detector.module, adapter, what="detector", gives="a detector gives boxes"
            ),
            role="detector",
        )

    @property
    def detector(self) -> Detector:
        """The detector that is adapted."""
        return self._model

    def predict(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Detections]:
        """Adapt to each batch of images and return what is found; as ``Detector.predict``."""
        return self._predict(images, batch_size)

    def merge(self) -> Detector:
        """Return a plain detector whose batch norm has the statistics of the last prediction."""
        return self._model.with_network(self._batchnorm.merge())
