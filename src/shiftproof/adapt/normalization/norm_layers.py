"""The norm layers of a network."""

from __future__ import annotations

import collections
from typing import Any

import torch

from shiftproof.errors import ModelError


def is_batch_norm(layer: torch.nn.Module) -> bool:
    """Whether a layer normalizes by running statistics per channel, frozen or not."""
    if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
        return True
    if isinstance(layer, torch.nn.modules.instancenorm._InstanceNorm):
        return False
    # By name: torchvision, timm and detectron2 have unrelated classes.
    if any(kind.__name__.startswith("FrozenBatchNorm") for kind in type(layer).__mro__):
        return True
    # Other implementations (InplaceABN, ABN, users' own): running statistics per channel.
    mean, variance = (getattr(layer, name, None) for name in ("running_mean", "running_var"))
    return (
        isinstance(mean, torch.Tensor)
        and isinstance(variance, torch.Tensor)
        and mean.ndim == 1
        and mean.shape == variance.shape
        and hasattr(layer, "eps")
        and not isinstance(layer, torch.jit.ScriptModule)
    )


_NORM_NAMES = ("batchnorm", "layernorm", "groupnorm", "instancenorm", "rmsnorm")
"""Parts of the class names of norm layers in all libraries: ``LayerNorm2d``, ``RmsNormAct``,
``T5LayerNorm``. Other layers are not included: global response norm (ConvNeXt V2), EvoNorm, filter
response norm, layer scale, weight norm.
"""

_COMPOUND = ("linear", "mlp", "conv", "attention", "block", "head")
"""Parts of the class names of layers that do more than normalize (``LayerNormLinear``)."""


def is_norm(layer: torch.nn.Module) -> bool:
    """Whether a layer normalizes activations: batch, layer, group, instance or RMS norm.

    Torch's classes and their subclasses, and others by their class names, as norm layers of
    libraries share no base class. A layer with such a name but without own parameters, whose
    children have some (a transformer's "PreLayerNorm"), is not a norm layer.
    """
    if is_batch_norm(layer):
        return True
    nn = torch.nn
    torch_norms = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)
    if isinstance(layer, torch_norms):
        return True
    names = [kind.__name__.lower().replace("_", "") for kind in type(layer).__mro__]
    if not any(word in name for name in names for word in _NORM_NAMES):
        return False
    own = any(True for _ in layer.parameters(recurse=False))
    below = any(True for _ in layer.parameters())
    return (own or not below) and not any(word in names[0] for word in _COMPOUND)


def find_norm_layers(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the norm layers of a network by name, in the order in which it lists its modules."""
    return {name: layer for name, layer in network.named_modules() if is_norm(layer)}


def find_all_batch_norm_layers(network: torch.nn.Module) -> dict[str, Any]:
    """Return the batch-norm layers of a network by name, with source statistics and without."""
    return {name: layer for name, layer in network.named_modules() if is_batch_norm(layer)}


def is_tracked(layer: Any) -> bool:
    """Whether a batch-norm layer keeps source statistics."""
    names = ("running_mean", "running_var")
    return all(getattr(layer, name, None) is not None for name in names)


def find_tracked_batch_norm_layers(network: torch.nn.Module) -> dict[str, Any]:
    """Return the batch-norm layers that keep source statistics, by name; empty without any."""
    layers = find_all_batch_norm_layers(network)
    return {name: layer for name, layer in layers.items() if is_tracked(layer)}


def find_batch_norm_layers(network: torch.nn.Module) -> tuple[dict[str, Any], int]:
    """Return the batch-norm layers with source statistics by name, and how many have none.

    Raises:
        ModelError: no layer keeps source statistics; says what there is instead.
    """
    layers, tracked = find_all_batch_norm_layers(network), find_tracked_batch_norm_layers(network)
    if tracked:
        return tracked, len(layers) - len(tracked)
    if layers:
        raise ModelError(
            f"The {len(layers)} batch-norm layers of {type(network).__name__} keep no source "
            "statistics (track_running_stats=False): they normalize by each batch already, so "
            "there is nothing to adapt."
        )
    others = collections.Counter(
        type(layer).__name__ for layer in find_norm_layers(network).values()
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


def make_several_runs_error(name: str) -> ModelError:
    """Return the error for a layer with several sets of statistics, which cannot be merged."""
    return ModelError(
        f"The layer {name!r} ran several times in one forward, each time with other statistics; "
        "a plain model can hold only one set, so it cannot be merged."
    )
