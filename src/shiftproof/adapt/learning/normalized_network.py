"""Forward passes with the batch's statistics, for adapters that learn by gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import torch

from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.learning.source_check import FewClassesFound, SourceCheck
from shiftproof.adapt.normalization.batch_norm_layers import (
    BatchNormLayers,
    ChooseStatistics,
    Normalization,
    ObservedStatistics,
)
from shiftproof.adapt.normalization.norm_layers import find_tracked_batch_norm_layers
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.adapt.normalization.shares import Shares
from shiftproof.adapt.normalization.statistics import (
    LayerInput,
    Statistics,
    blend,
    pool_processes,
)

Outputs = TypeVar("Outputs")

After: TypeAlias = Callable[[Any, ObservedStatistics, int], Any]
"""From a call's outputs, its statistics and the number of images to the outputs to return."""


Look: TypeAlias = Callable[[ObservedStatistics], None]
"""Takes the statistics of a pass so far, and may end the pass."""


class NormalizedNetwork:
    """A network whose batch norm mixes the batch's statistics with the source's.

    The gradient flows through the batch's part of the mixture. With an infinite prior there are no
    hooks, and the statistics are the source's.

    Args:
        network: an adapter's copy.
        prior: as ``BatchNorm`` takes it.
        check: finds batches of few classes, for which the source's statistics are used.

    Attributes:
        source: the initial statistics of each controlled layer.

    Raises:
        ModelError: a part of the network has batch norm that hooks cannot control.
    """

    def __init__(
        self, network: AdaptedNetwork, prior: Prior, check: SourceCheck | None = None
    ) -> None:
        self._network = network
        self._check = check
        self._prior: Prior = prior
        self._norms = None if prior == math.inf else _hook(network)
        self.source: dict[str, Statistics] = {} if self._norms is None else self._norms.source

    @contextmanager
    def run(self, inputs: torch.Tensor) -> Iterator[tuple[torch.Tensor, ObservedStatistics]]:
        """Context with all outputs for a batch, and its batch-norm statistics.

        Gradients are computed within the context: checkpointed layers run again for them. If the
        source's statistics are used, the outputs have no graph.
        """
        # Autocast keeps half-precision copies of parameters, which are outdated after a step.
        torch.clear_autocast_cache()
        observed = ObservedStatistics()
        if self._norms is None:
            yield self._network.forward_all(inputs), observed
            return
        choose = self._make_chooser(self._norms, len(inputs), observed, self._watch(inputs))
        with self._norms.normalizing(choose):
            outputs = self._run_watched(self._norms, inputs)
            observed.close()
            if outputs is not None and not self._should_keep_source(inputs, outputs, observed):
                yield outputs, observed
                return
        del outputs  # with its graph, which would be in memory beside the next pass
        observed.keep(self.source)
        with torch.no_grad():  # nothing is learned from it
            outputs = self._network.forward_all(inputs)
        yield outputs, observed

    def _watch(self, inputs: torch.Tensor) -> Look | None:
        if self._check is None or self._norms is None or not self._norms.is_checked:
            return None
        return self._check.watch(inputs)

    def _run_watched(self, norms: BatchNormLayers, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return all outputs, or None if the check ended the pass."""
        try:
            return norms.run(lambda: self._network.forward_all(inputs))
        except FewClassesFound:
            return None

    def _should_keep_source(
        self, inputs: torch.Tensor, outputs: Any, observed: ObservedStatistics
    ) -> bool:
        if self._check is None:
            return False
        return self._check.should_keep_source(
            inputs, self._network.select_classes(outputs), observed
        )

    def run_calls(
        self,
        run: Callable[[torch.nn.Module], Outputs],
        images: int,
        after: After,
        before: Callable[[], None] = lambda: None,
    ) -> Outputs:
        """Return ``run(network)``; each of its calls of the network is a batch of its own.

        Args:
            run: takes the network and calls it as a module, once or several times.
            images: number of images of a call if its inputs do not show it.
            after: called at the end of each call, while gradients can be computed.
            before: called at its beginning.
        """
        torch.clear_autocast_cache()
        module, call = self._network.module, _Call(images)

        def begin(_: object, args: Any, kwargs: Any) -> None:
            call.begin(count_images(args, kwargs))
            if self._norms is not None:
                call.choose = self._make_chooser(self._norms, call.images, call.observed)
            before()

        def end(_: object, args: Any, outputs: Any) -> Any:
            call.observed.close()
            return after(outputs, call.observed, call.images)

        handles = [
            module.register_forward_pre_hook(begin, with_kwargs=True),
            module.register_forward_hook(end),
        ]
        try:
            if self._norms is None:
                return run(module)
            with self._norms.normalizing(lambda name, values: call.choose(name, values)):
                return self._norms.run(lambda: run(module))
        finally:
            for handle in handles:
                handle.remove()

    def answer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch; with the source's statistics if its own are not finite."""
        with self.run(inputs) as (outputs, observed):
            logits = self._network.select_classes(outputs)
        return logits if observed.is_finite else self._network.forward(inputs)

    def _make_chooser(
        self,
        norms: BatchNormLayers,
        count: int,
        observed: ObservedStatistics,
        look: Look | None = None,
    ) -> ChooseStatistics:
        """Return the function that chooses each layer's statistics for a batch of ``count`` images.

        ``look`` is called with the statistics so far.
        """
        shares = Shares(self._prior)

        def choose(name: str, values: torch.Tensor) -> Normalization:
            source = norms.source[name]
            with torch.no_grad():
                given = LayerInput(values, count)
                target, images = pool_processes(given.statistics(), count, norms.layers[name])
                share = shares.measure(
                    name, source, given, count=images, images=count, again=observed.is_closed
                )
                used = blend(source, target, share) if share > 0 else source
            observed.add(name, target, images, used)
            observed.uses_batch = shares.uses_batch
            if look is not None:
                look(observed)
            return Normalization(used, target, share)

        return choose


def _hook(network: AdaptedNetwork) -> BatchNormLayers:
    return BatchNormLayers(network.module, find_tracked_batch_norm_layers(network.module))


class _Call:
    """The current call of a network: its number of images and batch-norm statistics."""

    def __init__(self, images: int) -> None:
        self._default = images
        self.begin(None)

    def begin(self, images: int | None) -> None:
        self.images = self._default if images is None else images
        self.observed = ObservedStatistics()
        self.choose: ChooseStatistics = _refuse


def _refuse(name: str, values: torch.Tensor) -> Normalization:
    raise AssertionError(f"{name} ran outside of a call of its network")


def count_images(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Return the number of images of a call of a network; None if its first input does not show
    it.
    """
    first = args[0] if args else next(iter(kwargs.values()), None)
    if isinstance(first, torch.Tensor) and first.ndim:
        return len(first)
    return len(first) if isinstance(first, (list, tuple)) and first else None
