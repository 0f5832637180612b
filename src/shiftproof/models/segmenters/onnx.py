"""Segmentation networks in ONNX files, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from shiftproof.counts import pluralize
from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, show_name
from shiftproof.models.classifiers.onnx import open_session, read_input
from shiftproof.models.onnx_graph import find_last_operator, read_graph
from shiftproof.models.segmenters.normalized import (
    MEAN,
    STD,
    group_by_size,
    normalize_images,
)
from shiftproof.models.segmenters.options import LoadedSegmenter, SegmenterOptions
from shiftproof.types import F32, Image, Settings


@final
class OnnxSegmentationGraph:
    """A graph from ``(N, 3, H, W)`` float32 to logits ``(N, K, h, w)`` or to label maps.

    Label maps are ``(N, h, w)`` or ``(N, 1, h, w)``: integers, or the output of an ArgMax.

    Args:
        path: the file; external data is read from the same folder.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
        output: the name of the output, if there are several.

    Attributes:
        size: ``(height, width)`` of the graph's input, or None if it is dynamic.
        classes: number of classes of its logits, or None if the graph does not state it.
        gives_labels: whether the output is label maps.
        device: the device on which it runs.
        fingerprint: fingerprint of the file.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's input or output is of another kind, or the device does not exist.
        UnknownNameError: no such output.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, *, device: str = "cpu", output: str | None = None) -> None:
        self._session, self.device = open_session(path, device)
        self.fingerprint = files.file_fingerprint(path)
        self._input, self._batch, channels, self.size = read_input(path, self._session)
        if channels == 1:
            raise ModelError(f"{path}: expected an input of 3 channels, got 1.")
        with convert_errors(path, "not an ONNX graph whose outputs can be read"):
            outputs = {str(entry.name): entry for entry in self._session.get_outputs()}
        entry = _choose(path, outputs, output)
        self._output = str(entry.name)
        shape = [axis if isinstance(axis, int) else None for axis in entry.shape or ()]
        is_argmax = find_last_operator(self._output, read_graph(path)) == "ArgMax"
        self.gives_labels = "float" not in str(entry.type) or is_argmax or len(shape) == 3
        known = shape[1] if len(shape) == 4 and not self.gives_labels else None
        self.classes = known
        description = (
            f"{show_name(self._output)} ({', '.join(str(axis) for axis in entry.shape or ())})"
        )
        is_map = len(shape) == 3 or (len(shape) == 4 and shape[1] in (1, None))
        if shape and not (is_map if self.gives_labels else len(shape) == 4):
            raise ModelError(
                f"{path}: expected an output of logits (N, K, H, W) or of label maps (N, H, W) or "
                f"(N, 1, H, W), got {description}."
            )
        if known == 1:
            raise ModelError(
                f"{path}: its output {description} has one channel in floating point, which is neither the "
                "logits of several classes nor a label map; export two classes, or an ArgMax."
            )

    def __call__(self, inputs: F32) -> NDArray[Any]:
        """Return the output for a batch of any size."""
        step = self._batch or len(inputs)
        found = []
        for start in range(0, len(inputs), step):
            chunk = inputs[start : start + step]
            # The graph has a fixed batch size: copies of the last image fill the batch, and are
            # dropped.
            filling = np.repeat(chunk[-1:], step - len(chunk), axis=0)
            feed = {self._input: np.ascontiguousarray(np.concatenate([chunk, filling]))}
            (result,) = self._session.run([self._output], feed)
            found.append(np.asarray(result)[: len(chunk)])
        return np.concatenate(found)


@final
@dataclass(frozen=True)
class OnnxSegmentation:
    """The normalization of a graph's images and the decoding of its output."""

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def score(self, network: Callable[..., Any], images: Sequence[Image], device: str) -> list[Any]:
        """Run the graph on images."""
        gives_labels = getattr(network, "gives_labels", False)
        found: list[Any] = []
        for batch in group_by_size(images):
            found += list(
                _read(network(normalize_images(batch, self.mean, self.std)), gives_labels)
            )
        return found

    def settings(self) -> Settings:
        """Return the settings of preparing and decoding, for JSON."""
        return {"library": "onnxruntime", "mean": list(self.mean), "std": list(self.std)}


def load_onnx_segmenter(target: str, options: SegmenterOptions) -> LoadedSegmenter:
    """Load an ONNX file.

    An ONNX file does not state its preprocessing: mean and deviation are ImageNet's by default. If
    the graph's size is fixed, images are resized to it.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's input or output is of another kind, or fixed at another size.
        UnknownNameError: no such output.
        MissingExtraError: onnxruntime is not installed.
    """
    path = Path(target)
    graph = OnnxSegmentationGraph(path, device=options.device, output=options.output)
    framing = options.framing(graph.size if options.window is None else None)
    shown = framing.window or (framing.resize if isinstance(framing.resize, tuple) else None)
    if graph.size is not None and shown != graph.size:
        fixed = "x".join(map(str, graph.size))
        raise ModelError(
            f"{path}: the graph is fixed at {fixed} pixels; leave resize out, or give window={fixed}."
        )
    count, meant = graph.classes, options.classes
    if count is not None and meant is not None and count != len(meant):
        raise ModelError(
            f"{path}: its output has {pluralize(count, 'class')}, but {len(meant)} are named."
        )
    mean, std = options.mean or MEAN, options.std or STD
    reading = "label maps" if graph.gives_labels else "logits"
    usual = "" if options.mean or options.std else " (ImageNet's)"
    return LoadedSegmenter(
        graph,
        None,
        OnnxSegmentation(mean, std),
        framing,
        (
            framing.describe(),
            f"mean {mean} and deviation {std}{usual}",
            f"outputs read as {reading}",
        ),
    )


def _choose(path: Path, outputs: dict[str, Any], asked: str | None) -> Any:
    if asked is not None:
        if asked not in outputs:
            raise UnknownNameError.of("output", asked, outputs)
        return outputs[asked]
    # A graph without shape inference does not state its outputs' shapes; they are known when it
    # runs.
    fitting = [entry for entry in outputs.values() if not entry.shape or len(entry.shape) in (3, 4)]
    named = [entry for entry in fitting if str(entry.name) in ("out", "logits", "output")]
    if len(fitting) == 1 or len(named) == 1:
        return (named if len(named) == 1 else fitting)[0]
    listed = ", ".join(
        f"{show_name(name)} ({', '.join(map(str, entry.shape or ()))})"
        for name, entry in outputs.items()
    )
    if not fitting:
        raise ModelError(
            f"{path}: expected an output of logits (N, K, H, W) or of label maps (N, H, W), got "
            f"{listed}."
        )
    raise ModelError(f"{path} has several outputs: {listed}. Say which: output=NAME.")


def _read(output: NDArray[Any], gives_labels: bool) -> NDArray[Any]:
    if not gives_labels:
        return output
    labels = output[:, 0] if output.ndim == 4 and output.shape[1] == 1 else output
    if labels.dtype.kind == "f":
        if not (labels == np.rint(labels)).all():
            raise ModelError("its label maps are no whole numbers.")
        return labels.astype(np.int64)
    return labels
