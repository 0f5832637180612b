"""Decoding of exported detectors' outputs: one pure function for each format.

A graph states neither its preprocessing nor the meaning of its outputs; both are given by the name
of a row of ``DECODINGS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from shiftproof.errors import ModelError
from shiftproof.types import F32, I64, Indices

Outputs: TypeAlias = Sequence[F32]
"""The outputs of a graph for a batch, in its order; the first axis is the image."""


class Candidates(NamedTuple):
    """Boxes of one image before thresholding and non-maximum suppression.

    ``boxes`` ``(N, 4)`` float32, x1, y1, x2, y2 in pixels of the network's input; ``scores``
    ``(N,)`` float32 in 0..1; ``labels`` ``(N,)`` int64.
    """

    boxes: F32
    scores: F32
    labels: I64


@dataclass(frozen=True)
class Decoding:
    """One row of ``DECODINGS``: preprocessing and decoding of a graph.

    Attributes:
        decode: from the outputs and the input's ``(height, width)`` to the candidates, per image.
        description: the outputs and their shapes.
        fit: ``"stretch"`` resizes to the input's size; ``"letterbox"`` keeps the aspect ratio and
            pads with gray (114).
        order: the color order of the input, whose values are 0..1.
        overlap: threshold of non-maximum suppression; None if the graph does it.
        one_by_one: whether the graph takes a single image, since its number of rows varies.
    """

    decode: Callable[[Outputs, tuple[int, int]], list[Candidates]]
    description: str
    fit: Literal["stretch", "letterbox"]
    order: Literal["RGB", "BGR"]
    overlap: float | None
    one_by_one: bool = False


def decode_fastestdet(outputs: Outputs, size: tuple[int, int]) -> list[Candidates]:
    """Read one map ``(N, 5 + K, rows, columns)`` of a grid: objectness, tx, ty, tw, th, K classes.

    The center is ``(tanh(tx) + column) / columns``, the width ``sigmoid(tw)``, both in shares of
    the input; the score is ``objectness^0.6 class^0.4`` of the best class (dog-qiuqiu/FastestDet).
    """
    (grid,) = _expect("fastestdet", outputs, [4])
    count, channels, rows, columns = grid.shape
    if channels < 6:
        raise ModelError(f"fastestdet: expected 5 + K channels, got an output {grid.shape}.")
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    center_x = (np.tanh(grid[:, 1]) + x) / columns
    center_y = (np.tanh(grid[:, 2]) + y) / rows
    width, height = _sigmoid(grid[:, 3]), _sigmoid(grid[:, 4])
    boxes = _to_corners(
        np.stack([center_x, center_y, width, height], axis=-1).reshape(count, -1, 4)
    )
    boxes = boxes * np.array([size[1], size[0], size[1], size[0]], np.float32)
    probabilities = grid[:, 5:].reshape(count, channels - 5, -1)
    best = probabilities.argmax(1)
    scores = grid[:, 0].reshape(count, -1) ** 0.6 * probabilities.max(1) ** 0.4
    return _split_images(boxes, scores, best)


def decode_yolov8(outputs: Outputs, size: tuple[int, int]) -> list[Candidates]:
    """Read ``(N, 4 + K, A)``: center x, y, width, height in pixels, and K class probabilities.

    The format of Ultralytics' exports of YOLOv8, 9, 11 and 12. Each anchor has its best class.
    """
    (table,) = _expect("yolov8", outputs, [3])
    if table.shape[1] < 5:
        raise ModelError(f"yolov8: expected an output (N, 4 + K, A), got {table.shape}.")
    boxes = _to_corners(table[:, :4].transpose(0, 2, 1))
    return _split_images(boxes, table[:, 4:].max(1), table[:, 4:].argmax(1))


def decode_yolov5(outputs: Outputs, size: tuple[int, int]) -> list[Candidates]:
    """Read ``(N, A, 5 + K)``: center x, y, width, height in pixels, objectness, K classes.

    The score is objectness times the probability of the best class. The format of YOLOv5 and 7.
    """
    (table,) = _expect("yolov5", outputs, [3])
    if table.shape[2] < 6:
        raise ModelError(f"yolov5: expected an output (N, A, 5 + K), got {table.shape}.")
    scores = table[..., 4] * table[..., 5:].max(2)
    return _split_images(_to_corners(table[..., :4]), scores, table[..., 5:].argmax(2))


def decode_boxes_scores_labels(outputs: Outputs, size: tuple[int, int]) -> list[Candidates]:
    """Read three outputs of one image: boxes ``(D, 4)``, scores ``(D,)``, labels ``(D,)``.

    Boxes are x1, y1, x2, y2 in pixels of the input; a first axis of length 1 is removed.
    """
    boxes, scores, labels = _expect("boxes-scores-labels", outputs, [(2, 3), (1, 2), (1, 2)])
    boxes, scores = boxes.reshape(-1, boxes.shape[-1]), scores.reshape(-1)
    labels = labels.reshape(-1)
    if boxes.shape != (len(scores), 4) or labels.shape != scores.shape:
        raise ModelError(
            "boxes-scores-labels: expected (D, 4), (D,) and (D,), got "
            f"{boxes.shape}, {scores.shape} and {labels.shape}."
        )
    return [
        Candidates(boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64))
    ]


DECODINGS: dict[str, Decoding] = {
    "fastestdet": Decoding(
        decode_fastestdet,
        "FastestDet: one grid (N, 5 + K, rows, columns).",
        "stretch",
        "BGR",
        0.45,
    ),
    "yolov8": Decoding(
        decode_yolov8,
        "Ultralytics YOLOv8 to 12: (N, 4 + K, A), no objectness.",
        "letterbox",
        "RGB",
        0.7,
    ),
    "yolov5": Decoding(
        decode_yolov5,
        "YOLOv5 and 7: (N, A, 5 + K), with objectness.",
        "letterbox",
        "RGB",
        0.6,
    ),
    "boxes-scores-labels": Decoding(
        decode_boxes_scores_labels,
        "Three outputs of one image, in this order, after the graph's own non-maximum suppression.",
        "stretch",
        "RGB",
        None,
        one_by_one=True,
    ),
}
"""Output formats by the name for ``decode=``. The overlaps are those of the projects' own
evaluations.
"""


def _expect(name: str, outputs: Outputs, axes: Sequence[int | tuple[int, ...]]) -> list[F32]:
    """Return the outputs, or raise a ModelError if they have other numbers of axes."""
    wanted = [(count,) if isinstance(count, int) else count for count in axes]
    # A graph may have further outputs, such as raw feature maps.
    given = [np.asarray(output) for output in outputs[: len(axes)]]
    fits = [array.ndim in count for array, count in zip(given, wanted, strict=False)]
    if len(given) < len(axes) or not all(fits):
        shapes = ", ".join(str(np.shape(output)) for output in outputs)
        raise ModelError(
            f"{name}: expected {DECODINGS[name].description} The graph gives {shapes}. "
            f"Choose another decoding: {', '.join(DECODINGS)}."
        )
    return given


def _split_images(boxes: F32, scores: F32, labels: Indices) -> list[Candidates]:
    return [
        Candidates(box.astype(np.float32), score.astype(np.float32), label.astype(np.int64))
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]


def _to_corners(boxes: F32) -> F32:
    """Return ``(..., 4)`` center x, y, width, height as x1, y1, x2, y2."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _sigmoid(values: F32) -> F32:
    # With tanh, which does not overflow.
    return np.asarray(0.5 * (1 + np.tanh(values / 2)), dtype=np.float32)
