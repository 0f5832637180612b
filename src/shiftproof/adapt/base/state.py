"""Saving and loading of an adapter's learned state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.border import describe_error, open_regular
from shiftproof.lazy import import_extra

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.base.adapter import Adapter, State

FORMAT = "shiftproof adapter 1"


def save(adapter: Adapter, path: str | Path) -> None:
    """Write an adapter's learned state to a safetensors file, atomically.

    The file contains the adapter's settings too, by which ``load`` recognizes the state of another
    model. A crash leaves an existing file unchanged.

    Args:
        adapter: the adapter.
        path: the file, usually ``.safetensors``.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
        MissingExtraError: safetensors is not installed.
    """
    save_state(adapter.state(), adapter.settings, path)


def load(adapter: Adapter, path: str | Path) -> None:
    """Load a state that ``save`` wrote into an adapter of the same settings and weights.

    >>> import tempfile, torch
    >>> from shiftproof.adapt import BatchNorm, load, save
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    >>> adapted, again = BatchNorm(net), BatchNorm(net)
    >>> outputs = adapted(torch.rand(8, 3, 16, 16))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(adapted, f"{folder}/adapted.safetensors")
    ...     load(again, f"{folder}/adapted.safetensors")
    >>> bool(torch.equal(again.merge()[1].running_mean, adapted.merge()[1].running_mean))
    True

    Args:
        adapter: made as the saved one; its learned state is replaced.
        path: the file.

    Raises:
        BrokenFileError: the file is missing or damaged.
        InputError: it belongs to another kind of adapter, other settings or another model.
    """
    settings, state = read_state(path)
    differing = _list_differences(settings, json.loads(json.dumps(adapter.settings)))
    if differing:
        raise InputError(
            f"{path} belongs to an adapter with other settings: {'; '.join(differing[:3])}."
        )
    adapter.load_state(state)


def save_state(
    state: Mapping[str, torch.Tensor], settings: Mapping[str, Any], path: str | Path
) -> None:
    """Write a state with the settings of its adapter, as ``save``."""
    to_bytes = import_extra("safetensors.torch", "torch").save
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    about = {"format": FORMAT, "settings": json.dumps(settings)}
    files.write_bytes(Path(path), _sort_header(to_bytes(tensors, about)))


def _sort_header(data: bytes) -> bytes:
    """Return a safetensors file with a sorted header, since the library's order varies.

    The header is JSON after its length in 8 bytes, padded with spaces to a multiple of 8
    (https://github.com/huggingface/safetensors#format).
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    first = {"__metadata__": dict(sorted(header.pop("__metadata__").items()))}
    text = json.dumps({**first, **header}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def read_state(path: str | Path) -> tuple[dict[str, Any], State]:
    """Read the settings and the state that ``save_state`` wrote.

    Raises:
        BrokenFileError: the file is missing, damaged, or of another kind.
    """
    safe_open = import_extra("safetensors", "torch").safe_open
    try:
        with open_regular(Path(path)), safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError("it is not an adapter's file")
            settings: dict[str, Any] = json.loads(about["settings"])
            if not isinstance(settings, dict):
                raise TypeError("its settings are no mapping")
            return settings, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file can raise anything
        raise BrokenFileError(
            f"{path}: cannot be read as what `save` wrote ({describe_error(error)})."
        ) from error


def _list_differences(there: Any, here: Any, name: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            text
            for key in dict.fromkeys([*there, *here])
            if key != "device"  # what was learned on one device is used on another
            for text in _list_differences(there.get(key), here.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if there == here else [f"{name} was {there!r:.80}, now {here!r:.80}"]
