"""A segmenter that adapts to the images it predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from shiftproof.adapt.dense.adapted_model import POINTS, AdaptedModel
from shiftproof.adapt.dense.methods import choose_method
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.models.segmenters.windows import window_spans
from shiftproof.types import Image, LabelMap

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.base.probabilities import Probabilities
    from shiftproof.adapt.dense.methods import Method


@final
class AdaptedSegmenter(AdaptedModel[Segmenter, LabelMap]):
    """A segmenter whose network adapts to its images without labels.

    It is itself a segmenter, and never changes the wrapped one. The methods
    (:data:`shiftproof.adapt.dense.methods.METHODS`):

    - ``batchnorm``: batch norm normalizes by the images (Schneider et al. 2020). The statistics of
      a layer are over all positions of all images of a call, so a single image already has
      thousands of values; ``batch_size`` is the n of the paper.
    - ``ent``, ``rpl``: entropy or robust pseudo-labels of each pixel (:class:`DenseLearning`).
    - ``actmad``: matches the statistics of the features with those of clean images
      (:class:`ActMAD`).

    The network runs on images of different sizes, and on windows, one by one. ``batchnorm`` takes
    each such call as a whole batch; the others take one step for all calls of a batch.

    With ``guard+`` before any of these, the original segmenter predicts while the adapted one seems
    worse. The probabilities at 4 by 4 points of an image's maps are compared.

    Args:
        segmenter: a segmenter on torch.
        adapter: a spec as the command line takes it, ``"batchnorm:prior=16"``, ``"guard+ent"``; or
            an adapter of ``segmenter.module`` with ``run_batch``: ``BatchNorm``, ``DenseLearning``.

    Raises:
        InputError: an adapter that learns from one prediction per image, or of another network.
        ModelError: the graph is fixed, as in an ONNX file, or the network cannot be adapted that
            way.
    """

    def __init__(self, segmenter: Segmenter, adapter: Method | str = "batchnorm") -> None:
        method = choose_method(
            adapter, segmenter, Segmenter, "segmenter",
            why="A function hides its network, and the graph of an ONNX file is fixed.",
        )  # fmt: skip
        super().__init__(segmenter, method, role="segmenter")

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter that is adapted."""
        return self._model

    def predict(self, images: Sequence[Image], *, batch_size: int = 4) -> list[LabelMap]:
        """Adapt to each batch of images and return its label maps; as ``Segmenter.predict``."""
        return self._predict(images, batch_size)

    def merge(self) -> Segmenter:
        """Return a plain segmenter with the learned state and the statistics of the last
        prediction.
        """
        return self._model.with_network(self._method.merge())

    def _look(self, network: Any, batch: list[Image]) -> tuple[Sequence[LabelMap], Probabilities]:
        maps: list[torch.Tensor] = []
        handle = network.register_forward_hook(
            lambda _, __, outputs: maps.extend(_list_maps(outputs))
        )
        try:
            answers = self._model.predict_with(network, batch)
        finally:
            handle.remove()
        ends = np.cumsum([self._count_maps(image) for image in batch])
        per_image = [
            maps[end - self._count_maps(image) : end]
            for image, end in zip(batch, ends, strict=True)
        ]
        return answers, np.concatenate([_look_at_points(some) for some in per_image])

    def _count_maps(self, image: Image) -> int:
        """Return the number of calls of the network for an image: one, or one for each window."""
        framing = self._model.framing
        if framing.window is None or framing.stride is None:
            return 1
        sides = zip(framing.target(image.shape[:2]), framing.window, framing.stride, strict=True)
        return math.prod(len(window_spans(*side)) for side in sides)


def _list_maps(outputs: Any) -> list[torch.Tensor]:
    """Return the logits ``(K, h, w)`` of each image of a call."""
    found = outputs["out"] if isinstance(outputs, dict) and "out" in outputs else outputs
    maps: Any = getattr(found, "logits", found)
    return list(maps)


def _look_at_points(maps: Sequence[torch.Tensor]) -> Probabilities:
    """Return the probabilities at ``POINTS`` by ``POINTS`` points spread over the maps of an image."""
    rows = []
    for number in range(POINTS**2):
        # Each point is in the next map, so that all windows are compared.
        logits = maps[number % len(maps)].detach()
        at = (number + 0.5) / POINTS**2
        across = ((number % POINTS) + 0.5) / POINTS
        height, width = logits.shape[1:]
        rows.append(logits[:, int(at * height), int(across * width)].float().softmax(0))
    return np.stack([row.cpu().numpy() for row in rows]).astype(np.float32)
