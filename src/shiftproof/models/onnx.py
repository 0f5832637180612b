"""ONNX files, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof.errors import (
    BrokenFileError,
    InputError,
    MissingExtraError,
    ModelError,
)
from shiftproof.io import files
from shiftproof.models.loaded import Loaded, LoadOptions
from shiftproof.models.preprocess import ModelInput, Preprocess
from shiftproof.types import Logits

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@final
class OnnxModule:
    """A function from ``(N, C, H, W)`` float32 to ``(N, K)`` float32 logits over an ONNX graph.

    The graph has one image input, float32 in NCHW order; its batch axis may be dynamic or fixed
    (then it is run as often as needed). Of several outputs the first that is ``(N, K)`` is taken.

    Args:
        path: the file; weights kept beside it (external data) are found there.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.

    Attributes:
        channels: what the graph takes, or None where that is dynamic.
        size: ``(height, width)`` that the graph takes, or None where that is dynamic.
        device: where it runs.
        fingerprint: of the file.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's inputs or outputs are of another kind, or the device is not there.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, *, device: str = "cpu") -> None:
        self.path = path
        self._session, self.device = open_session(path, device)
        self.fingerprint = files.file_fingerprint(path)
        (self._input, self._batch, self.channels, self.size) = read_input(path, self._session)
        self._output = _read_output(path, self._session)

    def __call__(self, inputs: ModelInput) -> Logits:
        """Return the logits of a normalised batch."""
        if self._batch is None:
            return self._run(inputs)
        results = []
        for start in range(0, len(inputs), self._batch):
            chunk = inputs[start : start + self._batch]
            short = self._batch - len(chunk)
            # The graph takes no fewer: the last image fills up, and its copies are dropped.
            filled = np.concatenate([chunk, np.repeat(chunk[-1:], short, axis=0)])
            results.append(self._run(filled)[: len(chunk)])
        return np.concatenate(results)

    def _run(self, inputs: ModelInput) -> Logits:
        (result,) = self._session.run([self._output], {self._input: np.ascontiguousarray(inputs)})
        return np.asarray(result, dtype=np.float32)


def load_onnx(target: str, options: LoadOptions) -> Loaded:
    """Load an ONNX file.

    An ONNX file does not say how its images are to be prepared. The default is what most
    ImageNet models are trained with: the shorter side at 256/224 of the size, bilinear, a centre
    crop, mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225); a grey input takes the means
    of these. ``settings`` states what was used; ``size``, ``resize``, ``interpolation``, ``mean``
    and ``std`` override it.

    Args:
        target: the path.
        options: ``size`` is needed where the graph's is dynamic and not 224.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the graph's inputs or outputs are of another kind, its size is fixed and
            another was asked for, or the device is not there.
        MissingExtraError: onnxruntime is not installed.
    """
    module = OnnxModule(Path(target), device=options.device)
    size = options.size or module.size or (224, 224)
    if module.size is not None and size != module.size:
        raise ModelError(
            f"{target}: the graph is fixed at {module.size[0]} x {module.size[1]} pixels, but "
            f"{size[0]} x {size[1]} was asked for."
        )
    grey = module.channels == 1
    preprocess = Preprocess(
        size,
        math.floor(min(size) * 256 / 224),
        "bilinear",
        mean=(sum(_MEAN) / 3,) if grey else _MEAN,
        std=(sum(_STD) / 3,) if grey else _STD,
        channels=1 if grey else 3,
    )
    return Loaded(module, preprocess, None)


def open_session(path: Path, device: str) -> tuple[Any, str]:
    """Return a session of ONNX Runtime over a file, and where it runs.

    Raises:
        BrokenFileError: the file is missing or no ONNX graph.
        ModelError: the device is not there.
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError.of("onnxruntime", "onnx") from error
    if not path.is_file():
        raise BrokenFileError(f"{path}: there is no such file.")
    place, providers = _provider(onnxruntime, device)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3  # errors only: advice on the graph is of no use to who runs it
    try:
        return onnxruntime.InferenceSession(str(path), quiet, providers=providers), place
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise BrokenFileError(f"{path}: not an ONNX graph that can be run ({reason}).") from error


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


def _read_output(path: Path, session: Any) -> str:
    """Return the name of the first output that is ``(N, K)``."""
    outputs = session.get_outputs()
    for entry in outputs:
        # A graph without shape inference says nothing of its output; Classifier checks it then.
        if not entry.shape or len(entry.shape) == 2:
            return str(entry.name)
    found = ", ".join(f"{entry.name} {entry.shape}" for entry in outputs)
    raise ModelError(f"{path}: expected an output of logits (N, K), got {found}.")
