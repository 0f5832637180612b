"""Reading ONNX files with their weights, checking them, and writing them atomically."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, inliner

from shiftproof import __version__
from shiftproof.errors import BrokenFileError, InputError, ModelError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, describe_error, open_regular, show_name
from shiftproof.types import Settings

MAX_BYTES = 2**31 - 2**24
"""Maximum bytes of a model in one file; a protocol buffer is limited to 2 GiB."""

FIRST_OPSET = 9
"""Lower opsets allow ``BatchNormalization`` with statistics per position (``spatial=0``), and lack
``Where`` and ``IsNaN``.
"""

_KEY = "shiftproof.adapt"


def read_model(path: Path) -> ModelProto:
    """Read an ONNX file with its external weights, and inline its functions.

    Raises:
        BrokenFileError: it is missing or not ONNX, or its weights are missing.
        ModelError: its opset is not supported, or it already adapts.
    """
    if not path.exists():
        raise BrokenFileError(f"{path}: there is no such file.")
    with open_regular(path) as file:
        head = file.read(1)
    with convert_errors(path, "not an ONNX file"):
        if not head:
            raise BrokenFileError(f"{path}: not an ONNX file (it is empty).")
        model = onnx.load(str(path))
        if not model.ir_version or not model.graph.output:
            raise BrokenFileError(f"{path}: not an ONNX file (it holds no graph).")
        if model.functions:
            model = inliner.inline_local_functions(model)
    _check_opset(path, model)
    for entry in model.metadata_props:
        if entry.key == _KEY:
            raise ModelError(
                f"{path}: adapts already ({show_name(entry.value)}); export the graph that it was "
                "made of."
            )
    return model


def get_opset(model: ModelProto) -> int:
    """Return a model's opset version of the standard ONNX operators; 0 if it is not stated."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def passes_full_check(path: Path, model: ModelProto) -> bool:
    """Return whether a model passes ONNX's full check, with shape inference.

    Raises:
        BrokenFileError: it does not pass the basic check either.
    """
    if _compute_size(model) > MAX_BYTES:
        return False
    with convert_errors(path, "not a valid ONNX graph"):
        onnx.checker.check_model(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:  # a runtime's custom operator, or a wrong shape that runs nevertheless
        return False
    return True


def write_metadata(model: ModelProto, settings: Settings) -> None:
    """Write the settings of the adapter into a model's metadata."""
    model.metadata_props.add(key=_KEY, value=json.dumps(settings, sort_keys=True))
    model.metadata_props.add(key="shiftproof.version", value=__version__)


def check_target(path: Path) -> None:
    """Check that a file can be written."""
    for taken in (path, _get_weights_path(path)):
        if taken.exists() or taken.is_symlink():
            raise InputError(f"{taken} exists already; remove it or choose another name.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder to write {path.name} to.")


def write_model(model: ModelProto, path: Path, *, full_check: bool) -> None:
    """Check a model and write it, above 2 GiB with external weights in ``NAME.data``.

    Raises:
        ModelError: the adapted graph is not valid ONNX.
        InputError: the file cannot be written.
        RunError: the disk is full.
    """
    if _compute_size(model) <= MAX_BYTES:
        with _explain_check(path):
            onnx.checker.check_model(model, full_check=full_check)
        files.write_bytes(path, model.SerializeToString())
        return
    _write_external(model, path)


def _write_external(model: ModelProto, path: Path) -> None:
    beside = _get_weights_path(path)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", dir=path.parent) as folder:
            first = Path(folder, path.name)
            onnx.save_model(
                model,
                str(first),
                save_as_external_data=True,
                location=beside.name,
                size_threshold=1024,
            )
            with _explain_check(path):
                onnx.checker.check_model(str(first))
            first.with_name(beside.name).replace(beside)
            first.replace(path)
    except OSError as error:
        raise files.explain_disk_error(path, error) from error


class _explain_check:
    """Convert exceptions of the checker to a ModelError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise ModelError(
                f"{self._path}: the graph cannot be made to adapt, as what comes out is not valid "
                f"ONNX ({show_name(describe_error(error))})."
            ) from error


def _check_opset(path: Path, model: ModelProto) -> None:
    opset, newest = get_opset(model), onnx.defs.onnx_opset_version()
    if not FIRST_OPSET <= opset <= newest:
        raise ModelError(
            f"{path}: is of opset {opset}; expected {FIRST_OPSET} to {newest}, which the installed "
            f"onnx {onnx.__version__} knows. Export the model with another opset_version."
        )


def _get_weights_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


def _compute_size(model: ModelProto) -> int:
    return int(model.ByteSize())
