"""Selections of the parameters to learn, for any training loop."""

from __future__ import annotations

from typing import Literal

import torch

from shiftproof.adapt.normalization.layer_choice import LayerChoice, choose_layers
from shiftproof.adapt.normalization.norm_layers import find_norm_layers
from shiftproof.errors import ModelError


def affine_parameters(
    network: torch.nn.Module, layers: LayerChoice = "all"
) -> dict[str, torch.nn.Parameter]:
    """Return scale and shift of the norm layers (Rusak et al. 2021, section 3), by name.

    Batch, layer, group, instance and RMS norm, and no other layer, so convolutional networks,
    ConvNeXt and vision transformers all have some: 53,120 values in ResNet-50.

    Args:
        network: any.
        layers: which of the norm layers that have such parameters, in the network's order:
            ``"all"``, ``"first-10"``, ``"last-10"``, ``"last-33%"``, or their names.

    Raises:
        ModelError: there are none.
    """
    found = {
        name: layer for name, layer in find_norm_layers(network).items() if _own_parameters(layer)
    }
    if not found:
        raise ModelError(
            f"{type(network).__name__} has no norm layer with a scale and shift to learn "
            f"({_explain_no_norms(network)}): use parameters='last' or 'all'."
        )
    chosen = set(choose_layers(list(found), layers))
    of_layers = {id(p) for name in chosen for p in _own_parameters(found[name])}
    return {name: p for name, p in network.named_parameters() if id(p) in of_layers}


def affine_or_all(network: torch.nn.Module) -> Literal["affine", "all"]:
    """Return ``"affine"`` if the norm layers have parameters, else ``"all"``."""
    try:
        affine_parameters(network)
    except ModelError:
        return "all"
    return "affine"


def _explain_no_norms(network: torch.nn.Module) -> str:
    """Return why a network has no norm layer with parameters."""
    if any("Frozen" in type(layer).__name__ for layer in find_norm_layers(network).values()):
        return "those of a frozen batch norm are constants"
    others = {type(part).__name__ for part in network.modules() if _own_parameters(part)}
    named = sorted(name for name in others if "Norm" in name)
    if named:
        return f"{', '.join(named)} is neither batch, layer, group, instance nor RMS norm"
    return "batch norm may have been folded into its convolutions"


def _own_parameters(layer: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return a layer's own parameters, including those of parametrizations, without its
    children's.
    """
    own = list(layer.parameters(recurse=False))
    parametrized = getattr(layer, "parametrizations", None)
    return own if parametrized is None else [*own, *parametrized.parameters()]


def last_layer_parameters(network: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of the layer that gives the logits, by name.

    Raises:
        ModelError: there is no linear or convolutional layer.
    """
    own = {id(p) for p in _own_parameters(network.get_submodule(last_layer_name(network)))}
    return {name: p for name, p in network.named_parameters() if id(p) in own}


def all_parameters(network: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return all floating parameters by name, as the paper learns them in vision transformers."""
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.is_floating_point()
    }


def last_layer_name(network: torch.nn.Module) -> str:
    """Return the name of the last linear layer, or of the last convolution if there is none.

    Raises:
        ModelError: there is neither.
    """
    choices: list[tuple[type, ...]] = [(torch.nn.Linear,), (torch.nn.Conv2d, torch.nn.Conv1d)]
    for kinds in choices:
        names: list[str] = [n for n, part in network.named_modules() if isinstance(part, kinds)]
        if names:
            return names[-1]
    raise ModelError(
        f"{type(network).__name__} has no linear or convolutional layer that could give the logits."
    )


SELECTIONS = {
    "affine": affine_parameters,
    "last": last_layer_parameters,
    "all": all_parameters,
}
"""The selections by the name that ``SelfLearning`` and the command line take."""
