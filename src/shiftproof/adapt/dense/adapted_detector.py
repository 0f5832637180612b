"""A detector that adapts to the images it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from shiftproof.adapt.dense.adapted_model import POINTS, AdaptedModel
from shiftproof.adapt.dense.methods import choose_method
from shiftproof.models.detectors.detector import Detector
from shiftproof.types import Detections, Image

if TYPE_CHECKING:
    from shiftproof.adapt.base.probabilities import Probabilities
    from shiftproof.adapt.dense.methods import Method


@final
class AdaptedDetector(AdaptedModel[Detector, Detections]):
    """A detector whose network adapts to the images it sees, without labels.

    It is itself a detector, and never changes the wrapped one. Each call of the network is one
    batch, so ``batch_size`` is the n of the papers. The methods
    (:data:`shiftproof.adapt.dense.methods.METHODS`):

    - ``batchnorm``: batch norm normalizes by the images (Schneider et al. 2020), with the batches,
      priors and layers of ``BatchNorm``. Layers that run on boxes, not images, take each call as a
      whole batch.
    - ``actmad``: matches the statistics of the features with those of clean images
      (:class:`ActMAD`).
    - ``ent``, ``rpl``: entropy or robust pseudo-labels of the class logits of proposals, default
      boxes or queries, for detectors with mutually exclusive classes (:class:`DenseLearning`); an
      error for others.
    - ``teacher``: learns from the confident boxes of a slow teacher (:class:`MeanTeacher`), if the
      network returns its training loss.

    With ``guard+`` before any of these, the original detector predicts while the adapted one seems
    worse. The class and score of the most confident box over each of 4 by 4 points of an image are
    compared, or "nothing" without a box.

    Args:
        detector: a detector on torch.
        adapter: a spec as the command line takes it, ``"batchnorm:prior=16"``, ``"guard+actmad"``;
            or an adapter of ``detector.module`` with ``run_batch``: ``BatchNorm``, ``ActMAD``.

    Raises:
        InputError: an adapter that learns from one prediction per image, or of another network.
        ModelError: the graph is fixed, as in an ONNX file, or the network cannot be adapted that
            way.

    >>> import torch
    >>> class Middle(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, images):
    ...         values = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images]).float()
    ...         mean = self.norm(values).abs().mean((1, 2, 3)).tolist()
    ...         return [Detections([[0, 0, 4, 4]], [min(m, 1.0)], [0]) for m in mean]
    >>> images = [np.full((8, 8, 3), level, np.uint8) for level in (90, 110)]
    >>> adapted = AdaptedDetector(Detector(Middle(), ["thing"]), "batchnorm:prior=0")
    >>> [round(float(found.scores[0]), 2) for found in adapted.predict(images)]
    [1.0, 1.0]
    """

    def __init__(self, detector: Detector, adapter: Method | str = "batchnorm") -> None:
        method = choose_method(
            adapter, detector, Detector, "detector",
            why="The graph of an ONNX file is fixed; adapt the model that it was exported from.",
        )  # fmt: skip
        super().__init__(detector, method, role="detector")

    @property
    def detector(self) -> Detector:
        """The detector that is adapted."""
        return self._model

    def predict(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Detections]:
        """Adapt to each batch of images and return the detections; as ``Detector.predict``."""
        return self._predict(images, batch_size)

    def merge(self) -> Detector:
        """Return a plain detector with the learned state and the statistics of the last
        prediction.
        """
        return self._model.with_network(self._method.merge())

    def _look(self, network: Any, batch: list[Image]) -> tuple[Sequence[Detections], Probabilities]:
        found = self._model.predict_with(network, batch)
        rows = [
            look_at_points(one, image.shape[:2], len(self.classes))
            for one, image in zip(found, batch, strict=True)
        ]
        return found, np.concatenate(rows)


def look_at_points(found: Detections, size: Sequence[int], classes: int) -> Probabilities:
    """Return class scores at ``POINTS`` by ``POINTS`` points, spread evenly over an image.

    Args:
        found: the detections in the image.
        size: its height and width.
        classes: number of classes.

    Returns:
        ``(POINTS^2, classes + 1)``: the score of the most confident box over a point in the column
            of its class, and 1 minus the score in the last column, for no object.
    """
    at = (np.arange(POINTS) + 0.5) / POINTS
    y, x = (part.ravel() for part in np.meshgrid(at * size[0], at * size[1], indexing="ij"))
    rows = np.zeros((POINTS**2, classes + 1), np.float32)
    rows[:, -1] = 1
    for place in np.argsort(found.scores, kind="stable"):
        left, top, right, bottom = found.boxes[place]
        over = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        rows[over] = 0
        rows[over, found.labels[place]] = found.scores[place]
        rows[over, -1] = 1 - found.scores[place]
    return rows
