"""The features before a network's last layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from shiftproof.adapt.base.network import AdaptedNetwork, describe_output
from shiftproof.errors import ModelError


def run_with_features(
    network: AdaptedNetwork, head: torch.nn.Module, inputs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits ``(N, K)`` of the classes and features ``(N, D)`` of a batch.

    Args:
        network: an adapter's copy.
        head: its last layer, whose inputs are the features.
        inputs: ``(N, ...)``, prepared.

    Raises:
        ModelError: the head did not run as a module, or there is no row for each image.
    """
    with keep_inputs(head) as kept:
        logits = network.forward(inputs)
    if not kept:
        raise ModelError("The model ran without calling its last linear layer as a module.")
    features = kept[-1].flatten(1)
    for what, rows in (("logits", logits), ("features before its last layer", features)):
        if not isinstance(rows, torch.Tensor) or rows.shape[:-1] != (len(inputs),):
            raise ModelError(
                f"Expected {what} ({len(inputs)}, K), a row for each image, got "
                f"{describe_output(rows)}."
            )
    return logits, features


@contextmanager
def keep_inputs(layer: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Context that collects the inputs of a layer in a list."""
    kept: list[torch.Tensor] = []

    def keep(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.append(args[0] if args else next(iter(kwargs.values())))

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield kept
    finally:
        handle.remove()


def find_finite_rows(logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Return ``(N,)`` bool: the images whose logits and features are finite.

    Minus infinity is allowed: it excludes a class.
    """
    return torch.isfinite(logits.float().logsumexp(1)) & torch.isfinite(features).all(1)
