"""ONNX files, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof.classes import imagenet
from shiftproof.errors import BrokenFileError, ModelError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, describe_error, show_name
from shiftproof.lazy import import_extra
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.module import make_black_image
from shiftproof.models.onnx_graph import Reading, find_reading, read_graph
from shiftproof.models.onnx_input import choose_scaling, find_size, read_input, to_float32
from shiftproof.models.onnx_outputs import choose_output, split_words
from shiftproof.models.preprocess import ModelInput, Preprocess
from shiftproof.shards.access import make_access_error
from shiftproof.types import Logits

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@final
class OnnxModule:
    """A function from ``(N, C, H, W)`` float32 to ``(N, K)`` float32 logits over an ONNX graph.

    The graph has one image input, of which :mod:`shiftproof.models.onnx_input` says what it may be;
    its batch axis may be dynamic or fixed (then the graph runs several times). If the graph ends
    with a softmax, the logarithms of its probabilities are returned, if with a sigmoid, its inputs:
    so the outputs are logits.

    Args:
        path: the file; external data is read from the same folder.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
        output: the name of the output; None finds the logits by name, number of columns or position
            in the graph.
        classes: number of classes, if known.
        features: whether the output is vectors, which are returned unchanged.
        layout: "nchw" or "nhwc", if the graph's axes leave it open.
        pixels: "normalized", "0..1" or "0..255", which the graph takes; None for the first, and for
            pixels 0..255 in uint8.

    Attributes:
        input: the image input.
        output: the chosen output.
        reading: the type of its values.
        batch: batch size of the graph, or None if it is dynamic.
        channels: input channels, or None if they are dynamic.
        size: ``(height, width)`` of the input, or None if it is dynamic.
        device: the device on which it runs.
        fingerprint: fingerprint of the file, and of a stated layout.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's inputs or outputs are of another kind, the output is ambiguous, or
            the device is not available.
        InputError: the layout or the pixels have to be stated.
        UnknownNameError: no output with the name ``output``, or no such ``layout`` or ``pixels``.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        output: str | None = None,
        classes: int | None = None,
        features: bool = False,
        layout: str | None = None,
        pixels: str | None = None,
    ) -> None:
        self.path = path
        self._session, self.device = open_session(path, device)
        self.input = read_input(path, self._session, layout=layout, pixels=pixels)
        self.batch, self.channels = self.input.batch, self.input.channels
        self.size = find_size(path, self.input)
        self.fingerprint = self.input.identify(files.file_fingerprint(path))
        graph = read_graph(path)
        with convert_errors(path, "not an ONNX graph whose outputs can be read"):
            outputs = self._session.get_outputs()
            self.output = choose_output(
                path, outputs, graph, asked=output, classes=classes, features=features
            )
        self.reading: Reading = "logits"
        if not features:
            self.reading = find_reading(self.output.name, split_words(self.output.name), graph)

    def __call__(self, inputs: ModelInput) -> Logits:
        """Return the logits of a normalized batch."""
        if self.batch is None:
            return self._run(inputs)
        results = []
        for start in range(0, len(inputs), self.batch):
            chunk = inputs[start : start + self.batch]
            short = self.batch - len(chunk)
            # The graph has a fixed batch size: copies of the last image fill the batch, and are
            # dropped.
            filled = np.concatenate([chunk, np.repeat(chunk[-1:], short, axis=0)])
            results.append(self._run(filled)[: len(chunk)])
        return np.concatenate(results)

    def _run(self, inputs: ModelInput) -> Logits:
        feed = {self.input.name: self.input.convert(inputs)}
        (result,) = self._session.run([self.output.name], feed)
        return _to_logits(to_float32(result), self.reading)


def load_onnx(target: str, options: LoadOptions) -> Loaded:
    """Load an ONNX file.

    An ONNX file does not state its preprocessing. The default is that of most ImageNet models: the
    shorter side resized to 256/224 of the size, bilinear, a center crop, mean (0.485, 0.456, 0.406)
    and std (0.229, 0.224, 0.225), or their means for a gray input. ``size``, ``resize``,
    ``interpolation``, ``mean`` and ``std`` override it, and ``settings`` records it. A graph that
    takes pixels as they are (``pixels``, or an input of uint8) has no mean and std. 1,000 outputs
    are assumed to be ImageNet's classes.

    Args:
        target: the path.
        options: ``size`` for a graph with a dynamic size other than 224; ``output`` for a graph
            with several outputs; ``layout`` and ``pixels`` for what its input does not say.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's inputs or outputs are of another kind, its size is fixed and another
            was given, or the device is not available.
        InputError: the layout or the pixels have to be stated, or a mean or deviation would have
            no effect.
        MissingExtraError: onnxruntime is not installed.
    """
    module = OnnxModule(
        Path(target),
        device=options.device,
        output=options.output,
        classes=None if options.classes is None else len(options.classes),
        features=options.features,
        layout=options.layout,
        pixels=options.pixels,
    )
    asked = {"mean": options.mean, "std": options.std}
    as_they_are = choose_scaling(target, module.input, asked)
    size = options.size or module.size or (224, 224)
    if module.size is not None and size != module.size:
        raise ModelError(
            f"{target}: the graph is fixed at {module.size[0]} x {module.size[1]} pixels, but "
            f"{size[0]} x {size[1]} was asked for."
        )
    gray = module.channels == 1
    usual = ((sum(_MEAN) / 3,), (sum(_STD) / 3,)) if gray else (_MEAN, _STD)
    mean, std = as_they_are or usual
    preprocess = Preprocess(
        size,
        math.floor(min(size) * 256 / 224),
        "bilinear",
        mean=mean,
        std=std,
        channels=1 if gray else 3,
    )
    assumed = module.input.describe()
    if options.output is None and module.output.others:
        assumed.append(f"output {module.output.description} of {module.output.others + 1}")
    if module.reading != "logits":
        ending = "softmax" if module.reading == "probabilities" else "sigmoid"
        assumed.append(f"the {ending} at the end taken off")
    if gray:
        assumed.append("one input channel: images are turned to gray")
    return Loaded(
        module,
        preprocess,
        imagenet() if not options.features and _count_outputs(module, preprocess) == 1000 else None,
        preprocess_from="usual for ImageNet, an ONNX file states none"
        if as_they_are is None
        else f"the usual size for ImageNet, pixels {module.input.pixels} as they are",
        classes_from="1,000 outputs are taken to be ImageNet's",
        assumed=tuple(assumed),
    )


def _count_outputs(module: OnnxModule, preprocess: Preprocess) -> int | None:
    """Return the number of outputs; if the graph does not state it, by running one image."""
    if module.output.width is not None:
        return module.output.width
    try:
        shape = module(preprocess.normalize(make_black_image(preprocess))).shape
    except Exception:  # the error is raised when the model is checked
        return None
    return shape[1] if len(shape) == 2 else None


def _to_logits(values: Logits, reading: Reading) -> Logits:
    if reading == "logits":
        return values
    limits = np.finfo(np.float32)
    found: Logits
    if reading == "probabilities":
        found = np.log(np.maximum(values, limits.tiny))
    else:
        clipped = np.clip(values, limits.tiny, 1 - limits.epsneg)
        found = np.log(clipped) - np.log1p(-clipped)
    return found


class Session:
    """A session of ONNX Runtime, which is pickled as the path of its file."""

    def __init__(self, session: Any, path: Path, device: str) -> None:
        self._session = session
        self._path = path
        self._device = device
        self.run = session.run
        self.get_inputs = session.get_inputs
        self.get_outputs = session.get_outputs
        self.get_modelmeta = session.get_modelmeta

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path: the session is opened again from the same file."""
        found = files.file_fingerprint(self._path)
        return _reopen, (self._path.resolve(), self._device, found)


def _reopen(path: Path, device: str, fingerprint: str) -> Session:
    if not path.is_file():
        raise make_access_error(str(path), "there is no such file")
    if files.file_fingerprint(path) != fingerprint:
        raise make_access_error(str(path), "the file there is another one")
    return open_session(path, device)[0]


def open_session(path: Path, device: str) -> tuple[Session, str]:
    """Return a session of ONNX Runtime for a file, and its device.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the device is not available.
        MissingExtraError: onnxruntime is not installed.
    """
    onnxruntime = import_extra("onnxruntime", "onnx")
    if not path.is_file():
        raise BrokenFileError(f"{path}: there is no such file.")
    place, providers = _choose_provider(onnxruntime, device)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3  # errors only: warnings about the graph do not help its users
    try:
        # On the CPU the fallback would repeat the same attempt, and print to standard output.
        session = onnxruntime.InferenceSession(
            str(path), quiet, providers=providers, enable_fallback=int(place != "cpu")
        )
        return Session(session, path, place), place
    except Exception as error:
        raise BrokenFileError(
            f"{path}: not an ONNX graph that can be run ({show_name(describe_error(error))})."
        ) from error


def _choose_provider(onnxruntime: Any, device: str) -> tuple[str, list[Any]]:
    """Return the device for the graph, and ONNX Runtime's providers for it."""
    kind, _, index = str(device).partition(":")
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if kind == "auto":
        kind = "cuda" if has_cuda else "cpu"
    if kind == "cpu":
        return "cpu", ["CPUExecutionProvider"]
    if kind != "cuda" or (index and not index.isdecimal()):
        raise ModelError(
            f"An ONNX model runs on 'cpu', 'cuda' or 'auto', but device={device!r} was asked for."
        )
    if not has_cuda:
        raise ModelError(
            f"device={device!r} was asked for, but this ONNX Runtime has no CUDA: "
            "install onnxruntime-gpu, or use 'cpu'."
        )
    number = int(index or 0)
    provider = ("CUDAExecutionProvider", {"device_id": number})
    return f"cuda:{number}", [provider, "CPUExecutionProvider"]
