"""The norm layers of a network: which there are, and which of them are chosen."""

from __future__ import annotations

import collections
from typing import Any

import torch

from shiftproof.adapt.layer_choice import LayerChoice as LayerChoice
from shiftproof.adapt.layer_choice import choose_layers as choose_layers
from shiftproof.errors import ModelError


def is_batch_norm(layer: torch.nn.Module) -> bool:
    """Whether a layer normalizes by running statistics per channel, frozen or not."""
    if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
        return True
    if isinstance(layer, torch.nn.modules.instancenorm._InstanceNorm):
        return False
    # By name: torchvision, timm and detectron2 each have a class of their own, none related.
    if any(kind.__name__.startswith("FrozenBatchNorm") for kind in type(layer).__mro__):
        return True
    # Whoever wrote batch norm anew (InplaceABN, ABN, one's own): running statistics per channel.
    mean, variance = (getattr(layer, name, None) for name in ("running_mean", "running_var"))
    return (
        isinstance(mean, torch.Tensor)
        and isinstance(variance, torch.Tensor)
        and mean.ndim == 1
        and mean.shape == variance.shape
        and hasattr(layer, "eps")
        and not isinstance(layer, torch.jit.ScriptModule)
    )


_NAMED = ("batchnorm", "layernorm", "groupnorm", "instancenorm", "rmsnorm")
"""What the name of a norm layer's class holds, whatever library it is of: ``LayerNorm2d``,
``RmsNormAct``, ``T5LayerNorm``. Not among them, as they are other things: global response norm
(ConvNeXt V2), EvoNorm, filter response norm, layer scale, weight norm."""

_MORE = ("linear", "mlp", "conv", "attention", "block", "head")
"""What the name of a class holds that is more than a norm layer (``LayerNormLinear``)."""


def is_norm(layer: torch.nn.Module) -> bool:
    """Whether a layer normalizes activations: batch, layer, group, instance or RMS norm.

    Torch's classes and all that are made of them; else told by the class's name, as libraries have
    norm layers of their own that share no base. A layer of that name that has no parameter itself
    but holds layers with some (a transformer's "PreLayerNorm") is none.
    """
    if is_batch_norm(layer):
        return True
    nn = torch.nn
    torchs = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)
    if isinstance(layer, torchs):
        return True
    names = [kind.__name__.lower().replace("_", "") for kind in type(layer).__mro__]
    if not any(word in name for name in names for word in _NAMED):
        return False
    own = any(True for _ in layer.parameters(recurse=False))
    below = any(True for _ in layer.parameters())
    return (own or not below) and not any(word in names[0] for word in _MORE)


def norm_layers(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the norm layers of a network by name, in the order in which it lists its modules."""
    return {name: layer for name, layer in network.named_modules() if is_norm(layer)}


def all_batch_norm_layers(network: torch.nn.Module) -> dict[str, Any]:
    """Return the batch-norm layers of a network by name, with source statistics and without."""
    return {name: layer for name, layer in network.named_modules() if is_batch_norm(layer)}


def is_tracked(layer: Any) -> bool:
    """Whether a batch-norm layer keeps source statistics."""
    names = ("running_mean", "running_var")
    return all(getattr(layer, name, None) is not None for name in names)


def has_statistics(network: torch.nn.Module) -> bool:
    """Whether a network has batch norm with source statistics."""
    return any(is_tracked(layer) for layer in all_batch_norm_layers(network).values())


def batch_norm_layers(network: torch.nn.Module) -> tuple[dict[str, Any], int]:
    """Return the batch-norm layers with source statistics by name, and how many have none.

    Raises:
        ModelError: no layer keeps source statistics; says what there is instead.
    """
    layers = all_batch_norm_layers(network)
    tracked = {name: layer for name, layer in layers.items() if is_tracked(layer)}
    if tracked:
        return tracked, len(layers) - len(tracked)
    if layers:
        raise ModelError(
            f"The {len(layers)} batch-norm layers of {type(network).__name__} keep no source "
            "statistics (track_running_stats=False): they normalise by each batch already, so "
            "there is nothing to adapt."
        )
    others = collections.Counter(type(layer).__name__ for layer in norm_layers(network).values())
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


def several_runs_error(name: str) -> ModelError:
    """Return the error to raise where a layer has no single set of statistics to be merged."""
    return ModelError(
        f"The layer {name!r} ran several times in one forward, each time with other statistics; "
        "a plain model can hold only one set, so it cannot be merged."
    )
