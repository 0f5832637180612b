"""Classifiers of torchvision, with their published weights and the preprocessing of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.classes import Classes, imagenet, named
from shiftproof.errors import MissingExtraError, ModelError, UnknownNameError
from shiftproof.models.loaded import Loaded, LoadOptions
from shiftproof.models.preprocess import Interpolation, Preprocess
from shiftproof.models.structure import download_error, require_torch

if TYPE_CHECKING:
    import torch


def load_torchvision(target: str, options: LoadOptions) -> Loaded:
    """Load ``NAME`` or ``NAME@WEIGHTS``; without ``WEIGHTS`` torchvision's default ones.

    Preprocessing and classes are those of the weights, also with ``pretrained=False``.

    Raises:
        UnknownNameError: no such model or weights.
        ModelError: the weights cannot be downloaded.
        MissingExtraError: torchvision is not installed.
    """
    name, _, tag = target.partition("@")
    weights = find_weights(name, tag)
    classes = classes_of(weights)
    models = torchvision_models()
    import torch

    # Building a network draws its first weights from the global generator: put that back.
    with torch.random.fork_rng(devices=[]):
        if options.pretrained is False:
            module = models.get_model(name, weights=None)
        else:
            module = downloaded(target, weights)
    return Loaded(module, preprocess_of(weights), classes)


def downloaded(target: str, weights: Any) -> Any:
    """Return the model that ``NAME`` or ``NAME@WEIGHTS`` names, with these weights.

    Raises:
        ModelError: they cannot be downloaded.
    """
    name = target.partition("@")[0]
    try:
        return torchvision_models().get_model(name, weights=weights)
    except Exception as error:
        raise download_error(f"torchvision:{target}", f"torchvision:{name}", error) from error


def build_torchvision(name: str, num_classes: int | None) -> torch.nn.Module:
    """Return an untrained model; ``num_classes`` None gives the 1,000 of ImageNet."""
    find_weights(name, "")
    import torch

    with torch.random.fork_rng(devices=[]):
        module: torch.nn.Module = torchvision_models().get_model(
            name, weights=None, **({} if num_classes is None else {"num_classes": num_classes})
        )
    return module


def find_weights(name: str, tag: str) -> Any:
    """Return the weights ``tag`` of the classifier ``name``; an empty tag is the default.

    Raises:
        UnknownNameError: no such model or weights; says the nearest.
    """
    models = torchvision_models()
    known = models.list_models(module=models)
    if name not in known:
        message = str(UnknownNameError.of("torchvision model", name, known))
        raise UnknownNameError(
            f"{message.partition(' Known:')[0]} torchvision.models.list_models() has all "
            f"{len(known)}."
        )
    return tagged_weights(name, tag)


def tagged_weights(name: str, tag: str) -> Any:
    """Return the weights ``tag`` of a model that torchvision has; an empty tag is the default.

    Raises:
        UnknownNameError: no such weights; says the nearest.
    """
    weights = torchvision_models().get_model_weights(name)
    if not tag:
        return weights.DEFAULT
    if tag not in weights.__members__:
        raise UnknownNameError.of(f"{name} weights", tag, weights.__members__)
    return weights[tag]


def preprocess_of(weights: Any) -> Preprocess:
    """Return the evaluation preprocessing that torchvision states for these weights."""
    preset = weights.transforms()
    interpolation: Interpolation = preset.interpolation.value
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    return Preprocess(
        (crop, crop), resize, interpolation, mean=tuple(preset.mean), std=tuple(preset.std)
    )


def classes_of(weights: Any) -> Classes:
    """Return what the outputs mean.

    Raises:
        ModelError: the weights have features only and no trained last layer (one set of VGG16's).
    """
    if weights.meta.get("categories") is None:
        raise ModelError(f"The weights {weights} classify nothing: they are for features only.")
    categories = list(weights.meta["categories"])
    # All its ImageNet weights carry one list; its spelling is not that of our table.
    if categories == list(torchvision_models().ResNet18_Weights.IMAGENET1K_V1.meta["categories"]):
        return imagenet()
    return named(categories)


def torchvision_models() -> Any:
    """Return ``torchvision.models``, or raise a MissingExtraError that says the pip line."""
    require_torch()
    try:
        import torchvision
    except ImportError as error:
        raise MissingExtraError.of("torchvision", "torch") from error
    return torchvision.models
