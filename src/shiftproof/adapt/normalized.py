"""A network's forward pass with the statistics of the batch at hand, for all that learn by gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import torch

from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.adapt.normalization import BatchNormLayers, Choice, Choose, Seen
from shiftproof.adapt.norms import all_batch_norm_layers, is_tracked
from shiftproof.adapt.shares import Prior, Shares
from shiftproof.adapt.source_check import FewClassesFound, SourceCheck
from shiftproof.adapt.statistics import (
    LayerInput,
    Statistics,
    blend,
    pool_processes,
)

Outputs = TypeVar("Outputs")

After: TypeAlias = Callable[[Any, Seen, int], Any]
"""Takes what a call gave, what the batch norm saw and the number of images; gives what is handed out."""


Look: TypeAlias = Callable[[Seen], None]
"""Takes what the layers of a pass have seen so far, and may end it."""


class NormalizedNetwork:
    """A network whose batch norm mixes the batch's statistics with the source's.

    The gradient flows through the batch's own statistics as far as they are in the mixture. With an
    infinite prior nothing is followed, and the statistics are the source's.

    Args:
        network: an adapter's copy.
        prior: as ``BatchNorm`` takes it.
        check: keeps the source's statistics in a batch of few classes, while it judges one.

    Attributes:
        source: the statistics that each followed layer came with.

    Raises:
        ModelError: a part of the network has batch norm that cannot be followed.
    """

    def __init__(
        self, network: AdaptedNetwork, prior: Prior, check: SourceCheck | None = None
    ) -> None:
        self._network = network
        self._check = check
        self._prior: Prior = prior
        self._norms = None if prior == math.inf else _follow(network)
        self.source: dict[str, Statistics] = {} if self._norms is None else self._norms.source

    @contextmanager
    def run(self, inputs: torch.Tensor) -> Iterator[tuple[torch.Tensor, Seen]]:
        """Give all outputs for a batch, and what the batch norm saw.

        Gradients are taken within the context: checkpointed layers run again for them. Where the
        source's statistics are kept, the outputs have no graph.
        """
        # Autocast keeps the half-precision copies of parameters for as long as it lasts, also
        # when the parameters have learned meanwhile.
        torch.clear_autocast_cache()
        seen = Seen()
        if self._norms is None:
            yield self._network.forward_all(inputs), seen
            return
        choose = self._make_chooser(self._norms, len(inputs), seen, self._watch(inputs))
        with self._norms.normalizing(choose):
            outputs = self._run_watched(self._norms, inputs)
            seen.close()
            if outputs is not None and not self._keeps_source(inputs, outputs, seen):
                yield outputs, seen
                return
        del outputs  # with its graph, which would be in memory beside the next pass
        seen.keep(self.source)
        with torch.no_grad():  # nothing is learned from it
            outputs = self._network.forward_all(inputs)
        yield outputs, seen

    def _watch(self, inputs: torch.Tensor) -> Look | None:
        if self._check is None or self._norms is None or not self._norms.is_checked:
            return None
        return self._check.watch(inputs)

    def _run_watched(self, norms: BatchNormLayers, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return all outputs, or None where the pass ended as the source is to answer."""
        try:
            return norms.run(lambda: self._network.forward_all(inputs))
        except FewClassesFound:
            return None

    def _keeps_source(self, inputs: torch.Tensor, outputs: Any, seen: Seen) -> bool:
        if self._check is None:
            return False
        return self._check.keeps_source(inputs, self._network.of_classes(outputs), seen)

    def run_calls(
        self,
        run: Callable[[torch.nn.Module], Outputs],
        images: int,
        after: After,
        before: Callable[[], None] = lambda: None,
    ) -> Outputs:
        """Return what ``run`` makes of the network; each of its calls is a batch of its own.

        Args:
            run: takes the network and calls it as a module, once or several times.
            images: of the batch, where the inputs of a call do not tell how many it has.
            after: called at the end of each call, while gradients can be taken.
            before: called at its beginning.
        """
        torch.clear_autocast_cache()
        module, call = self._network.module, _Call(images)

        def begin(_: object, args: Any, kwargs: Any) -> None:
            call.begin(count_images(args, kwargs))
            if self._norms is not None:
                call.choose = self._make_chooser(self._norms, call.images, call.seen)
            before()

        def end(_: object, args: Any, outputs: Any) -> Any:
            call.seen.close()
            return after(outputs, call.seen, call.images)

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
        """Return the logits of a batch; with the source's statistics where its own are not finite."""
        with self.run(inputs) as (outputs, seen):
            logits = self._network.of_classes(outputs)
        return logits if seen.is_sound else self._network.forward(inputs)

    def _make_chooser(
        self, norms: BatchNormLayers, count: int, seen: Seen, look: Look | None = None
    ) -> Choose:
        """Return what gives each layer its statistics for a batch of ``count`` images.

        ``look`` is called with what the layers have seen so far.
        """
        shares = Shares(self._prior)

        def choose(name: str, values: torch.Tensor) -> Choice:
            source = norms.source[name]
            with torch.no_grad():
                given = LayerInput(values, count)
                target, images = pool_processes(given.statistics(), count, norms.layers[name])
                share = shares.measure(
                    name, source, given, count=images, images=count, again=seen.is_closed
                )
                used = blend(source, target, share) if share > 0 else source
            seen.add(name, target, images, used)
            seen.uses_batch = shares.uses_batch
            if look is not None:
                look(seen)
            return Choice(used, target, share)

        return choose


def _follow(network: AdaptedNetwork) -> BatchNormLayers:
    layers = all_batch_norm_layers(network.module)
    tracked = {name: layer for name, layer in layers.items() if is_tracked(layer)}
    return BatchNormLayers(network.module, tracked)


class _Call:
    """The call of a network that is running: its images, and what its batch norm sees."""

    def __init__(self, images: int) -> None:
        self._default = images
        self.begin(None)

    def begin(self, images: int | None) -> None:
        self.images = self._default if images is None else images
        self.seen = Seen()
        self.choose: Choose = _refuse


def _refuse(name: str, values: torch.Tensor) -> Choice:
    raise AssertionError(f"{name} ran outside of a call of its network")


def count_images(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Return how many images a network is called with; None where the first input does not say."""
    first = args[0] if args else next(iter(kwargs.values()), None)
    if isinstance(first, torch.Tensor) and first.ndim:
        return len(first)
    return len(first) if isinstance(first, (list, tuple)) and first else None
