"""A classifier's network without its last layer: the features that the last layer looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.errors import ModelError

if TYPE_CHECKING:
    import torch


def drop_last_layer(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """Take the last layer off a classifier; ``module`` is changed and returned.

    A model of timm has a method for that, which leaves its pooled features. Of any other the
    linear layer that was registered last is replaced by the identity: what comes out is that
    layer's input.

    Raises:
        ModelError: it has no linear layer.
    """
    import torch

    reset: Any = getattr(module, "reset_classifier", None)
    if callable(reset):
        with torch.random.fork_rng(devices=[]):
            reset(0)
        return module
    found = [key for key, part in module.named_modules() if isinstance(part, torch.nn.Linear)]
    if not found:
        raise ModelError(
            f"{name} has no linear layer at its end whose input could be its features. Build the "
            "part that gives vectors yourself and wrap it: Encoder(module, preprocess)."
        )
    parent, _, child = found[-1].rpartition(".")
    setattr(module.get_submodule(parent), child, torch.nn.Identity())
    return module
