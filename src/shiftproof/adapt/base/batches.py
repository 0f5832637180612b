"""What is wrong with a batch that a network does not take, in the caller's words."""

from __future__ import annotations

import torch

from shiftproof.models.structure import get_input_dtype

_WRAP = (
    "A plain torch.nn.Module gets the batch as it is; Classifier(module, preprocess, classes) takes "
    "uint8 0..255 and floats 0..1, and normalizes them."
)


def explain_batch(module: torch.nn.Module, batch: torch.Tensor) -> str | None:
    """Return how a batch differs from what a network takes, with what to do; None if it does not.

    What it takes is read from its first layer with weights. This is for after an error, since a
    network may also convert its input by itself.

    Args:
        module: the network.
        batch: the images along the first axis.
    """
    expected = get_input_dtype(module)
    got = f"{_show_dtype(batch.dtype)} {tuple(batch.shape)}"
    if batch.dtype != expected:
        advice = (
            "Normalize and convert it as in your evaluation, such as batch.float() / 255."
            if not batch.is_floating_point()
            else f"Convert it: batch.to({expected})."
        )
        return f"Expected a batch of {_show_dtype(expected)}, got {got}. {advice} {_WRAP}"
    layer = _find_first_layer(module)
    if layer is None:
        return None
    dimensions, channels = layer
    form = f"(N, {channels}{', H, W' if dimensions == 4 else ', ...'})"
    if batch.ndim == dimensions - 1:
        return f"Expected a batch {form}, got {got}. Add the batch dimension: batch[None]. {_WRAP}"
    if batch.ndim != dimensions:
        return f"Expected a batch {form}, got {got}. {_WRAP}"
    if batch.shape[1] != channels:
        moved = dimensions == 4 and batch.shape[3] == channels
        advice = "The channels come second: batch.permute(0, 3, 1, 2). " if moved else ""
        return f"Expected a batch {form}, got {got}. {advice}{_WRAP}"
    return None


def _find_first_layer(module: torch.nn.Module) -> tuple[int, int] | None:
    """Return the number of axes and the channels that the first convolution takes."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d):
            return part.weight.ndim, part.in_channels
        if isinstance(part, torch.nn.Linear):
            return None  # it takes any number of axes
    return None


def _show_dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
