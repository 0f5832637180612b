"""Segmentation networks in ONNX files, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, show_name
from shiftproof.models.classifiers.onnx import open_session
from shiftproof.models.onnx_graph import find_last_operator, read_graph
from shiftproof.models.onnx_input import (
    add_layout,
    check_onnx,
    choose_scaling,
    find_size,
    read_input,
    read_layout,
    to_float32,
)
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

    Label maps are ``(N, h, w)`` or ``(N, 1, h, w)``: integers, or the output of an ArgMax. The
    input may have another layout and type, see :mod:`shiftproof.models.onnx_input`; an output with
    the channels last is brought into this order, other floats become float32.

    Args:
        path: the file; external data is read from the same folder.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
        output: the name of the output, if there are several.
        layout: "nchw" or "nhwc", if the axes of the input leave it open.
        pixels: "normalized", "0..1" or "0..255", which the graph takes; None for the first, and for
            pixels 0..255 in uint8.
        output_layout: "nchw" or "nhwc"; None finds it by the number of classes.
        count: number of classes, if known.

    Attributes:
        input: the image input.
        size: ``(height, width)`` of the graph's input, or None if it is dynamic.
        classes: number of classes of its logits, or None if the graph does not state it.
        gives_labels: whether the output is label maps.
        device: the device on which it runs.
        fingerprint: fingerprint of the file, and of stated layouts.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's input or output is of another kind, or the device does not exist.
        InputError: a layout or the pixels have to be stated.
        UnknownNameError: no such output, layout or ``pixels``.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        output: str | None = None,
        layout: str | None = None,
        pixels: str | None = None,
        output_layout: str | None = None,
        count: int | None = None,
    ) -> None:
        self._path = path
        self._session, self.device = open_session(path, device)
        self.input = read_input(path, self._session, layout=layout, pixels=pixels)
        self.size = find_size(path, self.input)
        self.fingerprint = self.input.identify(files.file_fingerprint(path))
        if self.input.channels == 1:
            raise ModelError(f"{path}: expected an input of 3 channels, got 1.")
        with convert_errors(path, "not an ONNX graph whose outputs can be read"):
            outputs = {str(entry.name): entry for entry in self._session.get_outputs()}
        entry = _choose(path, outputs, output)
        self._output = str(entry.name)
        shape = [axis if isinstance(axis, int) else None for axis in entry.shape or ()]
        is_argmax = find_last_operator(self._output, read_graph(path)) == "ArgMax"
        self.gives_labels = "float" not in str(entry.type) or is_argmax or len(shape) == 3
        # Label maps have one channel, or none.
        self._channels = 1 if self.gives_labels else count
        self._output_layout = read_layout(output_layout)
        self.fingerprint = add_layout(self.fingerprint, self._output_layout)
        described = (
            f"{show_name(self._output)} ({', '.join(str(axis) for axis in entry.shape or ())})"
        )
        axis = self._find_channels(shape, described) if len(shape) == 4 else None
        is_map = len(shape) == 3 or (len(shape) == 4 and (axis is None or shape[axis] in (1, None)))
        if shape and not (is_map if self.gives_labels else len(shape) == 4):
            raise ModelError(
                f"{path}: expected an output of logits (N, K, H, W) or of label maps (N, H, W) or "
                f"(N, 1, H, W), got {described}."
            )
        known = None if axis is None or self.gives_labels else shape[axis]
        self.classes = known
        if known == 1:
            raise ModelError(
                f"{path}: its output {described} has one channel in floating point, which is neither the "
                "logits of several classes nor a label map; export two classes, or an ArgMax."
            )

    def __call__(self, inputs: F32) -> NDArray[Any]:
        """Return the output for a batch of any size."""
        step = self.input.batch or len(inputs)
        found = []
        for start in range(0, len(inputs), step):
            chunk = inputs[start : start + step]
            # The graph has a fixed batch size: copies of the last image fill the batch, and are
            # dropped.
            filling = np.repeat(chunk[-1:], step - len(chunk), axis=0)
            feed = {self.input.name: self.input.convert(np.concatenate([chunk, filling]))}
            (result,) = self._session.run([self._output], feed)
            found.append(to_float32(result)[: len(chunk)])
        joined = np.concatenate(found)
        if joined.ndim != 4:
            return joined
        described = f"{show_name(self._output)} {joined.shape}"
        axis = self._find_channels(joined.shape, described)
        return joined.transpose(0, 3, 1, 2) if axis == 3 else joined

    def _find_channels(self, shape: Sequence[int | None], described: str) -> int | None:
        """Return the axis of the channels of an output with four axes; None if it is dynamic."""
        if self._output_layout is not None:
            return 1 if self._output_layout == "nchw" else 3
        if self._channels is None:
            return 1  # without named classes the model is refused, whatever its axes are
        fitting = [axis for axis in (1, 3) if shape[axis] == self._channels]
        if len(fitting) == 2:
            raise InputError(
                f"{self._path}: the axes of its output {described} do not say where the channels "
                "are. Say it: output_layout=nchw for (N, C, H, W), output_layout=nhwc for "
                "(N, H, W, C)."
            )
        if fitting:
            return fitting[0]
        return None if shape[1] is None else 1


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
        InputError: a layout or the pixels have to be stated, or a mean or deviation would have no
            effect.
        UnknownNameError: no such output, layout or ``pixels``.
        MissingExtraError: onnxruntime is not installed.
    """
    path = Path(target)
    graph = OnnxSegmentationGraph(
        path,
        device=options.device,
        output=options.output,
        layout=options.layout,
        pixels=options.pixels,
        output_layout=options.output_layout,
        count=None if options.classes is None else len(options.classes),
    )
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
    as_they_are = choose_scaling(path, graph.input, {"mean": options.mean, "std": options.std})
    mean, std = as_they_are or (options.mean or MEAN, options.std or STD)
    reading = "label maps" if graph.gives_labels else "logits"
    usual = "" if options.mean or options.std else " (ImageNet's)"
    scaled = (
        f"mean {mean} and deviation {std}{usual}"
        if as_they_are is None
        else f"pixels {graph.input.pixels} as they are"
    )
    return LoadedSegmenter(
        graph,
        None,
        OnnxSegmentation(mean, std),
        framing,
        (
            framing.describe(),
            scaled,
            *graph.input.describe(),
            f"outputs read as {reading}",
        ),
    )


def check_onnx_segmenter(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a file that cannot be opened, and unknown values of the options of a graph.

    Raises:
        BrokenFileError: the file cannot be opened.
        UnknownNameError: no such layout or ``pixels``.
    """
    read_layout(options["output_layout"])
    check_onnx(target, options)


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
