"""Where a training stands, kept after each epoch, so that it goes on with the same weights in the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from shiftproof.adapt.state import read_state, save_state
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.types import Settings

if TYPE_CHECKING:
    import torch

    Learnt: TypeAlias = Mapping[str, Mapping[str, torch.Tensor]]


def take_up(path: Path, about: Settings, learnt: Learnt) -> int:
    """Fill the tensors from a checkpoint, and return how many epochs it has behind it.

    Args:
        path: a ``.safetensors`` file; one that is missing, damaged or of other settings is as none.
        about: what decides the weights; a checkpoint of anything else is not taken up.
        learnt: all that a training changes, in groups: weights, and what the optimiser remembers.
    """
    import torch

    if not path.exists():
        return 0
    try:
        settings, state = read_state(path)
    except BrokenFileError:
        return 0
    names = {f"{group}/{name}" for group, tensors in learnt.items() for name in tensors}
    if {key: settings.get(key) for key in about} != about or names - set(state):
        return 0
    with torch.no_grad():
        for group, tensors in learnt.items():
            for name, tensor in tensors.items():
                tensor.copy_(state[f"{group}/{name}"])
    return int(settings["epochs"])


def keep(path: Path, about: Settings, epochs: int, learnt: Learnt) -> None:
    """Write a checkpoint, atomically."""
    files.make_folder(path.parent)
    state = {
        f"{group}/{name}": tensor
        for group, tensors in learnt.items()
        for name, tensor in tensors.items()
    }
    save_state(state, {**about, "epochs": epochs}, path)
