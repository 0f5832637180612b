"""Safe reading of checkpoint files: no code is run, and the file's size bounds the memory."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import tarfile
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shiftproof.errors import BrokenFileError, ModelError
from shiftproof.io.arrays import open_archive
from shiftproof.io.border import convert_errors, describe_error, open_regular
from shiftproof.lazy import import_extra

if TYPE_CHECKING:
    import torch

_SAFE_TORCH = (2, 10)
"""The first torch whose weights-only loader has no known vulnerability: CVE-2025-32434 is fixed in
2.6, CVE-2026-24747 in 2.10.
"""


def read_content(path: Path) -> Any:
    """Return the content of a checkpoint: ``.safetensors`` files by safetensors, others by torch.

    Raises:
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object or a program (nothing of it is run), or torch is too
            old to read it safely.
        MissingExtraError: safetensors is not installed.
    """
    if not path.exists():
        raise BrokenFileError(f"{path}: there is no such file.")
    with open_regular(path) as file:
        if file.seek(0, os.SEEK_END) == 0:
            raise BrokenFileError(f"{path}: the file is empty.")
        if path.suffix != ".safetensors":
            _check_form(file, path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def check_dense(tensor: torch.Tensor, where: str) -> None:
    """Check that a tensor is dense and all of its numbers are in the file.

    Raises:
        ModelError: it is sparse, nested, quantized, complex or without values.
        BrokenFileError: it claims more numbers than were stored.
    """
    import torch

    kinds = {
        "a tensor without values (meta)": tensor.is_meta,
        "a nested tensor": tensor.is_nested,
        "a sparse tensor": tensor.layout != torch.strided,
        "a quantized tensor": tensor.is_quantized,
        "of complex numbers": tensor.is_complex(),
    }
    for kind, found in kinds.items():
        if found:
            raise ModelError(
                f"{where} is {kind}; expected dense real numbers. Save the weights as such: "
                "tensor.to_dense(), tensor.dequantize() or tensor.real."
            )
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > stored:
        raise BrokenFileError(
            f"{where} claims {tensor.numel():,} numbers, but the file has {stored:,} bytes of it. "
            "Save it anew: tensor.contiguous()."
        )


def _read_safetensors(path: Path) -> Any:
    load_file = import_extra("safetensors.torch", "timm").load_file
    with convert_errors(path, "not a safetensors file"):
        return load_file(path)


def _check_form(file: IO[bytes], path: Path) -> None:
    """Reject formats that torch would run, or that claim more bytes than the file has.

    This is checked before torch reads the file, since older versions run such files.
    """
    file.seek(0)
    first = file.read(4)
    if first == b"PK\x03\x04":
        with open_archive(file, path) as archive:
            names = [entry.filename for entry in archive.infolist()]
            claimed = sum(entry.file_size for entry in archive.infolist())
        if any(name.endswith("/constants.pkl") for name in names):
            raise ModelError(
                f"{path} is a TorchScript archive, which is a program and no checkpoint. "
                "Export the network by torch.export instead, or load the archive yourself where you "
                "trust it (torch.jit.load, which torch has deprecated), in a function of yours that "
                "returns either: python:MODULE:FUNCTION. In Python: "
                "Classifier(torch.jit.load(PATH), preprocess, classes)."
            )
        if claimed > file.seek(0, os.SEEK_END):
            # Torch stores weights uncompressed, so the content cannot be larger than the file.
            raise BrokenFileError(
                f"{path}: its entries claim {claimed:,} bytes, more than the file has. Save it anew "
                "by torch.save."
            )
    elif _is_tar(file, path):
        raise ModelError(
            f"{path} is a tar archive, a form of torch before 0.2 that is not read: versions of "
            "torch run code in it. Save the weights anew where you trust it: "
            "torch.save(model.state_dict(), PATH)."
        )


def _is_tar(file: IO[bytes], path: Path) -> bool:
    """Whether torch would read a file in its oldest format, a tar."""
    file.seek(0)
    with convert_errors(path, "not a checkpoint that can be read"):
        try:
            with tarfile.open(fileobj=file, mode="r:", format=tarfile.PAX_FORMAT):
                return True
        except tarfile.TarError:
            return False


def _read_torch(path: Path) -> Any:
    import torch

    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise ModelError(
            f"torch {torch.__version__} can run code that is hidden in a checkpoint, so {path} is "
            f"not read. Install torch {'.'.join(map(str, _SAFE_TORCH))} or newer, or save the "
            "weights as .safetensors."
        )
    try:
        # Torch warns about unknown pickle protocols before its error. timm and others save their
        # command line as a Namespace.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            # Without weights_only, loading a checkpoint can run any code.
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            named = re.search(r"GLOBAL (\S+)", str(error))
            raise ModelError(
                f"{path} holds a pickled object{f' ({named[1]})' if named else ''}, which could "
                "run code when it is loaded: it was refused, and nothing of it was run. Save the "
                "weights alone: torch.save(model.state_dict(), PATH)."
            ) from error
        # Torch's own message explains how to load the file without this protection. An invalid
        # opcode of pickle raises a KeyError.
        damaged = isinstance(error, pickle.UnpicklingError | KeyError)
        reason = "neither a torch archive nor a pickle" if damaged else describe_error(error)
        raise BrokenFileError(f"{path}: not a checkpoint that can be read ({reason}).") from error


def _is_pickle(path: Path) -> bool:
    """Whether a file begins like a pickle, or is an archive with one."""
    with path.open("rb") as file:
        first = file.read(2)
    return first in (b"PK", *(bytes((0x80, protocol)) for protocol in range(2, 6)))
