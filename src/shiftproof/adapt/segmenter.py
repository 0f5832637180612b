"""A segmenter that adapts its batch-norm statistics to the images it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from shiftproof.adapt.statistics_alone import StatisticsAlone, batch_norm_of
from shiftproof.errors import ModelError
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.models.structure import is_torch_module
from shiftproof.types import Image, LabelMap

if TYPE_CHECKING:
    from shiftproof.adapt.batchnorm import BatchNorm


@final
class AdaptedSegmenter(StatisticsAlone[Segmenter, LabelMap]):
    """A segmenter whose batch-norm layers normalize by the images they see (Schneider et al. 2020).

    It is a segmenter, and wraps one, which it never changes; what ``BatchNorm`` says of batches,
    priors and layers holds. The statistics of a layer are over all positions of all images of a
    call, so already a single image has thousands of values: ``batch_size`` is the n of the paper.
    Images of different sizes, and windows, are shown to the network one by one, and each such call is
    counted as the whole batch.

    Self-learning updates the weights from one answer per image; what it would learn of two million
    answers per image, and with which weights, is another question than that of this package's papers.

    Args:
        segmenter: a segmenter on torch.
        adapter: a spec of ``batchnorm`` as the command line takes it, ``"batchnorm:prior=16"``; or
            a ``BatchNorm`` of ``segmenter.module``.

    Raises:
        InputError: an adapter that learns from classes, or none of this segmenter's network.
        ModelError: the graph is fixed, as in an ONNX file, or there is no batch norm.
    """

    def __init__(self, segmenter: Segmenter, adapter: BatchNorm | str = "batchnorm") -> None:
        if not isinstance(segmenter, Segmenter) or not is_torch_module(segmenter.module):
            name = getattr(segmenter, "name", type(segmenter).__name__)
            raise ModelError(
                f"{name} cannot be adapted: expected a Segmenter around a torch.nn.Module. A "
                "function hides its network, and the graph of an ONNX file is fixed."
            )
        super().__init__(
            segmenter,
            batch_norm_of(
                segmenter.module, adapter, what="segmenter", gives="a segmenter gives one per pixel"
            ),
            role="segmenter",
        )

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter that is adapted."""
        return self._model

    def predict(self, images: Sequence[Image], *, batch_size: int = 4) -> list[LabelMap]:
        """Adapt to each batch of images and return its label maps; as ``Segmenter.predict``."""
        return self._predict(images, batch_size)

    def merge(self) -> Segmenter:
        """Return a plain segmenter whose batch norm has the statistics of the last prediction."""
        return self._model.with_network(self._batchnorm.merge())
