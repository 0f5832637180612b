"""Classifiers of torchvision, with their published weights and preprocessing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from shiftproof.classes import Classes, imagenet, name_classes
from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.lazy import import_extra
from shiftproof.models.architecture import Architecture
from shiftproof.models.classifiers.options import Loaded, LoadOptions
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
    import torch

    # Building a network draws initial weights from the global generator: restore its state.
    with torch.random.fork_rng(devices=[]):
        if options.pretrained is False:
            module = build_torchvision(name, weights, len(classes))
            drop_auxiliary(module, ["AuxLogits."])
        else:
            module = download(target, weights)
    return Loaded(
        module,
        read_preprocess(weights),
        classes,
        preprocess_from=f"torchvision's for {weights}",
        classes_from="torchvision's weights",
        assumed=("random weights",) if options.pretrained is False else (),
    )


def check_torchvision(target: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown torchvision name, or weights without a classification head.

    Raises:
        UnknownNameError, ModelError, MissingExtraError: as for :func:`load_torchvision`.
    """
    name, _, tag = target.partition("@")
    classes_of(find_weights(name, tag))


def download(target: str, weights: Any) -> Any:
    """Return the model that ``NAME`` or ``NAME@WEIGHTS`` names, with these weights.

    Raises:
        ModelError: the weights cannot be downloaded.
    """
    name = target.partition("@")[0]
    try:
        return import_torchvision_models().get_model(name, weights=weights)
    except Exception as error:
        raise download_error(f"torchvision:{target}", f"torchvision:{name}", error) from error


_BUILD_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "aux_logits": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": True, "init_weights": False},
}
"""Arguments that torchvision overrides when weights are given (its ``_ovewrite_named_param``)."""

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Auxiliary heads for the training of GoogLeNet and Inception; torchvision drops the former's."""

_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)
"""Names in the published files of DenseNet and the vision transformers, which torchvision renames
on loading.
"""


def make_torchvision_architecture(
    name: str, weights: Any, size: tuple[int, int] | None
) -> Architecture:
    """Return the architecture of a classifier, built as torchvision builds it for its weights.

    ``size`` is that of the images, if the caller sets it.
    """

    def build(classes: int | None, channels: int) -> torch.nn.Module:
        module = build_torchvision(name, weights, classes, size)
        return module if channels == 3 else _with_channels(module, channels)

    return Architecture(name, build, rename=_modernize_name, optional=_AUXILIARY)


def build_torchvision(
    name: str, weights: Any, num_classes: int | None, size: tuple[int, int] | None = None
) -> torch.nn.Module:
    """Return an untrained network built as for ``weights``; ``num_classes`` None is theirs."""
    import torch

    options = dict(_BUILD_OPTIONS.get(name, {}))
    if num_classes is not None:
        options["num_classes"] = num_classes
    if name.startswith("vit_"):
        options["image_size"] = (size or weights.meta["min_size"])[0]
    elif name.startswith("maxvit"):
        options["input_size"] = tuple(size or weights.meta["min_size"])
    with torch.random.fork_rng(devices=[]):
        module: torch.nn.Module = import_torchvision_models().get_model(
            name, weights=None, **options
        )
    return module


def drop_auxiliary(module: Any, names: Collection[str]) -> None:
    """Remove auxiliary heads, unless torchvision keeps them and they are in ``names``.

    As in torchvision: GoogLeNet's always, Inception's if the file has none.
    """
    for head in ("aux1", "aux2", "AuxLogits"):
        kept = head == "AuxLogits" and any(name.startswith("AuxLogits.") for name in names)
        if getattr(module, head, None) is not None and not kept:
            setattr(module, head, None)
            module.aux_logits = False


def _with_channels(module: Any, channels: int) -> torch.nn.Module:
    """Replace a network's first convolution, and remove a color transform."""
    import torch

    found = next(
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.Conv2d) and part.in_channels == 3
    )
    name, old = found
    parent, _, child = name.rpartition(".")
    with torch.random.fork_rng(devices=[]):
        new = torch.nn.Conv2d(
            channels,
            old.out_channels,
            (old.kernel_size[0], old.kernel_size[1]),
            (old.stride[0], old.stride[1]),
            (old.padding[0], old.padding[1]) if isinstance(old.padding, tuple) else old.padding,
            (old.dilation[0], old.dilation[1]),
            bias=old.bias is not None,
        )
    setattr(module.get_submodule(parent), child, new)
    if hasattr(module, "transform_input"):
        module.transform_input = False
    network: torch.nn.Module = module
    return network


def _modernize_name(name: str) -> str:
    for old, new in _RENAMED:
        name = old.sub(new, name)
    return name


def find_weights(name: str, tag: str) -> Any:
    """Return the weights ``tag`` of the classifier ``name``; an empty tag selects the default.

    Raises:
        UnknownNameError: no such model or weights; says the nearest.
    """
    models = import_torchvision_models()
    known = models.list_models(module=models)
    if name not in known:
        message = str(UnknownNameError.of("torchvision model", name, known))
        raise UnknownNameError(
            f"{message.partition(' Known:')[0]} torchvision.models.list_models() has all "
            f"{len(known)}."
        )
    return look_up_weights(name, tag)


def look_up_weights(name: str, tag: str) -> Any:
    """Return the weights ``tag`` of a model that torchvision has; an empty tag selects the default.

    Raises:
        UnknownNameError: no such weights; says the nearest.
    """
    weights = import_torchvision_models().get_model_weights(name)
    if not tag:
        return weights.DEFAULT
    if tag not in weights.__members__:
        raise UnknownNameError.of(f"{name} weights", tag, weights.__members__)
    return weights[tag]


def read_preprocess(weights: Any) -> Preprocess:
    """Return the evaluation preprocessing that torchvision states for these weights."""
    preset = weights.transforms()
    interpolation: Interpolation = preset.interpolation.value
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    return Preprocess(
        (crop, crop), resize, interpolation, mean=tuple(preset.mean), std=tuple(preset.std)
    )


def classes_of(weights: Any) -> Classes:
    """Return the classes of the outputs.

    Raises:
        ModelError: the weights have no trained last layer, only features (one set of VGG16's).
    """
    if weights.meta.get("categories") is None:
        raise ModelError(
            f"The weights {weights} have no trained classification head, only features."
        )
    categories = list(weights.meta["categories"])
    # All its ImageNet weights share one list, whose spelling differs from our table.
    if categories == list(
        import_torchvision_models().ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    ):
        return imagenet()
    return name_classes(categories)


def import_torchvision_models() -> Any:
    """Return ``torchvision.models``, or raise a MissingExtraError with the pip command."""
    require_torch()
    return import_extra("torchvision", "torch").models
