"""Preprocessing calibration images for ``export_onnx``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.models import DECODINGS, DETECTOR_LOADERS, load_classifier
from shiftproof.models.classifiers.onnx import OnnxModule
from shiftproof.models.detectors.onnx import (
    OnnxConvention,
    OnnxGraph,
    load_onnx_detector,
    prepare,
)
from shiftproof.models.detectors.options import DetectorOptions
from shiftproof.models.onnx_input import GraphInput
from shiftproof.models.targets import fetch_target
from shiftproof.specs import Readers, parse_spec, read_pixels
from shiftproof.types import F32, Image

BATCH = 16
"""Batch size for graphs with a dynamic batch."""


def split_path(spec: str) -> Path:
    """Return the path in ``onnx:PATH?OPTION=VALUE`` or in a plain path."""
    path, mark, query = spec.removeprefix("onnx:").rpartition("?")
    return Path(path if mark and "=" in query else spec.removeprefix("onnx:"))


def prepare_batches(spec: str, images: Iterable[Image]) -> Iterator[NDArray[Any]]:
    """Yield batches of images, preprocessed for the model of ``spec``.

    Args:
        spec: ``onnx:PATH?OPTION=VALUE`` as for ``load_classifier``, or with ``decode=NAME`` as for
            ``load_detector``; a plain path is an ONNX file's.
        images: ``(H, W, 3)`` uint8.

    Yields:
        ``(n, C, H, W)`` float32, or the layout and type that the graph takes. If the graph has a
        fixed batch size, n is that size, and an incomplete last batch is dropped.

    Raises:
        InputError: fewer images than the graph's batch size.
        ModelError: the graph is not one of such a model.
    """
    one, taken = _make_preparation(spec if spec.startswith("onnx:") else f"onnx:{spec}")
    fixed = taken.batch
    waiting: list[F32] = []
    given = 0
    for image in images:
        waiting.append(one(image))
        if len(waiting) == (fixed or BATCH):
            yield taken.convert(np.stack(waiting))
            waiting, given = [], given + len(waiting)
    if waiting and not fixed:
        yield taken.convert(np.stack(waiting))
    elif not given:
        raise InputError(
            f"{split_path(spec)}: takes {pluralize(fixed or 1, 'image')} at once, and "
            f"{pluralize(len(waiting), 'is', 'are')} there to calibrate with; expected more."
        )


def _make_preparation(spec: str) -> tuple[Callable[[Image], F32], GraphInput]:
    """Return the preprocessing of one image, and the graph's input."""
    if "decode=" in spec.rpartition("?")[2]:
        return _make_detection_preparation(spec)
    classifier = load_classifier(spec)
    module, preprocess = cast("OnnxModule", classifier.module), classifier.preprocess
    return lambda image: preprocess.normalize([preprocess.geometry(image)])[0], module.input


def _make_detection_preparation(spec: str) -> tuple[Callable[[Image], F32], GraphInput]:
    """Return the preprocessing of ``load_detector``; the classes are ignored."""
    readers: Readers = {
        "decode": str, "size": read_pixels, "classes": str, "layout": str, "pixels": str,
    }  # fmt: skip
    _, target, given = parse_spec(spec, DETECTOR_LOADERS, readers, wrapped="export_onnx")
    size = given.get("size")
    options = DetectorOptions(
        decode=given["decode"],
        size=(size, size) if isinstance(size, int) else size,
        layout=given.get("layout"),
        pixels=given.get("pixels"),
    )
    loaded = load_onnx_detector(fetch_target(target), options)
    graph, convention = cast("OnnxGraph", loaded.module), cast("OnnxConvention", loaded.convention)
    decoding = DECODINGS[convention.decode]

    def prepare_one(image: Image) -> F32:
        return prepare(image, decoding, convention.size, pixels=convention.pixels)

    return prepare_one, graph.input
