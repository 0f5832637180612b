"""Batch-norm layers that normalize by what an adapter chooses: one way for all adapters."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import torch

from shiftproof.adapt.gradient import Mixture, normalize, normalize_by_mixture, through_statistics
from shiftproof.adapt.norms import all_batch_norm_layers
from shiftproof.adapt.statistics import (
    Statistics,
    all_finite,
    is_table,
    pool,
    process_group,
    share_arrays,
)
from shiftproof.adapt.watch import StandIn, check_structure, run_checked

Outputs = TypeVar("Outputs")


class Choice(NamedTuple):
    """What a layer is to normalize its input by.

    ``share`` is that of the input's own statistics, ``batch``, in the statistics: a gradient flows
    through so much of them. The rest is constant. ``inputs`` is what the layer is handed in place of
    its input, where one mean and variance per channel cannot say how it is normalized.
    """

    statistics: Statistics
    batch: Statistics | None = None
    share: float = 0.0
    inputs: torch.Tensor | None = None


Choose: TypeAlias = Callable[[str, "torch.Tensor"], Choice]
"""Gives a layer's name and input ``(N, C, ...)`` what the layer is to normalize by."""


class BatchNormLayers:
    """The batch-norm layers of a network, made to normalize by what an adapter chooses.

    The layer's own forward runs, in evaluation mode, with the chosen statistics for its running
    ones; so it does whatever its class does beside normalizing (an activation, a drop-out), and
    any class will do whose output depends on nothing but the normalized input. Where the statistics
    are the batch's own, the gradient through them is added to that of the layer's input: it
    follows from that alone (:mod:`shiftproof.adapt.gradient`). Torch's own layers take both at once.

    What cannot be followed is refused, and never answered otherwise: at the start what the
    network's structure shows, in the first forward pass what only its run shows.

    Args:
        network: the adapter's own copy.
        layers: those of its batch-norm layers that are to be followed, by name; the others keep
            their statistics.

    Attributes:
        layers: the same.
        source: the statistics that each layer came with; float32 where those are of half precision.

    Raises:
        ModelError: a part of the network has batch norm that cannot be followed.
    """

    def __init__(self, network: torch.nn.Module, layers: Mapping[str, Any]) -> None:
        self._network = network
        self._known = all_batch_norm_layers(network)
        check_structure(network, self._known)
        self.layers = dict(layers)
        self._kept = {
            name: (layer.running_mean, layer.running_var) for name, layer in layers.items()
        }
        self.source = {
            name: share_arrays(Statistics(*map(_to_float32, kept)))
            for name, kept in self._kept.items()
        }
        self._is_checked = False

    @contextmanager
    def normalizing(self, choose: Choose) -> Iterator[None]:
        """Let each layer normalize by what ``choose`` gives, and put all back at the end.

        The context must last until gradients are taken: checkpointed layers run again for them.
        Outside of it the network is as it was and holds no hook, so that an exception in the
        middle leaves nothing behind.
        """
        together = self._take_together()
        handles = [
            layer.register_forward_pre_hook(
                _hook(name, choose, together.get(name), _is_half(self._kept[name][0])),
                with_kwargs=True,
            )
            for name, layer in self.layers.items()
        ]
        for name, forward in together.items():
            self.layers[name].forward = forward
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for name in together:
                del self.layers[name].forward
            for name, layer in self.layers.items():
                _set_statistics(layer, *self._kept[name])

    def _take_together(self) -> dict[str, _Together]:
        """Return what stands in for the forward of torch's own layers."""
        return {n: _Together(layer) for n, layer in self.layers.items() if _is_plain(layer)}

    @property
    def is_checked(self) -> bool:
        """Whether a whole forward pass has shown that all batch norm can be followed."""
        return self._is_checked

    def run(self, forward: Callable[[], Outputs]) -> Outputs:
        """Return what ``forward`` gives, a forward pass in ``normalizing``.

        Raises:
            ModelError: in it, batch norm ran that cannot be followed; names the layer.
        """
        if self._is_checked:
            return forward()
        outputs = run_checked(forward, self._network, self._known, self.layers)
        self._is_checked = True
        return outputs


class Seen:
    """What the layers saw in one forward pass.

    Attributes:
        batch: each layer's statistics of the batch, over all its runs, and their number of images.
        used: what each layer normalized by, at its last run.
        uses_batch: whether the batch's statistics count in any layer.
        is_kept: whether the source's statistics were kept although the batch's were measured.
    """

    def __init__(self) -> None:
        self.batch: dict[str, tuple[Statistics, float]] = {}
        self.used: dict[str, Statistics] = {}
        self._runs: collections.Counter[str] = collections.Counter()
        self._is_closed = False
        self.uses_batch = False
        self.is_kept = False

    def add(self, name: str, batch: Statistics, images: float, used: Statistics) -> None:
        """Add the run of a layer; after ``close`` it is one that is repeated for a gradient."""
        if self._is_closed:
            return
        # A layer that runs several times in one forward counts each time.
        before = self._runs[name]
        together = pool(self.batch[name][0], before, batch, 1) if before else batch
        self.batch[name] = together, images
        self.used[name] = used
        self._runs[name] += 1

    def close(self) -> None:
        """The forward pass is through; what runs from now on is repeated."""
        self._is_closed = True

    def keep(self, source: Mapping[str, Statistics]) -> None:
        """Note that the pass was run once more, by the source's statistics."""
        self.used, self.is_kept = dict(source), True
        self._runs.clear()

    @property
    def is_closed(self) -> bool:
        """Whether the forward pass is through, so that what runs now is repeated."""
        return self._is_closed

    @property
    def layers_run_twice(self) -> list[str]:
        """The layers that ran more than once."""
        return [name for name, times in self._runs.items() if times > 1]

    @property
    def is_sound(self) -> bool:
        """Whether the batch's own statistics are finite in all layers."""
        return all_finite({name: statistics for name, (statistics, _) in self.batch.items()})


def _to_float32(values: torch.Tensor) -> torch.Tensor:
    return values.float() if _is_half(values) else values


def _is_half(values: torch.Tensor) -> bool:
    return values.dtype in (torch.float16, torch.bfloat16)


def _set_statistics(layer: Any, mean: torch.Tensor, variance: torch.Tensor) -> None:
    buffers = layer._buffers
    if "running_mean" in buffers and "running_var" in buffers:
        # Past torch's own setattr, which looks at each value for longer than small layers take.
        buffers["running_mean"], buffers["running_var"] = mean, variance
    else:
        layer.running_mean, layer.running_var = mean, variance


class _Together(StandIn):
    """Stands in for a layer's forward, and normalizes by statistics or a mixture where set."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self.set(None)

    def set(self, statistics: Statistics | None, mixture: Mixture | None = None) -> None:
        self._statistics = statistics
        self._mixture = mixture

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        # Torch's own name: a network may call the layer by keyword.
        layer = self._layer
        weight, bias = layer.weight, layer.bias
        layer._check_input_dim(input)
        if self._mixture is not None:
            return normalize_by_mixture(layer, input, self._mixture)
        if self._statistics is None or layer.training or _takes_gradient(input, weight, bias):
            return cast("torch.Tensor", type(layer).forward(layer, input))
        return normalize(input, self._statistics, weight, bias, layer.eps)


def _takes_gradient(*tensors: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _is_plain(layer: Any) -> bool:
    """Whether a layer is torch's own, in float32, with a scale and shift."""
    nn = torch.nn
    return (
        type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        and "forward" not in vars(layer)
        and layer.weight is not None
        and layer.bias is not None
        and layer.weight.dtype == layer.running_mean.dtype == torch.float32
    )


def _hook(
    name: str, choose: Choose, together: _Together | None, is_half: bool
) -> Callable[..., Any]:
    def run(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if together is not None:
            together.set(None)
        values = args[0] if args else next(iter(kwargs.values()))
        statistics, batch, share, inputs = choose(name, values)
        handed = values if inputs is None else inputs
        if is_half:
            # Statistics of half precision would be off by more than the inputs are.
            handed, statistics = _normalize_half(layer, handed, statistics)
        _set_statistics(layer, *statistics)
        if batch is not None and share > 0 and torch.is_grad_enabled() and values.requires_grad:
            if together is not None and handed is values and is_table(values):
                together.set(None, Mixture(statistics, batch.mean, share))
                return None
            handed = through_statistics(
                handed,
                *statistics,
                eps_of(layer),
                process_group(layer),
                batch_mean=batch.mean,
                share=share,
            )
        if handed is values:
            if together is not None:
                together.set(statistics)
            return None
        if args:
            return (handed, *args[1:]), kwargs
        return args, {**kwargs, next(iter(kwargs)): handed}

    return run


def _normalize_half(
    layer: Any, values: torch.Tensor, statistics: Statistics
) -> tuple[torch.Tensor, Statistics]:
    """Return an input that is normalized already, and statistics by which it stays as it is."""
    shape = (-1, *[1] * (values.ndim - 2))
    scale = (statistics.variance + eps_of(layer)).rsqrt().view(shape)
    inputs = ((values.float() - statistics.mean.view(shape)) * scale).to(values.dtype)
    like = layer.running_var
    kept = Statistics(torch.zeros_like(like), torch.full_like(like, 1 - eps_of(layer)))
    return inputs, kept


def eps_of(layer: Any) -> float:
    """Return a layer's eps; that of torch where its class keeps it to itself."""
    return float(getattr(layer, "eps", 1e-5))
