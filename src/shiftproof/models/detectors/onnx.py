"""Detectors in ONNX files, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from shiftproof.classes import Classes, name_classes
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import convert_errors
from shiftproof.models.classifiers.onnx import open_session
from shiftproof.models.detectors.boxes import suppress_overlaps
from shiftproof.models.detectors.decodings import DECODINGS, Candidates, Decoding
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.models.onnx_input import (
    Pixels,
    check_input_options,
    find_size,
    read_input,
    to_float32,
)
from shiftproof.models.preprocess import ModelInput
from shiftproof.models.targets import check_file
from shiftproof.types import F32, Detections, Image, Settings

SCORE = 0.001
"""Score threshold: average precision needs low-scoring boxes too (the YOLO projects' threshold in
their evaluation).
"""

LIMIT = 300
"""Maximum number of boxes per image, by score; COCO evaluates 100 of them."""

GRAY = 114
"""Padding value of letterboxes, as in the training of YOLO networks."""


@final
class OnnxGraph:
    """A graph from ``(N, 3, H, W)`` float32 to all of its outputs.

    Its input may have another layout and type, see :mod:`shiftproof.models.onnx_input`; outputs of
    other floats become float32.

    Args:
        path: the file; external data is read from the same folder.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
        layout: "nchw" or "nhwc", if the graph's axes leave it open.
        pixels: "0..1" or "0..255", which the graph takes; None for the first, and for the last in
            uint8.

    Attributes:
        input: the image input.
        batch: batch size of the graph, or None if it is dynamic.
        size: ``(height, width)`` of the input, or None if it is dynamic.
        names: the classes in the file's metadata, if any (Ultralytics writes them).
        device: the device on which it runs.
        fingerprint: fingerprint of the file, and of a stated layout.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's inputs are of another kind, or the device is not available.
        InputError: the layout or the pixels have to be stated.
        UnknownNameError: no such ``layout`` or ``pixels``.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        layout: str | None = None,
        pixels: str | None = None,
    ) -> None:
        self._session, self.device = open_session(path, device)
        self.input = read_input(path, self._session, layout=layout, pixels=pixels, usual="0..1")
        self.fingerprint = self.input.identify(files.file_fingerprint(path))
        self.batch = self.input.batch
        self.size = find_size(path, self.input)
        if self.input.channels == 1:
            raise ModelError(f"{path}: expected an input of 3 channels, got 1.")
        with convert_errors(path, "an ONNX file whose metadata cannot be read"):
            written = self._session.get_modelmeta().custom_metadata_map.get("names")
        self.names = _read_class_names(written)

    def __call__(self, inputs: ModelInput) -> list[NDArray[Any]]:
        """Return all outputs for one batch."""
        feed = {self.input.name: self.input.convert(inputs)}
        return [to_float32(output) for output in self._session.run(None, feed)]


@final
@dataclass(frozen=True)
class OnnxConvention:
    """The preprocessing and decoding of a graph, by the name of a decoding.

    Args:
        decode: a name of ``DECODINGS``.
        size: ``(height, width)`` of the graph's input.
        score: score threshold of a box.
        overlap: threshold of non-maximum suppression; None if the graph does it.
        limit: maximum number of boxes per image.
        pixels: the values that the graph takes, "0..1" or "0..255".
    """

    decode: str
    size: tuple[int, int]
    score: float = SCORE
    overlap: float | None = None
    limit: int = LIMIT
    pixels: Pixels = "0..1"

    def detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> list[Detections]:
        """Run the graph on images, in its batch size."""
        decoding = DECODINGS[self.decode]
        fixed: int | None = 1 if decoding.one_by_one else getattr(network, "batch", None)
        step = fixed or len(images)
        found = []
        for start in range(0, len(images), step):
            chunk = images[start : start + step]
            inputs = np.stack(
                [prepare(image, decoding, self.size, pixels=self.pixels) for image in chunk]
            )
            if fixed is not None and len(chunk) < fixed:
                # The graph has a fixed batch size: copies of the last image fill the batch, and are
                # dropped.
                filling = np.repeat(inputs[-1:], fixed - len(chunk), axis=0)
                inputs = np.concatenate([inputs, filling])
            decoded = decoding.decode(network(inputs), self.size)
            for image, candidates in zip(chunk, decoded, strict=False):
                found.append(self._select(candidates, image, decoding))
        return found

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return the settings of the decoding, for JSON."""
        decoding = DECODINGS[self.decode]
        return {
            "decode": self.decode,
            "size": list(self.size),
            "fit": decoding.fit,
            "order": decoding.order,
            "score": self.score,
            "overlap": self.overlap,
            "limit": self.limit,
            # Omitted if it is the default, so that runs of earlier versions can be resumed.
            **({} if self.pixels == "0..1" else {"pixels": self.pixels}),
        }

    def _select(self, candidates: Candidates, image: Image, decoding: Decoding) -> Detections:
        strong = candidates.scores >= self.score
        boxes, scores = candidates.boxes[strong], candidates.scores[strong]
        labels = candidates.labels[strong]
        if self.overlap is None:
            kept = np.argsort(-scores, kind="stable")[: self.limit]
        else:
            kept = suppress_overlaps(boxes, scores, labels, overlap=self.overlap, limit=self.limit)
        height, width = image.shape[:2]
        placed = to_image(boxes[kept], decoding, self.size, (height, width))
        return Detections(placed, scores[kept], labels[kept])


def check_onnx_detector(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a file that cannot be opened, or options that give no valid decoding.

    Raises:
        InputError, UnknownNameError, BrokenFileError: as for :func:`load_onnx_detector`.
    """
    _choose_decoding(target, options["decode"], options["overlap"])
    check_input_options(options["layout"], options["pixels"], usual="0..1")
    check_file(target, options)


def _choose_decoding(target: str, decode: str | None, overlap: float | None) -> str:
    """Return the name of the decoding; raise an InputError if it is missing or does not fit."""
    if decode is None:
        raise InputError(
            "An ONNX file does not say what its outputs mean: "
            f"onnx:{target}?decode=NAME with one of {', '.join(DECODINGS)}."
        )
    if decode not in DECODINGS:
        raise UnknownNameError.of("decoding", decode, DECODINGS)
    if DECODINGS[decode].overlap is None and overlap is not None:
        raise InputError(f"overlap: the graph of {decode} drops doubles by itself.")
    return decode


def load_onnx_detector(target: str, options: DetectorOptions) -> LoadedDetector:
    """Load an ONNX file with the decoding ``decode``.

    The classes are those of the file's metadata, if any.

    Raises:
        InputError: no decoding is given, or the graph has a dynamic size and none is given; or the
            layout or the pixels have to be stated.
        UnknownNameError: no such decoding, ``layout`` or ``pixels``.
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's input is of another kind, or fixed at another size.
        MissingExtraError: onnxruntime is not installed.
    """
    name = _choose_decoding(target, options.decode, options.overlap)
    decoding = DECODINGS[name]
    network = OnnxGraph(
        Path(target), device=options.device, layout=options.layout, pixels=options.pixels
    )
    size = options.size or network.size
    if size is None:
        raise InputError(f"{target}: the graph takes any size; say which: size=640 or 480x640.")
    if network.size is not None and size != network.size:
        raise ModelError(
            f"{target}: the graph is fixed at {network.size[0]} x {network.size[1]} pixels, but "
            f"{size[0]} x {size[1]} was asked for."
        )
    convention = OnnxConvention(
        name,
        size,
        SCORE if options.score is None else options.score,
        decoding.overlap if options.overlap is None else options.overlap,
        LIMIT if options.limit is None else options.limit,
        network.input.pixels,
    )
    fit = "stretched" if decoding.fit == "stretch" else "letterboxed"
    assumed = [f"images {fit} to {size[0]}x{size[1]}, {decoding.order}, outputs of {name}"]
    if convention.pixels != "0..1":
        assumed.append(f"pixels {convention.pixels} as they are")
    assumed += network.input.describe()
    if network.names is not None and options.classes is None:
        assumed.append(f"{pluralize(len(network.names), 'class')} of the file's metadata")
    return LoadedDetector(network, network.names, convention, tuple(assumed))


# ---------------------------------------------------------------- images in, boxes back


def prepare(
    image: Image, decoding: Decoding, size: tuple[int, int], *, pixels: Pixels = "0..1"
) -> F32:
    """Return an image as input of a graph: ``(3, H, W)`` float32 in 0..1, or in 0..255.

    Bilinear without antialiasing (OpenCV), as these networks are trained and evaluated.
    """
    import cv2

    height, width, top, left = place_image(decoding, size, (image.shape[0], image.shape[1]))
    resized: Any = image
    if image.shape[:2] != (height, width):
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((*size, 3), GRAY, dtype=np.uint8)
    canvas[top : top + height, left : left + width] = resized
    channels = canvas if decoding.order == "RGB" else canvas[..., ::-1]
    prepared: F32 = np.array(channels.transpose(2, 0, 1), dtype=np.float32)
    if pixels != "0..255":
        prepared /= np.float32(255)
    return prepared


def to_image(
    boxes: F32,
    decoding: Decoding,
    size: tuple[int, int],
    image_size: tuple[int, int],
) -> F32:
    """Convert boxes from pixels of the network's input to pixels of the image, clipped at its
    border.

    Boxes are ``(N, 4)`` float32, x1, y1, x2, y2; sizes are (height, width), and ``decoding`` has
    the way in which the image was fitted into the input.
    """
    _, _, top, left = place_image(decoding, size, image_size)
    (rows, columns), (image_rows, image_columns) = size, image_size
    scale_y, scale_x = image_rows / rows, image_columns / columns
    if decoding.fit == "letterbox":
        scale_x = scale_y = 1 / min(rows / image_rows, columns / image_columns)
    shift = np.array([left, top, left, top], np.float32)
    scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    border = np.array([image_columns, image_rows, image_columns, image_rows], np.float32)
    placed: F32 = np.clip((boxes - shift) * scale, 0, border)
    return placed


def place_image(
    decoding: Decoding, size: tuple[int, int], image_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return an image's position in the network's input: height, width, top, left, in pixels."""
    if decoding.fit == "stretch":
        return size[0], size[1], 0, 0
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    height, width = (max(1, round(length * scale)) for length in image_size)
    # The padding is split as in Ultralytics: the smaller half of an odd number comes first.
    return height, width, (size[0] - height) // 2, (size[1] - width) // 2


def _read_class_names(written: str | None) -> Classes | None:
    """Return the classes in a file's metadata: ``{0: 'person', 1: 'bicycle'}``."""
    try:
        table = ast.literal_eval(written or "")
        return name_classes(str(table[index]) for index in range(len(table)))
    except (ValueError, SyntaxError, TypeError, KeyError, InputError, RecursionError, MemoryError):
        return None
