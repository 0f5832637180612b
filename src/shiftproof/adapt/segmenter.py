"""A segmenter that adapts its batch-norm statistics to the images it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast, final

from shiftproof.adapt.events import Event
from shiftproof.adapt.table import ADAPTERS, make_adapter
from shiftproof.classes import Classes
from shiftproof.errors import InputError, ModelError
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.models.structure import is_torch_module
from shiftproof.types import Image, LabelMap, Settings

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.adapter import State
    from shiftproof.adapt.batchnorm import BatchNorm


@final
class AdaptedSegmenter:
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
        self._segmenter = segmenter
        self._batchnorm = _batch_norm(segmenter, adapter)

    def __repr__(self) -> str:
        return f"AdaptedSegmenter({self._segmenter!r}, {self._batchnorm!r})"

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter that is adapted."""
        return self._segmenter

    @property
    def name(self) -> str:
        """The wrapped segmenter's name."""
        return self._segmenter.name

    @property
    def classes(self) -> Classes:
        """The wrapped segmenter's classes."""
        return self._segmenter.classes

    @property
    def settings(self) -> Settings:
        """What reproduces it, as JSON takes it; the wrapped segmenter's under ``segmenter``."""
        own = {k: v for k, v in self._batchnorm.settings.items() if k != "module"}
        return {**own, "segmenter": self._segmenter.settings}

    @property
    def events(self) -> Sequence[Event]:
        """Batches that were not finite and so did not count."""
        return self._batchnorm.events

    def predict(self, images: Sequence[Image], *, batch_size: int = 4) -> list[LabelMap]:
        """Adapt to each batch of images and return its label maps; as ``Segmenter.predict``."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: expected a number of 1 or more, got {batch_size!r}.")
        found: list[LabelMap] = []
        for start in range(0, len(images), batch_size):
            found += self._adapt(list(images[start : start + batch_size]))
        return found

    def _adapt(self, batch: list[Image]) -> list[LabelMap]:
        return self._batchnorm.run_batch(
            lambda network: self._segmenter.through(network, batch), len(batch)
        )

    def frozen(self) -> AbstractContextManager[None]:
        """Predict with what has been learnt, and a batch's own statistics as ever."""
        return self._batchnorm.frozen()

    def end_epoch(self) -> None:
        """With ``over="set"``: what this pass has collected is used from now on."""
        self._batchnorm.end_epoch()

    def reset(self) -> None:
        """Forget all images that were seen."""
        self._batchnorm.reset()

    def merge(self) -> Segmenter:
        """Return a plain segmenter whose batch norm has the statistics of the last prediction."""
        return self._segmenter.with_network(self._batchnorm.merge())

    def state(self) -> State:
        """Return the statistics that were learnt."""
        return self._batchnorm.state()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up the statistics that another one of the same settings has learnt."""
        self._batchnorm.load_state(state)


def _batch_norm(segmenter: Segmenter, adapter: BatchNorm | str) -> BatchNorm:
    from shiftproof.adapt.batchnorm import BatchNorm

    made: object = adapter
    method = adapter.partition(":")[0] if isinstance(adapter, str) else ""
    if method == "batchnorm" or (method and method not in ADAPTERS):
        # A name that no adapter has is said there.
        made = make_adapter(str(adapter), cast("torch.nn.Module", segmenter.module))
    if not isinstance(made, BatchNorm):
        raise InputError(
            f"{adapter!r}: expected batchnorm with its options, which alone adapts a segmenter. The "
            "others learn from one answer per image, and a segmenter gives one per pixel."
        )
    return made
