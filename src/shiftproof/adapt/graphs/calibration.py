"""Images as a graph takes them, by the text that names it: what ``export_onnx`` calibrates with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np

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
from shiftproof.models.targets import fetch_target
from shiftproof.specs import Readers, parse_spec, read_pixels
from shiftproof.types import F32, Image

BATCH = 16
"""Images that a graph with a dynamic batch gets at a time."""


def split_path(spec: str) -> Path:
    """Return the path in ``onnx:PATH?OPTION=VALUE``; a plain path is one, too."""
    path, mark, query = spec.removeprefix("onnx:").rpartition("?")
    return Path(path if mark and "=" in query else spec.removeprefix("onnx:"))


def prepare_batches(spec: str, images: Iterable[Image]) -> Iterator[F32]:
    """Yield images in batches, prepared as the model that ``spec`` names takes them.

    Args:
        spec: ``onnx:PATH?OPTION=VALUE`` as for ``load_classifier``, or with ``decode=NAME`` as for
            ``load_detector``; a plain path is an ONNX file's.
        images: ``(H, W, 3)`` uint8.

    Yields:
        ``(n, C, H, W)`` float32. Where the graph's batch is fixed n is that, and images that do not
        fill a batch are left out.

    Raises:
        InputError: there are fewer images than the graph takes at once.
        ModelError: the graph is of another form than such a model's.
    """
    one, fixed = _preparation(spec if spec.startswith("onnx:") else f"onnx:{spec}")
    waiting: list[F32] = []
    given = 0
    for image in images:
        waiting.append(one(image))
        if len(waiting) == (fixed or BATCH):
            yield np.stack(waiting)
            waiting, given = [], given + len(waiting)
    if waiting and not fixed:
        yield np.stack(waiting)
    elif not given:
        raise InputError(
            f"{split_path(spec)}: takes {fixed or 1} images at once, and there are {len(waiting)} to "
            "calibrate with; expected more."
        )


def _preparation(spec: str) -> tuple[Callable[[Image], F32], int | None]:
    """Return what prepares one image, and how many the graph takes at once."""
    if "decode=" in spec.rpartition("?")[2]:
        return _detection_preparation(spec)
    classifier = load_classifier(spec)
    module, preprocess = cast("OnnxModule", classifier.module), classifier.preprocess
    return lambda image: preprocess.normalize([preprocess.geometry(image)])[0], module.batch


def _detection_preparation(spec: str) -> tuple[Callable[[Image], F32], int | None]:
    """As ``load_detector`` prepares images; what its labels mean does not matter here."""
    readers: Readers = {"decode": str, "size": read_pixels, "classes": str}
    _, target, given = parse_spec(spec, DETECTOR_LOADERS, readers, wrapped="export_onnx")
    size = given.get("size")
    options = DetectorOptions(
        decode=given["decode"], size=(size, size) if isinstance(size, int) else size
    )
    loaded = load_onnx_detector(fetch_target(target), options)
    graph, convention = cast("OnnxGraph", loaded.module), cast("OnnxConvention", loaded.convention)
    decoding = DECODINGS[convention.decode]
    return lambda image: prepare(image, decoding, convention.size), graph.batch
