"""ONNX files, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof.classes import imagenet
from shiftproof.errors import BrokenFileError, InputError, ModelError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, reason_of, show_name
from shiftproof.lazy import import_extra
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.module import black_image
from shiftproof.models.onnx_graph import Reading, read_graph, reading_of
from shiftproof.models.onnx_outputs import choose_output, words_of
from shiftproof.models.preprocess import ModelInput, Preprocess
from shiftproof.shards.seen import unseen
from shiftproof.types import Logits

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@final
class OnnxModule:
    """A function from ``(N, C, H, W)`` float32 to ``(N, K)`` float32 logits over an ONNX graph.

    The graph has one image input, float32 in NCHW order; its batch axis may be dynamic or fixed
    (then it is run as often as needed). Where the graph ends with a softmax, the logarithms of its
    probabilities are returned, where with a sigmoid, what went into it: a softmax of either is then
    what it should be.

    Args:
        path: the file; weights kept beside it (external data) are found there.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
        output: the name of the output; None takes the one whose name, number of columns or place in
            the graph says that it is the logits.
        classes: how many classes there are, where that is known.
        features: whether the output is to be vectors, which are returned as they are.

    Attributes:
        output: the output that is taken.
        reading: what its numbers are in the graph.
        batch: how many images the graph takes at once, or None where that is dynamic.
        channels: what the graph takes, or None where that is dynamic.
        size: ``(height, width)`` that the graph takes, or None where that is dynamic.
        device: where it runs.
        fingerprint: of the file.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's inputs or outputs are of another kind, several outputs may be meant,
            or the device is not there.
        UnknownNameError: no output is called ``output``.
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
    ) -> None:
        self.path = path
        self._session, self.device = open_session(path, device)
        self.fingerprint = files.file_fingerprint(path)
        (self._input, self.batch, self.channels, self.size) = read_input(path, self._session)
        graph = read_graph(path)
        with convert_errors(path, "not an ONNX graph whose outputs can be read"):
            outputs = self._session.get_outputs()
            self.output = choose_output(
                path, outputs, graph, asked=output, classes=classes, features=features
            )
        self.reading: Reading = "logits"
        if not features:
            self.reading = reading_of(self.output.name, words_of(self.output.name), graph)

    def __call__(self, inputs: ModelInput) -> Logits:
        """Return the logits of a normalized batch."""
        if self.batch is None:
            return self._run(inputs)
        results = []
        for start in range(0, len(inputs), self.batch):
            chunk = inputs[start : start + self.batch]
            short = self.batch - len(chunk)
            # The graph takes no fewer: the last image fills up, and its copies are dropped.
            filled = np.concatenate([chunk, np.repeat(chunk[-1:], short, axis=0)])
            results.append(self._run(filled)[: len(chunk)])
        return np.concatenate(results)

    def _run(self, inputs: ModelInput) -> Logits:
        (result,) = self._session.run(
            [self.output.name], {self._input: np.ascontiguousarray(inputs)}
        )
        return _as_logits(np.asarray(result, dtype=np.float32), self.reading)


def load_onnx(target: str, options: LoadOptions) -> Loaded:
    """Load an ONNX file.

    An ONNX file does not say how its images are to be prepared. The default is what most
    ImageNet models are trained with: the shorter side at 256/224 of the size, bilinear, a center
    crop, mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225); a gray input takes the means
    of these. ``settings`` states what was used; ``size``, ``resize``, ``interpolation``, ``mean``
    and ``std`` override it. 1,000 outputs are taken to be ImageNet's classes.

    Args:
        target: the path.
        options: ``size`` is needed where the graph's is dynamic and not 224; ``output`` names the
            output of a graph that has several.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's inputs or outputs are of another kind, its size is fixed and
            another was asked for, or the device is not there.
        MissingExtraError: onnxruntime is not installed.
    """
    module = OnnxModule(
        Path(target),
        device=options.device,
        output=options.output,
        classes=None if options.classes is None else len(options.classes),
        features=options.features,
    )
    size = options.size or module.size or (224, 224)
    if module.size is not None and size != module.size:
        raise ModelError(
            f"{target}: the graph is fixed at {module.size[0]} x {module.size[1]} pixels, but "
            f"{size[0]} x {size[1]} was asked for."
        )
    gray = module.channels == 1
    preprocess = Preprocess(
        size,
        math.floor(min(size) * 256 / 224),
        "bilinear",
        mean=(sum(_MEAN) / 3,) if gray else _MEAN,
        std=(sum(_STD) / 3,) if gray else _STD,
        channels=1 if gray else 3,
    )
    assumed = []
    if options.output is None and module.output.others:
        assumed.append(f"output {module.output.told} of {module.output.others + 1}")
    if module.reading != "logits":
        ending = "softmax" if module.reading == "probabilities" else "sigmoid"
        assumed.append(f"the {ending} at the end taken off")
    if gray:
        assumed.append("one input channel: images are turned to gray")
    return Loaded(
        module,
        preprocess,
        imagenet() if not options.features and _width(module, preprocess) == 1000 else None,
        preprocess_from="usual for ImageNet, an ONNX file states none",
        classes_from="1,000 outputs are taken to be ImageNet's",
        assumed=tuple(assumed),
    )


def _width(module: OnnxModule, preprocess: Preprocess) -> int | None:
    """Return how many outputs a graph has; one image tells it where the graph does not."""
    if module.output.width is not None:
        return module.output.width
    try:
        shape = module(preprocess.normalize(black_image(preprocess))).shape
    except Exception:  # what does not run is said where the model is tried
        return None
    return shape[1] if len(shape) == 2 else None


def _as_logits(values: Logits, reading: Reading) -> Logits:
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
    """A session of ONNX Runtime, which goes to another process or machine as the name of its file."""

    def __init__(self, session: Any, path: Path, device: str) -> None:
        self._session = session
        self._path = path
        self._device = device
        self.run = session.run
        self.get_inputs = session.get_inputs
        self.get_outputs = session.get_outputs
        self.get_modelmeta = session.get_modelmeta

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the session behind: it is begun anew, over the same file."""
        found = files.file_fingerprint(self._path)
        return _reopen, (self._path.resolve(), self._device, found)


def _reopen(path: Path, device: str, fingerprint: str) -> Session:
    if not path.is_file():
        raise unseen(str(path), "there is no such file")
    if files.file_fingerprint(path) != fingerprint:
        raise unseen(str(path), "the file there is another one")
    return open_session(path, device)[0]


def open_session(path: Path, device: str) -> tuple[Session, str]:
    """Return a session of ONNX Runtime over a file, and where it runs.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the device is not there.
        MissingExtraError: onnxruntime is not installed.
    """
    onnxruntime = import_extra("onnxruntime", "onnx")
    if not path.is_file():
        raise BrokenFileError(f"{path}: there is no such file.")
    place, providers = _provider(onnxruntime, device)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3  # errors only: advice on the graph is of no use to who runs it
    try:
        # On the CPU its second try is the first again, and it prints on standard output.
        session = onnxruntime.InferenceSession(
            str(path), quiet, providers=providers, enable_fallback=int(place != "cpu")
        )
        return Session(session, path, place), place
    except Exception as error:
        raise BrokenFileError(
            f"{path}: not an ONNX graph that can be run ({show_name(reason_of(error))})."
        ) from error


def _provider(onnxruntime: Any, device: str) -> tuple[str, list[Any]]:
    """Return where the graph will run, and ONNX Runtime's words for it."""
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


def read_input(
    path: Path, session: Any
) -> tuple[str, int | None, int | None, tuple[int, int] | None]:
    """Return the input's name, its batch, channels and size; None for what is dynamic."""
    with convert_errors(path, "not an ONNX graph whose inputs can be read"):
        inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs)
        raise ModelError(f"{path}: expected a graph with one input, got {len(inputs)} ({names}).")
    entry = inputs[0]
    shape = [axis if isinstance(axis, int) and axis > 0 else None for axis in entry.shape]
    if entry.type != "tensor(float)" or len(shape) != 4 or shape[1] not in (None, 1, 3):
        raise ModelError(
            f"{path}: expected an input of float32 (N, 3, H, W), got {entry.name!r} of "
            f"{entry.type} {entry.shape}. Export the model in that form."
        )
    batch, channels, height, width = shape
    if (height is None) != (width is None):
        raise InputError(
            f"{path}: expected height and width both fixed or both dynamic, got {entry.shape}."
        )
    size = None if height is None or width is None else (height, width)
    return entry.name, batch, channels, size
