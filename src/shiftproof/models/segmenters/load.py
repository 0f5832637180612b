"""Loading of segmenters by spec: ``torchvision:deeplabv3_resnet50``,
``onnx:net.onnx?classes=voc``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.classes import Classes
from shiftproof.errors import InputError
from shiftproof.io.locations import is_url
from shiftproof.models.any_size import choose_classes, try_on_black
from shiftproof.models.image_text.pretrained import check_pretrained
from shiftproof.models.loading import READERS, Loader, SpecReader
from shiftproof.models.onnx_input import INPUT_OPTIONS
from shiftproof.models.own_functions import check_function
from shiftproof.models.segmenters.function import load_function_segmenter
from shiftproof.models.segmenters.label_spaces import read_class_names
from shiftproof.models.segmenters.onnx import check_onnx_segmenter, load_onnx_segmenter
from shiftproof.models.segmenters.options import LoadedSegmenter, Resize, SegmenterOptions
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.models.segmenters.torchvision import (
    check_torchvision_segmenter,
    load_torchvision_segmenter,
)
from shiftproof.models.segmenters.transformers import load_transformers_segmenter
from shiftproof.models.targets import fetch_classes
from shiftproof.specs import Pixels, read_pixels

SegmenterLoader: TypeAlias = Loader[SegmenterOptions, LoadedSegmenter]
"""One row of ``SEGMENTER_LOADERS``."""

COMMON = ("classes", "resize", "window", "stride")
"""The options that segmenters of all sources take."""

SEGMENTER_LOADERS: dict[str, SegmenterLoader] = {
    "torchvision": SegmenterLoader(
        load_torchvision_segmenter,
        "DeepLabV3, FCN or LR-ASPP of torchvision, with published weights or ?weights=FILE.",
        "torchvision:deeplabv3_resnet50",
        frozenset({"pretrained", "weights", "mean", "std"}),
        check=check_torchvision_segmenter,
    ),
    "transformers": SegmenterLoader(
        load_transformers_segmenter,
        "A network of the Hugging Face hub, or a folder of save_pretrained (SegFormer, UperNet).",
        "transformers:nvidia/segformer-b0-finetuned-ade-512-512",
        check=check_pretrained,
    ),
    "onnx": SegmenterLoader(
        load_onnx_segmenter,
        "An ONNX file with logits or label maps as outputs, run by ONNX Runtime.",
        "onnx:net.onnx?classes=cityscapes&window=512&stride=341",
        frozenset({"output", "output_layout", *INPUT_OPTIONS, "mean", "std"}),
        check=check_onnx_segmenter,
    ),
    "python": SegmenterLoader(
        load_function_segmenter,
        "A function of yours, from images to logits or label maps, or one without arguments that returns "
        "a network or a Segmenter; importing it runs its module.",
        "python:my_models:segment?classes=voc",
        check=check_function,
    ),
}
"""Sources of segmenters by the prefix that ``load_segmenter`` and the command line take."""


def load_segmenter(
    spec: str,
    *,
    device: str = "cpu",
    classes: Classes | Iterable[str] | str | Path | None = None,
    pretrained: bool | None = None,
    weights: str | None = None,
    output: str | None = None,
    output_layout: str | None = None,
    layout: str | None = None,
    pixels: str | None = None,
    resize: Resize | None = None,
    window: Pixels | None = None,
    stride: Pixels | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Segmenter:
    """Load a segmenter by its spec.

    Args:
        spec: ``SOURCE:NAME`` with a source of ``SEGMENTER_LOADERS``. Every keyword below except
            ``device`` may be part of the spec instead, as in
            ``"onnx:model.onnx?classes=cityscapes&window=512&stride=341"``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        classes: the classes of the outputs: names, a text file with one a line, or "cityscapes"
            (19), "ade20k" (150) or "voc" (21). None takes those of the source.
        pretrained: False keeps random weights (``torchvision`` only), for a trial without an
            internet connection.
        weights: a file of weights (``torchvision`` only).
        output: the name of a graph's output if it has several (``onnx`` only).
        output_layout: the order of the axes of an ONNX file's output, ``"nchw"`` or ``"nhwc"``.
            None finds it by the number of classes.
        layout: likewise of its input, if the file leaves it open.
        pixels: the values that an ONNX file takes: ``"normalized"`` by ``mean`` and ``std``, or
            pixels as they are, ``"0..1"`` or ``"0..255"``. None takes the first; of an input of
            uint8 the last, or refuses what the file leaves open.
        resize: the shorter side in pixels, height and width, or "none". None takes the source's:
            520 for torchvision, the image processor's for transformers, the graph's size for ONNX.
        window: the size of a sliding window; logits are averaged where windows overlap.
        stride: step between windows in pixels; two thirds of the window by default.
        mean: one number per channel for images in 0..1.
        std: likewise.

    Returns:
        A segmenter, checked on one black image.

    Raises:
        UnknownNameError: no such source, network, weights or option; says the nearest.
        InputError: an option that this source does not take, given twice, or out of its range; no
            classes are given and the source has none.
        ModelError: the weights cannot be loaded or do not fit, the outputs have another number of
            classes, or the network does not run.
        BrokenFileError: a file is missing or damaged.
        MissingExtraError: the library of that source is not installed; says the pip line.
    """
    keywords: dict[str, Any] = {
        "classes": classes,
        "pretrained": pretrained,
        "weights": weights,
        "output": output,
        "output_layout": output_layout,
        "layout": layout,
        "pixels": pixels,
        "resize": resize,
        "window": window,
        "stride": stride,
        "mean": mean,
        "std": std,
    }
    return _load(spec, keywords, device)


def check_segmenter(spec: str) -> None:
    """Refuse an invalid segmenter spec from names and files alone, without loading the model.

    With several models, all are checked before the first is loaded.

    Args:
        spec: as for :func:`load_segmenter`.

    Raises:
        UnknownNameError, InputError, BrokenFileError, ModelError, MissingExtraError: as for
            :func:`load_segmenter`.
    """
    options = _READER.check(spec, dict.fromkeys(_KEYWORDS))
    _check_channels(options)
    classes = options["classes"]
    if classes is not None and not is_url(classes):
        read_class_names(classes)


_KEYWORDS = (
    "classes", "pretrained", "weights", "output", "output_layout", *INPUT_OPTIONS, "resize", "window",
    "stride", "mean", "std",
)  # fmt: skip


def _load(spec: str, keywords: dict[str, Any], device: str) -> Segmenter:
    request = _READER.read(spec, keywords)
    given = request.options
    _check_channels(given)
    if given["classes"] is not None:
        given["classes"] = read_class_names(fetch_classes(given["classes"]))
    options = SegmenterOptions(device=device, **given)
    loaded = request.loader.load(request.target, options)
    meant = choose_classes(
        spec, options.classes, loaded.classes, outputs="outputs",
        ways="give classes=NAMES.txt, a text file with one name a line, "
        "or classes=cityscapes, ade20k or voc",
    )  # fmt: skip
    segmenter = Segmenter(
        loaded.module,
        meant,
        convention=loaded.convention,
        framing=loaded.framing,
        device=device,
        name=request.name,
        assumed=loaded.assumed,
    )
    try_on_black(segmenter, 64, 96)
    return segmenter


def _check_channels(given: dict[str, Any]) -> None:
    for name in ("mean", "std"):
        value = given[name]
        is_wrong = value is not None and (len(value) != 3 or not all(map(math.isfinite, value)))
        if is_wrong or (value is not None and name == "std" and min(value) <= 0):
            raise InputError(f"{name}: expected three numbers, one a channel, got {value!r}.")


def _read_resize(text: str) -> Resize:
    return "none" if text == "none" else read_pixels(text)


_READER = SpecReader(
    SEGMENTER_LOADERS, COMMON, "Segmenter(module, classes)", {**READERS, "resize": _read_resize}
)
