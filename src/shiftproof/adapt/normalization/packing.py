"""Statistics of layers as named tensors of an adapter's state, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from shiftproof.adapt.base.tensors import copy_tensor, copy_to_cpu
from shiftproof.adapt.normalization.statistics import Statistics
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State


def pack(kind: str, layers: Mapping[str, Statistics], images: float = 0.0) -> State:
    """Return the statistics of layers as named tensors: ``kind/LAYER/mean`` and so on."""
    if not layers:
        return {}
    state = {f"{kind}/images": torch.tensor(float(images), dtype=torch.float64)}
    for name, statistics in layers.items():
        state[f"{kind}/{name}/mean"] = copy_to_cpu(statistics.mean)
        state[f"{kind}/{name}/variance"] = copy_to_cpu(statistics.variance)
    return state


def unpack(
    kind: str, state: Mapping[str, torch.Tensor], like: Mapping[str, Statistics]
) -> tuple[dict[str, Statistics], float]:
    """Read the tensors of ``pack``, to the device of ``like``.

    Raises:
        InputError: layers or widths differ from those of ``like``, or a value is not finite.
    """
    prefix = f"{kind}/"
    present = {name for name in state if name.startswith(prefix) and name != f"{prefix}images"}
    if not present:
        return {}, 0.0
    layers = {}
    for name in sorted({key[len(prefix) :].rpartition("/")[0] for key in present}):
        if name not in like:
            raise InputError(f"The state is of another model: it has a layer {name!r}.")
        layers[name] = Statistics(
            copy_tensor(state, f"{prefix}{name}/mean", like[name].mean),
            copy_tensor(state, f"{prefix}{name}/variance", like[name].variance),
        )
    images = float(copy_tensor(state, f"{prefix}images", torch.zeros((), dtype=torch.float64)))
    if images < 0:
        raise InputError(f"The state is damaged: {prefix}images is {images:g}.")
    return layers, images
