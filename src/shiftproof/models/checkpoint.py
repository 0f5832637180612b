"""Checkpoints on disk: weights only, never code."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.classes import imagenet
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    MissingExtraError,
    ModelError,
    UnknownNameError,
)
from shiftproof.models import timm, torchvision
from shiftproof.models.loaded import Loaded, LoadOptions
from shiftproof.models.structure import require_torch

if TYPE_CHECKING:
    import torch

_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the weights beside their optimiser's state."""

_PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DataParallel, Lightning and torch.compile put before each name."""


def load_checkpoint(target: str, options: LoadOptions) -> Loaded:
    """Load the weights in a file into an architecture of timm or torchvision.

    A file may hold a ``state_dict``, or a dict with one under ``state_dict``,
    ``model_state_dict`` or ``model``; prefixes that all its names share (``module.``, ``model.``,
    ``_orig_mod.``) are taken off. The number of classes is read off the last layer. 1,000
    classes are taken to be ImageNet's. The preprocessing is the architecture's.

    Args:
        target: the path; ``.safetensors`` is read as that, all else by ``torch.load``.
        options: ``arch`` is needed: ``timm:NAME`` or ``torchvision:NAME``.

    Raises:
        InputError: no architecture is given.
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object (nothing of it is run), or does not fit.
    """
    if options.arch is None:
        raise InputError(
            f"A checkpoint needs its architecture: file:{target}?arch=timm:resnet18 "
            "(or torchvision:NAME)."
        )
    require_torch()
    library, _, name = options.arch.partition(":")
    name, _, tag = name.partition("@")
    state = read_state(Path(target))
    if library == "timm":
        module, count = _fitted(state, name, timm.build_timm)
        preprocess = timm.preprocess_of(module)
    elif library == "torchvision":
        weights = torchvision.find_weights(name, tag)
        module, count = _fitted(state, name, torchvision.build_torchvision)
        preprocess = torchvision.preprocess_of(weights)
    else:
        raise UnknownNameError.of("library of architectures", library, ["timm", "torchvision"])
    return Loaded(module, preprocess, imagenet() if count == 1000 else None)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights in a file by name, wherever in it they are nested.

    Raises:
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object (nothing of it is run), or no weights.
    """
    if not path.is_file():
        raise BrokenFileError(f"{path}: there is no such file.")
    if path.stat().st_size == 0:
        raise BrokenFileError(f"{path}: the file is empty.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    import torch

    for key in _NESTED_UNDER:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else ""
        raise ModelError(
            f"{path} holds no state_dict (a dict from names to tensors), but a "
            f"{type(content).__name__}{f' with {found[:200]}' if found else ''}. "
            "Save the weights alone: torch.save(model.state_dict(), PATH)."
        )
    return {str(name): value for name, value in content.items()}


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError.of("safetensors", "timm") from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BrokenFileError(f"{path}: not a safetensors file ({error}).") from error


def _read_torch(path: Path) -> Any:
    import torch

    if _is_torchscript(path):
        raise ModelError(
            f"{path} is a TorchScript archive, which is a program and no checkpoint. "
            "Load it yourself where you trust it, and wrap it: "
            "Classifier(torch.jit.load(PATH), preprocess, classes)."
        )
    try:
        with warnings.catch_warnings():
            # Torch warns of a pickle protocol that it did not write itself, and then refuses it.
            warnings.simplefilter("ignore")
            # Without weights_only a checkpoint is a program that runs when it is loaded.
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            named = re.search(r"GLOBAL (\S+)", text)
            raise ModelError(
                f"{path} holds a pickled object{f' ({named[1]})' if named else ''}, which could "
                "run code when it is loaded: it was refused, and nothing of it was run. Save the "
                "weights alone: torch.save(model.state_dict(), PATH)."
            ) from error
        reason = text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            # What torch says here is how to load it without the safeguard.
            reason = "neither a torch archive nor a pickle"
        raise BrokenFileError(f"{path}: not a checkpoint that can be read ({reason}).") from error


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: older versions of torch.load would run it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, or is an archive around one."""
    with path.open("rb") as file:
        first = file.read(2)
    return first in (b"PK", *(bytes((0x80, protocol)) for protocol in range(2, 6)))


def _fitted(
    state: dict[str, torch.Tensor], name: str, build: Callable[[str, int | None], torch.nn.Module]
) -> tuple[torch.nn.Module, int | None]:
    """Return the architecture with the weights in it, and its number of classes if that shows.

    Raises:
        ModelError: keys are missing or too many, or shapes differ.
    """
    module = build(name, None)
    expected = module.state_dict()
    state = without_prefixes(state, expected)
    # The last vector of the architecture is the bias of its head: one number per class.
    head = next((key for key, value in reversed(expected.items()) if value.ndim == 1), None)
    count: int | None = None
    if head is not None and head in state and state[head].ndim == 1:
        count = len(state[head])
        if count != len(expected[head]):
            module = build(name, count)
            expected = module.state_dict()
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    shapes = [
        f"{key} is {tuple(state[key].shape)} and not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    faults = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for what, keys in (
            (f"of the {len(expected)} expected are missing", missing),
            ("are not expected", extra),
            ("have another shape", shapes),
        )
        if keys
    ]
    if faults:
        raise ModelError(
            f"The weights do not fit {name}: {'; '.join(faults)}. Check the architecture."
        )
    module.load_state_dict(state)
    return module, count


def without_prefixes(
    state: dict[str, torch.Tensor], expected: Collection[str]
) -> dict[str, torch.Tensor]:
    """Take off prefixes that all names share and the architecture's own names do not."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if all(key.startswith(prefix) for key in state) and not any(
                key.startswith(prefix) for key in expected
            ):
                state = {key[len(prefix) :]: value for key, value in state.items()}
                stripped = True
    return state
