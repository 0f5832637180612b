"""Adaptation of the batch-norm statistics (Schneider et al. 2020, arXiv 2006.16971)."""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

from shiftproof.adapt.adapter import Adapter
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifier import Classifier
from shiftproof.models.structure import is_torch_module, structural_copy
from shiftproof.types import Image, Images, Logits, Settings

if TYPE_CHECKING:
    import torch


class Statistics(NamedTuple):
    """Mean and variance of one layer's input, each ``(C,)``, over images and positions."""

    mean: torch.Tensor
    variance: torch.Tensor


_FUSED_ON = ("cpu", "cuda")
"""The devices on which torch has the one-pass statistics that its batch norm uses in training."""


# ---------------------------------------------------------------- the mathematics


def batch_statistics(inputs: torch.Tensor) -> Statistics:
    """Return the mean and the biased variance per channel.

    Args:
        inputs: ``(N, C, ...)`` floating, with at least one value.

    Returns:
        ``(C,)`` each, over all axes but the second; float32 where the input is of half precision.
    """
    import torch

    if inputs.dtype in (torch.float16, torch.bfloat16):
        inputs = inputs.float()
    if inputs.device.type in _FUSED_ON:
        # Many times faster on channels_last than var_mean, and biased too; without running
        # statistics the momentum (0) is not used.
        mean, variance = torch.batch_norm_update_stats(inputs, None, None, 0.0)
    else:
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        variance, mean = torch.var_mean(inputs, axes, correction=0)
    return Statistics(mean, variance)


def mix(source: Statistics, target: Statistics, *, prior: float, count: int) -> Statistics:
    """Mix a layer's source statistics with those of a batch.

    ``mu = N / (N + n) mu_s + n / (N + n) mu_t``, and the same for the variance, with the prior
    strength ``N`` and the batch size ``n`` (Schneider et al. 2020, arXiv 2006.16971, section 2).
    The distance of the two means does not enter the variance: the paper mixes the variances.

    Args:
        source: the layer's running statistics.
        target: the batch's.
        prior: N, 0 or more; 0 takes the batch alone, infinity the source alone.
        count: n, the number of images in the batch, 1 or more.

    Returns:
        New tensors in the source's dtype.
    """
    weight = 0.0 if math.isinf(prior) else count / (prior + count)

    def mixed(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        # Written so that a weight of 1 gives the batch's value to the last bit.
        return ((1 - weight) * old.to(new.dtype) + weight * new).to(old.dtype)

    return Statistics(mixed(source.mean, target.mean), mixed(source.variance, target.variance))


# ---------------------------------------------------------------- the adapter


@final
class BatchNorm(Adapter):
    """Batch-norm layers that normalise by the images they see, and not only by the training set.

    For each batch of n images and each batch-norm layer the statistics become
    ``N / (N + n) source + n / (N + n) batch`` (Schneider et al. 2020, arXiv 2006.16971): one
    forward pass, no labels, no gradients. n is the number of images really in the batch, so a
    smaller last batch weighs less. Each batch starts from the source again: nothing is carried
    over, so a broken batch cannot harm a later one. Affine parameters, eps, dropout and all the
    rest stay as in evaluation, whatever mode your model is in, and your model is never changed.

    All of ``BatchNorm1d/2d/3d``, ``SyncBatchNorm`` and their subclasses (timm's
    ``BatchNormAct2d``) adapt, and so do the frozen ones of torchvision, timm and detectron2
    (``FrozenBatchNorm2d``): being frozen in training says nothing of the test images. A layer
    that keeps no source statistics (``track_running_stats=False``) has nothing to mix; it
    normalises by the batch as it always did, and ``settings`` counts it under ``untracked``.

    One adapter takes one batch at a time; threads each need their own.

    Differs from the paper's code: the variance of the batch is the biased one (divided by the
    number of values) for every prior; the reference takes the unbiased one when it mixes.

    Differs from the equation in one place: a layer that sees a single value per channel (one
    image and a 1 x 1 feature map) has no variance, so with ``prior=0`` it keeps its source
    statistics there, and a warning says so once.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module``, which is then called
            with its own normalised batch and has neither ``predict`` nor ``classes``.
        prior: N, the strength of the source statistics in images: 0 takes the batch alone,
            16 is the paper's choice for small batches, ``float("inf")`` does not adapt.

    Raises:
        InputError: ``prior`` is negative, NaN or no number.
        ModelError: there is no batch-norm layer to adapt, the graph is fixed (ONNX, TorchScript,
            compiled), or the model cannot be copied.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    >>> adapted = BatchNorm(net, prior=0)
    >>> outputs = adapted(torch.rand(8, 3, 16, 16))
    >>> bool(outputs.mean((0, 2, 3)).abs().max() < 1e-5)
    True
    """

    def __init__(self, model: Classifier | torch.nn.Module, *, prior: float = 16) -> None:
        self.prior = _checked_prior(prior)
        module = _torch_module(model)
        # Parameters stay shared: they are never written to, and a large model is not held twice.
        network = structural_copy(module, share="parameters")
        self._classifier: Classifier | None = None
        self._runner: Classifier | None = None
        if isinstance(model, Classifier):
            self._classifier = model
            self._runner = Classifier(
                network, model.preprocess, model.classes, device=model.device, name=model.name
            )
            network = cast("torch.nn.Module", self._runner.module)
        self._network = network
        self._layers, self._untracked = _find_layers(network)
        self._source = {
            name: Statistics(layer.running_mean, layer.running_var)
            for name, layer in self._layers.items()
        }
        self._learnt: dict[str, Statistics] = {}
        self._repeated: list[str] = []
        self._warned = False

    def __repr__(self) -> str:
        return f"BatchNorm(prior={self.prior}, {len(self._layers)} layers)"

    @property
    def classifier(self) -> Classifier:
        """The classifier that is adapted."""
        if self._classifier is None:
            raise ModelError(
                "This adapter is on a plain torch.nn.Module, which knows neither classes nor "
                "preprocessing. Wrap it first: BatchNorm(Classifier(module, preprocess, classes))."
            )
        return self._classifier

    @property
    def settings(self) -> Settings:
        """What reproduces this adapter, as JSON takes it (an infinite prior is ``"inf"``)."""
        settings: Settings = {
            "adapter": "batchnorm",
            "prior": "inf" if math.isinf(self.prior) else self.prior,
            "layers": len(self._layers),
            "untracked": self._untracked,
        }
        if self._classifier is not None:
            settings["classifier"] = self._classifier.settings
        return settings

    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Adapt to a batch and return its logits; all else as ``Classifier.predict``."""
        runner = self._running()
        with self._adapting(len(images)):
            return runner.predict(images)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Adapt to a batch and return its logits, without gradients.

        Args:
            batch: on a ``Classifier``, as its ``__call__`` takes it. On a plain module, what
                that module takes, with the images along the first axis.

        Returns:
            What the classifier or the module returns.
        """
        import torch

        if self._runner is None:
            if not isinstance(batch, torch.Tensor) or batch.ndim == 0:
                raise InputError(
                    f"Expected a tensor with the images along axis 0, got {type(batch).__name__}."
                )
            with torch.no_grad(), self._adapting(len(batch)):
                return cast("torch.Tensor", self._network(batch))
        with self._adapting(len(batch)):
            return self._runner(batch)

    def reset(self) -> None:
        """Forget the last batch; only ``merged`` remembers it."""
        self._learnt = {}
        self._repeated = []

    def merged(self) -> torch.nn.Module:
        """Return a plain model whose batch norm has the statistics of the last batch.

        On that batch it gives the logits that the adapter gave. Before any batch, and with an
        infinite prior, it equals the source.

        Raises:
            ModelError: the statistics are not finite (the batch had NaN or infinite activations),
                or a layer ran several times in one forward, each time with other statistics.
        """
        import torch

        if self._repeated:
            raise ModelError(
                f"The layer {self._repeated[0]!r} ran several times in one forward, each time "
                "with other statistics; a plain model can hold only one set, so it cannot be "
                "merged."
            )
        for name, statistics in self._learnt.items():
            if not all(bool(torch.isfinite(values).all()) for values in statistics):
                raise ModelError(
                    f"The statistics of the last batch are not finite (layer {name!r}): it held "
                    "NaN or infinite activations. Predict a sound batch or reset() first."
                )
        module = structural_copy(self._network, share="nothing")
        with torch.no_grad():
            for name, statistics in self._learnt.items():
                layer = cast("Any", module.get_submodule(name))
                layer.running_mean.copy_(statistics.mean)
                layer.running_var.copy_(statistics.variance)
        return module

    def _running(self) -> Classifier:
        if self._runner is None:
            return self.classifier  # raises, and says why
        return self._runner

    @contextlib.contextmanager
    def _adapting(self, count: int) -> Iterator[None]:
        """Let each layer take mixed statistics while the network runs on ``count`` images.

        Outside of this the network holds its source statistics and no hook, so that an exception
        in the middle leaves nothing behind. A hook and not another layer: the layer's own forward
        then runs as in evaluation, with whatever a subclass adds (an activation, a drop-out).
        """
        if count == 0:
            yield  # nothing is seen, so nothing is forgotten either
            return
        learnt: dict[str, Statistics] = {}
        calls: collections.Counter[str] = collections.Counter()
        if math.isinf(self.prior):
            yield
        else:
            handles = [
                layer.register_forward_pre_hook(
                    functools.partial(self._adapt_layer, name, count, learnt, calls),
                    with_kwargs=True,
                )
                for name, layer in self._layers.items()
            ]
            try:
                yield
            finally:
                for handle in handles:
                    handle.remove()
                for name, layer in self._layers.items():
                    layer.running_mean, layer.running_var = self._source[name]
            if not learnt:
                raise ModelError(
                    "The model ran without calling any of its batch-norm layers as modules, so "
                    "nothing was adapted."
                )
        self._learnt = learnt
        self._repeated = [name for name, times in calls.items() if times > 1]

    def _adapt_layer(
        self,
        name: str,
        count: int,
        learnt: dict[str, Statistics],
        calls: collections.Counter[str],
        layer: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Set the statistics that ``layer`` will normalise its input by (a forward pre-hook)."""
        inputs: torch.Tensor = args[0] if args else next(iter(kwargs.values()))
        source = self._source[name]
        if self.prior == 0 and inputs.numel() == inputs.shape[1]:
            statistics = source
            self._warn_single_value(name)
        else:
            statistics = mix(source, batch_statistics(inputs), prior=self.prior, count=count)
        layer.running_mean, layer.running_var = statistics
        learnt[name] = statistics
        calls[name] += 1

    def _warn_single_value(self, name: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"BatchNorm(prior=0): the layer {name!r} saw one value per channel (one image, "
                "a 1 x 1 feature map), which has no variance. It keeps its source statistics in "
                "such a batch. Use larger batches, or a prior above 0.",
                RuntimeWarning,
                stacklevel=2,
            )


# ---------------------------------------------------------------- reading the model


def _checked_prior(prior: float) -> float:
    if isinstance(prior, bool) or not isinstance(prior, (int, float)):
        raise InputError(f"prior: expected a number, 0 or more, got {prior!r}.")
    if math.isnan(prior) or prior < 0:
        raise InputError(f"prior: expected 0 or more (float('inf') does not adapt), got {prior!r}.")
    return prior


def _torch_module(model: Classifier | torch.nn.Module) -> torch.nn.Module:
    """Return the network inside ``model``, or raise a ModelError that says why it cannot adapt."""
    module: object = model.module if isinstance(model, Classifier) else model
    if not is_torch_module(module):
        if isinstance(model, Classifier):
            raise ModelError(
                f"{model.name} cannot be adapted: its graph is fixed, as in an ONNX file. "
                "Adapt the torch model that it was exported from, and export merged()."
            )
        raise ModelError(f"Expected a Classifier or a torch.nn.Module, got {type(model).__name__}.")
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "A TorchScript model cannot be adapted: its graph is fixed. "
            "Adapt the module before torch.jit.script or trace, and script merged()."
        )
    if type(module).__name__ == "OptimizedModule":
        raise ModelError(
            "A compiled model cannot be adapted: its graph is fixed. "
            "Adapt the module before torch.compile, and compile merged()."
        )
    return cast("torch.nn.Module", module)


def _find_layers(network: torch.nn.Module) -> tuple[dict[str, Any], int]:
    """Return the batch-norm layers with source statistics by name, and how many have none.

    Raises:
        ModelError: no layer can be adapted.
    """
    layers = {name: layer for name, layer in network.named_modules() if is_batch_norm(layer)}
    tracked = {
        name: layer
        for name, layer in layers.items()
        if getattr(layer, "running_mean", None) is not None
        and getattr(layer, "running_var", None) is not None
    }
    if tracked:
        return tracked, len(layers) - len(tracked)
    if layers:
        raise ModelError(
            f"The {len(layers)} batch-norm layers of {type(network).__name__} keep no source "
            "statistics (track_running_stats=False): they normalise by each batch already, so "
            "there is nothing to adapt."
        )
    others = collections.Counter(
        type(layer).__name__ for layer in network.modules() if "Norm" in type(layer).__name__
    )
    if others:
        listed = ", ".join(f"{number} {kind}" for kind, number in others.most_common())
        raise ModelError(
            f"{type(network).__name__} has no batch-norm layer to adapt; it has {listed}, which "
            "keep no statistics of the training set. Self-learning is the method for those."
        )
    raise ModelError(
        f"{type(network).__name__} has no batch-norm layer to adapt, and no other norm layer "
        "(batch norm may have been folded into its convolutions)."
    )


def is_batch_norm(layer: torch.nn.Module) -> bool:
    """Whether a layer normalises by running statistics per channel, frozen or not."""
    import torch

    if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
        return True
    # By name: torchvision, timm and detectron2 each have a class of their own, none related.
    return any(kind.__name__.startswith("FrozenBatchNorm") for kind in type(layer).__mro__)
