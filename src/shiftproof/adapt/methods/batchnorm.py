"""Adaptation of the batch-norm statistics (Schneider et al. 2020, arXiv 2006.16971)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar, cast, final

import torch

from shiftproof.adapt.base.events import FEW_CLASSES, Event, EventLog
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.base.options import check_count
from shiftproof.adapt.base.tensors import check_names
from shiftproof.adapt.learning.source_check import (
    ANSWERS,
    FEW_CLASSES_KEPT,
    FewClassesFound,
    SourceCheck,
)
from shiftproof.adapt.normalization.batch_norm_layers import (
    BatchNormLayers,
    ChooseStatistics,
    Normalization,
    ObservedStatistics,
)
from shiftproof.adapt.normalization.layer_choice import LayerChoice, choose_layers
from shiftproof.adapt.normalization.norm_layers import (
    find_batch_norm_layers,
    make_several_runs_error,
)
from shiftproof.adapt.normalization.packing import pack, unpack
from shiftproof.adapt.normalization.priors import Prior, check_prior
from shiftproof.adapt.normalization.shares import Shares
from shiftproof.adapt.normalization.statistics import (
    LayerInput,
    Parts,
    Statistics,
    blend,
    mix,
    pool,
    pool_processes,
    write_statistics,
)
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

Outputs = TypeVar("Outputs")

Over = Literal["batch", "stream", "set"]
"""Images over which statistics are computed: each batch, all so far, or the whole target set."""


@dataclass
class _Pooled:
    """Statistics of every layer over ``images`` images."""

    layers: dict[str, Statistics] = field(default_factory=dict)
    images: float = 0.0


@final
class BatchNorm(NetworkAdapter):
    """Batch norm with statistics of the target images mixed with those of the training set.

    For each batch of n images and each batch-norm layer the statistics become ``N / (N + n) source
    + n / (N + n) target`` (Schneider et al. 2020, arXiv 2006.16971): one forward pass, no labels,
    no gradients. n is the actual number of images, so a smaller last batch weighs less. Affine
    parameters, eps, dropout and all the rest stay as in evaluation, whatever mode your model is in,
    and your model is never changed.

    ``over`` says which images are the target:

    - ``"batch"``: each batch alone. Nothing is carried over, so a broken batch cannot harm a
      later one.
    - ``"stream"``: all images since the last ``reset()``, each counting the same; or, with
      ``momentum``, an exponential moving average that starts at the source and needs no prior.
    - ``"set"``: the whole target set at once. A first pass collects the statistics while each layer
      normalizes by its batch; they are used after ``end_epoch()``. In a further pass the layers
      before each layer are already adapted: after as many passes as there are layers the statistics
      equal those of layer-by-layer adaptation.

    All of ``BatchNorm1d/2d/3d``, ``SyncBatchNorm`` and their subclasses (timm's ``BatchNormAct2d``)
    adapt, and so do the frozen ones of torchvision, timm and detectron2 (``FrozenBatchNorm2d``):
    being frozen in training says nothing about the test images. So does any other layer with a
    running mean and variance per channel. In a process group a ``SyncBatchNorm`` takes the images
    of all processes together. A layer that keeps no source statistics
    (``track_running_stats=False``) has nothing to mix; it still normalizes by the batch, and
    ``settings`` counts it under ``untracked``.

    NaN or infinite activations change neither the learned statistics nor the predictions for the
    other images: the batch is predicted again with the statistics from before it, and an event says
    so. Threads may share an adapter; their batches run one after another.

    Differs from the paper's code: the variance of the batch is the biased one (divided by the
    number of values) for every prior; the reference takes the unbiased one when it mixes.

    Differs from the equation in one place: a layer that sees a single value per channel (one
    image and a 1 x 1 feature map) has no variance, so with ``prior=0`` it keeps its source
    statistics there, and a warning says so once.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module``, which is then called
            with its own normalized batch and has neither ``predict`` nor ``classes``.
        prior: N, the strength of the source statistics in images: 0 takes the target alone, 16 is
            the paper's choice for small batches, ``float("inf")`` does not adapt. ``"measured"``
            measures the distance of each batch from the source, from the first layer on: a larger
            distance gives the batch more weight (:class:`~shiftproof.adapt.normalization.shares.Shares`).
            ``"auto"`` does the same, but keeps the source's statistics if its predictions contain
            few classes, which explain the distance
            (:class:`~shiftproof.adapt.learning.source_check.SourceCheck`); an event says so. This check is
            for classifiers, and not for ``run_batch``, ``momentum`` or ``over="set"``.
            ``"layerwise"`` measures each layer by itself, which gains more under strong shifts and
            harms small batches.
        over: the target images of the statistics.
        momentum: above 0 and at most 1, with ``over="stream"``: the weight of a new batch.
        warm_up: with ``over="stream"``: as long as fewer images than this have been seen, the
            source statistics are used.
        parts: ``"both"``, or ``"mean"`` or ``"variance"`` alone.
        layers: which of the layers adapt: ``"all"``, ``"first-10"``, ``"last-10"``,
            ``"last-33%"``, or their names.

    Raises:
        InputError: an option is out of its range, or two contradict each other.
        ModelError: there is no batch-norm layer to adapt, the graph is fixed (ONNX, TorchScript,
            compiled), or the model cannot be copied; or, at the first batch at the latest, a part
            has batch norm that hooks cannot control.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    >>> adapted = BatchNorm(net, prior=0)
    >>> outputs = adapted(torch.rand(8, 3, 16, 16))
    >>> bool(outputs.mean((0, 2, 3)).abs().max() < 1e-5)
    True
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        prior: Prior = "auto",
        over: Over = "batch",
        momentum: float | None = None,
        warm_up: int = 0,
        parts: Parts = "both",
        layers: LayerChoice = "all",
    ) -> None:
        self.prior = check_prior(prior)
        if over not in ("batch", "stream", "set"):
            raise UnknownNameError.of("over", over, ["batch", "stream", "set"])
        if parts not in ("both", "mean", "variance"):
            raise UnknownNameError.of("parts", parts, ["both", "mean", "variance"])
        if momentum is not None and not (over == "stream" and _is_share(momentum)):
            raise InputError(
                "momentum: expected above 0 and at most 1, together with over='stream', "
                f"got {momentum!r} with over={over!r}."
            )
        is_count = isinstance(warm_up, int) and not isinstance(warm_up, bool) and warm_up >= 0
        if not is_count or (warm_up and over != "stream"):
            raise InputError(
                "warm_up: expected a number of images, together with over='stream', "
                f"got {warm_up!r} with over={over!r}."
            )
        self.over: Over = over
        self.momentum = momentum
        self.warm_up = warm_up
        self.parts: Parts = parts
        self.layers = layers
        self._network = AdaptedNetwork(model)
        tracked, self._untracked = find_batch_norm_layers(self._network.module)
        chosen = choose_layers(list(tracked), layers)
        self._layers = BatchNormLayers(
            self._network.module, {name: tracked[name] for name in chosen}
        )
        self._source = self._layers.source
        self._check: SourceCheck | None = None
        if prior == "auto" and over != "set" and momentum is None:
            # A network of its own, since it may run in the middle of a pass.
            self._check = SourceCheck(AdaptedNetwork(model))
        self._warned = False
        self._forget()

    def _forget(self) -> None:
        self._last: dict[str, Statistics] = {}
        self._collected = _Pooled()
        self._completed = _Pooled()
        self._layers_run_twice: list[str] = []
        self._batches = 0
        self._events = EventLog()
        if self._check is not None:
            self._check.forget()

    def __repr__(self) -> str:
        return f"BatchNorm(prior={self.prior}, {len(self._source)} layers)"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON (an infinite prior is ``"inf"``)."""
        return {
            "adapter": "batchnorm",
            "prior": "inf" if self.prior == math.inf else self.prior,
            "over": self.over,
            "momentum": self.momentum,
            "warm_up": self.warm_up,
            "parts": self.parts,
            "layers": self.layers if isinstance(self.layers, str) else list(self.layers),
            "adapted": len(self._source),
            "untracked": self._untracked,
            **self._network.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """Skipped batches: not finite, or of few classes."""
        return self._events.events

    def end_epoch(self) -> None:
        """With ``over="set"``: use the statistics of this pass from now on."""
        with self._network.lock:
            if self.over == "set" and self._collected.layers:
                self._completed, self._collected = self._collected, _Pooled()

    def reset(self) -> None:
        """Discard the statistics of all images."""
        with self._network.lock:
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield nothing: there are no parameters learned by gradients."""
        return iter(())

    def merge(self) -> torch.nn.Module:
        """Return a plain model whose batch norm has the statistics of the last prediction.

        With ``over="batch"`` those of the last batch: on that batch it gives the adapter's logits.
        Over a stream or a set, those used in ``frozen()``. Before any batch, and with an infinite
        prior, it equals the source.

        Raises:
            ModelError: a layer ran several times in one forward, each time with other statistics.
        """
        with self._network.lock, torch.no_grad():
            module = self._network.copy()
            write_statistics(module, self._collect_statistics())
        return module

    def state(self) -> State:
        """Return the statistics that were learned."""
        with self._network.lock:
            packed = pack("last", self._last)
            for name, pooled in (("collected", self._collected), ("completed", self._completed)):
                packed |= pack(name, pooled.layers, pooled.images)
            return packed if self._check is None else packed | self._check.state()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the statistics of an adapter with the same settings."""
        check_names(state, _KINDS[self.over], [ANSWERS] if self._check else [])
        answers = None if self._check is None else self._check.read_state(state)
        last, _ = unpack("last", state, self._source)
        collected = _Pooled(*unpack("collected", state, self._source))
        completed = _Pooled(*unpack("completed", state, self._source))
        if any(pooled.layers and not pooled.images for pooled in (collected, completed)):
            raise InputError("The state is damaged: it has statistics of no images.")
        with self._network.lock:
            self._forget()
            self._last, self._collected, self._completed = last, collected, completed
            if self._check is not None:
                self._check.restore(answers)

    # ------------------------------------------------------------ one batch

    def run_batch(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        """Adapt to a batch while ``run`` calls the network on it.

        For networks whose input or output is not one tensor: detectors, segmenters.
        ``AdaptedDetector`` uses it.

        Args:
            run: takes the copy that adapts and returns anything. A batch that is not finite is run
                twice.
            images: how many images the batch has, 1 or more.

        Returns:
            What ``run`` returned, without gradients.

        Raises:
            InputError: fewer than 1 image.
        """
        check_count("images", images)
        with self._network.lock, torch.inference_mode(False), torch.no_grad():
            return self._run_adapting(lambda: run(self._network.module), images)

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        def forward() -> torch.Tensor:
            return self._network.forward(inputs)

        if self._check is None:
            return self._run_adapting(forward, len(inputs))
        with self._check.judge(inputs, remembers=not self._network.is_frozen):
            return self._run_adapting(forward, len(inputs), inputs)

    def _run_adapting(
        self, forward: Callable[[], Outputs], count: int, inputs: torch.Tensor | None = None
    ) -> Outputs:
        """Run ``forward`` on a batch of ``count`` images while the layers adapt, and learn from it.

        With the ``inputs`` of ``forward``, the source's predictions are checked for few classes.
        """
        if self.prior == math.inf and self.momentum is None:
            return forward()
        observed = ObservedStatistics()
        if self._check is None or inputs is None:
            outputs = self._run(forward, self._make_chooser(count, observed))
        else:
            outputs = self._run_judged(forward, count, inputs, observed, self._check)
        if not observed.is_finite:
            outputs = self._run(forward, self._choose_before)
            self._note(
                "skipped",
                "The batch has NaN or infinite activations; it was predicted with the "
                "statistics from before it, and not learned from.",
            )
        if not self._network.is_frozen:
            if observed.uses_source:
                self._note(FEW_CLASSES, FEW_CLASSES_KEPT)
            if observed.is_finite:
                self._learn(observed)
            self._batches += 1
        return outputs

    def _run_judged(
        self,
        forward: Callable[[], Outputs],
        count: int,
        inputs: torch.Tensor,
        observed: ObservedStatistics,
        check: SourceCheck,
    ) -> Outputs:
        """Run a batch; if its statistics are to be ignored, return the source's predictions."""
        look = check.watch(inputs) if self._layers.is_checked else None
        try:
            outputs = self._run(forward, self._make_chooser(count, observed, look))
            if not check.should_keep_source(inputs, outputs, observed):
                return outputs
        except FewClassesFound:
            pass
        observed.keep(self._source)
        return cast("Outputs", check.answer(inputs, self._network.forward))

    def _run(self, forward: Callable[[], Outputs], choose: ChooseStatistics) -> Outputs:
        """Run the network while ``choose`` gives each layer its statistics."""
        ran = False

        def count_runs(name: str, values: torch.Tensor) -> Normalization:
            nonlocal ran
            ran = True
            return choose(name, values)

        with self._layers.normalizing(count_runs):
            outputs = self._layers.run(forward)
        if not ran:
            raise ModelError(
                "The model ran without calling any of its batch-norm layers as modules, so "
                "nothing was adapted."
            )
        return outputs

    def _make_chooser(
        self,
        count: int,
        observed: ObservedStatistics,
        look: Callable[[ObservedStatistics], None] | None = None,
    ) -> ChooseStatistics:
        """Return the function that chooses each layer's statistics for a batch of ``count`` images.

        ``observed`` gets each layer's statistics of the batch and those it normalized by; ``look``
        is called with it after each layer.
        """
        shares = Shares(self.prior)

        def choose(name: str, values: torch.Tensor) -> Normalization:
            known = self._look_up_pooled(name)
            if self._network.is_frozen and self.over != "batch":
                return Normalization(self._source[name] if known is None else known)
            layer = self._layers.layers[name]
            inputs = LayerInput(values, count)
            target, images = pool_processes(inputs.statistics(), count, layer)
            if known is not None and self.over == "set":
                chosen = known
            elif self.over == "stream":
                chosen = self._join_stream(name, target, images, inputs, count, shares)
            else:
                chosen = self._mix_source(name, target, images, inputs, count, shares)
            observed.add(name, target, images, chosen)
            observed.uses_batch = shares.uses_batch
            if look is not None:
                look(observed)
            return Normalization(chosen)

        return choose

    def _mix_source(
        self,
        name: str,
        target: Statistics,
        images: float,
        inputs: LayerInput,
        count: int,
        shares: Shares,
    ) -> Statistics:
        """Return a layer's source statistics mixed with those of ``images`` target images."""
        source = self._source[name]
        share = shares.measure(name, source, inputs, count=images, images=count)
        if share == 0:
            if self.prior == 0:
                self._warn_single_value(name)
            return source
        return blend(source, target, share, self.parts)

    def _join_stream(
        self,
        name: str,
        target: Statistics,
        images: float,
        inputs: LayerInput,
        count: int,
        shares: Shares,
    ) -> Statistics:
        """Return a layer's statistics of the stream including this batch, mixed with the
        source's.
        """
        source = self._source[name]
        joined, total = self._join(name, target, images)
        if total < self.warm_up:
            return source
        if self.momentum is not None:
            return self._select_parts(source, joined)
        return self._mix_source(name, joined, total, inputs, count, shares)

    def _join(self, name: str, target: Statistics, images: float) -> tuple[Statistics, float]:
        """Return a layer's statistics of the stream with a new batch, and its number of images."""
        before, count = self._collected.layers.get(name), self._collected.images
        if self.momentum is not None:
            start = self._source[name] if before is None else before
            return blend(start, target, self.momentum), count + images
        if before is None:
            return target, images
        return pool(before, count, target, images), count + images

    def _learn(self, observed: ObservedStatistics) -> None:
        """Store the statistics of a valid batch."""
        self._layers_run_twice = observed.layers_run_twice
        if self.over == "batch":
            self._last = observed.used
            return
        if not observed.batch or observed.uses_source:
            return
        joined = {name: self._join(name, *batch)[0] for name, batch in observed.batch.items()}
        # In a process group a SyncBatchNorm sees more images than an ordinary layer beside it.
        images = max(images for _, images in observed.batch.values())
        self._collected = _Pooled(
            {**self._collected.layers, **joined}, self._collected.images + images
        )

    # ------------------------------------------------------------ what was learned

    def _look_up_pooled(self, name: str) -> Statistics | None:
        """Return a layer's mixed statistics of the stream or set; None if there are none yet."""
        pooled = self._completed if self.over == "set" else self._collected
        if self.over == "set" and not pooled.layers:
            pooled = self._collected if self._network.is_frozen else pooled
        if self.over == "batch" or name not in pooled.layers:
            return None
        source, learned = self._source[name], pooled.layers[name]
        if self.over == "stream" and pooled.images < self.warm_up:
            return source
        if self.momentum is not None:
            return self._select_parts(source, learned)
        prior = 0.0 if isinstance(self.prior, str) else self.prior
        return mix(source, learned, prior=prior, count=pooled.images, parts=self.parts)

    def _select_parts(self, source: Statistics, learned: Statistics) -> Statistics:
        return blend(source, learned, 1.0, self.parts)

    def _collect_statistics(self) -> dict[str, Statistics]:
        """Return the statistics of the last prediction, by layer."""
        if self.over == "batch":
            layers_run_twice = [name for name in self._layers_run_twice if name in self._last]
            if layers_run_twice:
                raise make_several_runs_error(layers_run_twice[0])
            return self._last
        with self.frozen():
            known = {name: self._look_up_pooled(name) for name in self._source}
        return {name: statistics for name, statistics in known.items() if statistics is not None}

    def _choose_before(self, name: str, values: torch.Tensor) -> Normalization:
        """Return a layer's statistics from before a batch that is not finite."""
        known = self._look_up_pooled(name)
        return Normalization(self._source[name] if known is None else known)

    # ------------------------------------------------------------ events and warnings

    def _note(self, kind: str, reason: str) -> None:
        self._events.add(kind, self._batches, reason)

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


_KINDS = {"batch": ("last",), "stream": ("collected",), "set": ("collected", "completed")}
"""The kinds of statistics that a state holds."""


def _is_share(value: object) -> bool:
    """Whether ``value`` is a number above 0 and at most 1."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < cast("float", value) <= 1
