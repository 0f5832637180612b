"""ONNX files: read with all their weights, checked, and written whole or not at all."""

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
from shiftproof.io.border import convert_errors, open_regular, reason_of, show_name
from shiftproof.types import Settings

LARGEST = 2**31 - 2**24
"""Bytes of weights up to which a model is one file; a protocol buffer ends at 2 GiB."""

FIRST_OPSET = 9
"""Below it ``BatchNormalization`` has statistics of single positions (``spatial=0``), and there is
neither ``Where`` nor ``IsNaN``.
"""

_KEY = "shiftproof.adapt"


def read_model(path: Path) -> ModelProto:
    """Read an ONNX file, with the weights beside it, and its functions written out.

    Raises:
        BrokenFileError: it is missing or no ONNX, or its weights are not there.
        ModelError: its opset is not supported, or it adapts already.
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


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that a model is written in; 0 where it says none."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def is_checked_fully(path: Path, model: ModelProto) -> bool:
    """Whether a model passes ONNX's full check, with shape inference; raise where it passes none.

    Raises:
        BrokenFileError: it is no valid ONNX.
    """
    if _weigh(model) > LARGEST:
        return False
    with convert_errors(path, "not a valid ONNX graph"):
        onnx.checker.check_model(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:  # an operator of a runtime's own, or a shape that is wrong but runs
        return False
    return True


def record(model: ModelProto, settings: Settings) -> None:
    """Write into a model's metadata what was done to it."""
    model.metadata_props.add(key=_KEY, value=json.dumps(settings, sort_keys=True))
    model.metadata_props.add(key="shiftproof.version", value=__version__)


def check_target(path: Path) -> None:
    """Raise an InputError where a file of that name cannot be written."""
    for taken in (path, _weights_beside(path)):
        if taken.exists() or taken.is_symlink():
            raise InputError(f"{taken} exists already; remove it or choose another name.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder to write {path.name} to.")


def write_model(model: ModelProto, path: Path, *, full_check: bool) -> None:
    """Check a model and write it; above 2 GiB the weights stand in ``NAME.data`` beside it.

    Raises:
        ModelError: what was made of the graph is not valid ONNX.
        InputError: the file cannot be written.
        RunError: the disk is full.
    """
    if _weigh(model) <= LARGEST:
        with _explain_check(path):
            onnx.checker.check_model(model, full_check=full_check)
        files.write_bytes(path, model.SerializeToString())
        return
    _write_apart(model, path)


def _write_apart(model: ModelProto, path: Path) -> None:
    beside = _weights_beside(path)
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
        raise files.disk_error(path, error) from error


class _explain_check:
    """Turn what the checker raises into an error of the graph."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise ModelError(
                f"{self._path}: the graph cannot be made to adapt, as what comes out is not valid "
                f"ONNX ({show_name(reason_of(error))})."
            ) from error


def _check_opset(path: Path, model: ModelProto) -> None:
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if not FIRST_OPSET <= opset <= newest:
        raise ModelError(
            f"{path}: is of opset {opset}; expected {FIRST_OPSET} to {newest}, which the installed "
            f"onnx {onnx.__version__} knows. Export the model with another opset_version."
        )


def _weights_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


def _weigh(model: ModelProto) -> int:
    return int(model.ByteSize())
