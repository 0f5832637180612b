"""Filling a network of torchvision with the weights of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof.counts import pluralize
from shiftproof.errors import ModelError
from shiftproof.io.border import show_name
from shiftproof.models.checkpoints.checkpoint import read_tensors
from shiftproof.models.checkpoints.file import check_dense
from shiftproof.models.checkpoints.weights import Match, find_weights

if TYPE_CHECKING:
    import torch


def match_weights(network: torch.nn.Module, path: Path, wanted: str | None = None) -> Match | None:
    """Return the weights of a file that belong to a network, or None if it has none.

    ``wanted`` chooses one of several sets of weights.

    Raises:
        UnknownNameError: no such set of weights.
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object, which is not executed.
    """
    parameters = frozenset(name for name, _ in network.named_parameters())
    return find_weights(
        read_tensors(path), network.state_dict(), parameters=parameters, wanted=wanted
    )


def fill_network(
    network: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    target: str | Path,
    name: str,
    classes: int,
) -> None:
    """Load weights into a network.

    ``target``, ``name`` and ``classes`` are the file, the architecture and the number of classes,
    for errors.

    Raises:
        ModelError: they do not fit.
    """
    for key, tensor in state.items():
        check_dense(tensor, f"{target}: {show_name(key)}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        faults = [line.strip() for line in str(error).splitlines()[1:]]
        raise ModelError(
            f"The weights in {target} do not fit {name} with {pluralize(classes, 'class')} "
            f"({' '.join(faults)[:300]}). Check the architecture, and name the classes that it was "
            "trained on: classes=NAMES.txt."
        ) from error
