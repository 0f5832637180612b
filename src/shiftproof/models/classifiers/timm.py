"""Classifiers of timm, with their pretrained weights and their data configuration."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shiftproof.classes import Classes, imagenet
from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.lazy import import_extra
from shiftproof.models.architecture import Architecture
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.preprocess import Preprocess
from shiftproof.models.structure import download_error, require_torch

if TYPE_CHECKING:
    import torch


def load_timm(target: str, options: LoadOptions) -> Loaded:
    """Load ``NAME`` or ``NAME.TAG`` (or ``hf-hub:ORGANIZATION/NAME``).

    The preprocessing is timm's own evaluation transform for these weights; the classes are
    ImageNet's where timm says that the weights have them.

    Raises:
        UnknownNameError: no such model or tag.
        ModelError: the weights cannot be downloaded, the data configuration is not supported, or
            the model has no head although logits are needed.
        MissingExtraError: timm is not installed.
    """
    timm = _import_timm()
    import torch

    pretrained = options.pretrained is not False
    _check_name(target, pretrained=pretrained)
    if not options.features and not _is_on_the_hub(target):
        # Before a download.
        _check_head(target, timm.get_pretrained_cfg_value(target, "num_classes"))
    # Building a network draws initial weights from the global generator: restore its state.
    with torch.random.fork_rng(devices=[]):
        try:
            module = timm.create_model(target, pretrained=pretrained)
        except Exception as error:
            arch = "NAME" if _is_on_the_hub(target) else target.partition(".")[0]
            raise download_error(f"timm:{target}", f"timm:{arch}", error) from error
    if not options.features:
        _check_head(target, getattr(module, "num_classes", None))
    return Loaded(
        module,
        read_preprocess(module),
        classes_of(module),
        preprocess_from="timm's configuration",
        classes_from="timm's configuration",
        assumed=() if pretrained else ("random weights",),
    )


def check_timm(target: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown timm name, or one without the pretrained weights that are requested.

    Raises:
        UnknownNameError, ModelError, MissingExtraError: as for :func:`load_timm`.
    """
    _check_name(target, pretrained=options["pretrained"] is not False)


def check_timm_classifier(target: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown timm name, or a model without a classification head.

    Raises:
        UnknownNameError, ModelError, MissingExtraError: as for :func:`load_timm`.
    """
    check_timm(target, options)
    if not _is_on_the_hub(target):
        _check_head(target, _import_timm().get_pretrained_cfg_value(target, "num_classes"))


def _check_head(name: str, num_classes: object) -> None:
    """Raise a ModelError if a model has no classification head."""
    if num_classes != 0:
        return
    arch = "NAME" if _is_on_the_hub(name) else name.partition(".")[0]
    raise ModelError(
        f"timm:{name} is no classifier: it has no head, its outputs are features. Name a checkpoint "
        f"that was trained on classes: file:PATH?arch=timm:{arch}. It can be used as an encoder: "
        "`shiftproof embed` and `shiftproof probe`, or load_encoder."
    )


def make_timm_architecture(name: str, size: tuple[int, int] | None) -> Architecture:
    """Return a model's architecture; ``size`` is the images', if the caller sets it.

    Raises:
        UnknownNameError: no such model; says the nearest.
    """
    _check_name(name, pretrained=False)

    def build(classes: int | None, channels: int) -> torch.nn.Module:
        return build_timm(name, classes, channels=channels, size=size)

    return Architecture(name, build, convert=_convert)


def build_timm(
    name: str,
    num_classes: int | None,
    *,
    channels: int = 3,
    size: tuple[int, int] | None = None,
) -> torch.nn.Module:
    """Return an untrained model; ``num_classes`` None is the number of timm's pretrained weights.

    ``size`` is the image size, for networks with a fixed one; None is timm's default.
    """
    timm = _import_timm()
    import torch

    _check_name(name, pretrained=False)
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if channels != 3:
        options["in_chans"] = channels
    with torch.random.fork_rng(devices=[]):
        try:
            module: torch.nn.Module = timm.create_model(
                name, pretrained=False, **({} if size is None else {"img_size": size}), **options
            )
        except TypeError:
            if size is None:
                raise
            # A network for any size has no such argument.
            module = timm.create_model(name, pretrained=False, **options)
    return module


def _convert(state: dict[str, torch.Tensor], module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Convert weights in the authors' original format to timm's names, if timm supports it."""
    convert: Any = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    converted: dict[str, torch.Tensor] = convert(dict(state), module) if convert else state
    return converted


def read_preprocess(module: torch.nn.Module) -> Preprocess:
    """Return the preprocessing of timm's evaluation transform for ``module``."""
    return convert_config(_import_timm().data.resolve_model_data_config(module))


def convert_config(config: dict[str, Any]) -> Preprocess:
    """Return the preprocessing of a timm data configuration.

    Raises:
        ModelError: a crop or interpolation mode that ``Preprocess`` does not support.
    """
    channels, height, width = config["input_size"]
    mode = config.get("crop_mode") or "center"
    # timm's default if the configuration does not set it.
    share = config.get("crop_pct") or 0.875
    before = (math.floor(height / share), math.floor(width / share))
    resize: int | tuple[int, int]
    if mode == "squash":
        resize = before
    elif mode == "center" and before[0] == before[1]:
        resize = before[0]
    else:
        shape = "" if before[0] == before[1] else f" at {height} x {width} pixels"
        raise ModelError(
            f"timm's crop mode {mode!r}{shape} is not supported (expected 'squash', or 'center' "
            "at a square size). Build the model yourself and pass timm's transform: "
            "Classifier(model, CallablePreprocess(transform))."
        )
    return Preprocess(
        (height, width),
        resize,
        config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels=channels,
    )


def classes_of(module: torch.nn.Module) -> Classes | None:
    """Return ImageNet's classes if these are the outputs by timm's configuration, else None."""
    subset = _import_timm().data.infer_imagenet_subset(module)
    return imagenet() if subset == "imagenet-1k" else None


def _check_name(name: str, *, pretrained: bool) -> None:
    timm = _import_timm()
    if _is_on_the_hub(name):
        return
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        known = timm.list_models()
        message = str(UnknownNameError.of("timm model", arch, known))
        raise UnknownNameError(
            f"{message.partition(' Known:')[0]} timm.list_models() has all {len(known)}."
        )
    if pretrained:
        tags = [found.partition(".")[2] for found in timm.list_pretrained(f"{arch}.*")]
        tags = tags or ([""] if timm.list_pretrained(arch) else [])
        if not tags:
            raise ModelError(
                f"timm has no pretrained weights for {arch}. Name a checkpoint of yours: "
                f"file:PATH?arch=timm:{arch}"
            )
        if tag and tag not in tags:
            raise UnknownNameError.of(f"{arch} weights", tag, tags)


def _is_on_the_hub(name: str) -> bool:
    return name.startswith(("hf-hub:", "hf_hub:"))


def _import_timm() -> Any:
    require_torch()
    import_extra("timm.data", "timm")
    return import_extra("timm", "timm")
