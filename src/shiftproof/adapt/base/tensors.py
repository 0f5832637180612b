"""Conversion of an adapter's state to named tensors on the CPU and back."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING

import torch

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


def copy_to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy on the CPU, without a graph."""
    return tensor.detach().cpu().clone()


def copy_tensor(state: Mapping[str, torch.Tensor], name: str, like: torch.Tensor) -> torch.Tensor:
    """Return a copy of ``state[name]`` on the device of ``like``.

    Raises:
        InputError: it is missing, has another shape or dtype, or a value is not finite.
    """
    tensor = state.get(name)
    if tensor is None:
        raise InputError(f"The state is of another adapter or model: it has no {name!r}.")
    if tensor.shape != like.shape:
        raise InputError(
            f"The state is of another model: {name!r} has the shape {tuple(tensor.shape)}, "
            f"expected {tuple(like.shape)}."
        )
    if tensor.is_floating_point() != like.is_floating_point():
        raise InputError(f"The state is of another kind: {name!r} is {tensor.dtype}.")
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"The state is damaged: {name!r} has NaN or infinite values.")
    return tensor.detach().to(like.device, copy=True)


def copy_tensors(
    state: Mapping[str, torch.Tensor], kind: str, like: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return copies of ``kind/NAME`` for each name in ``like``, as :func:`copy_tensor`."""
    return {name: copy_tensor(state, f"{kind}/{name}", value) for name, value in like.items()}


def check_names(
    state: Mapping[str, torch.Tensor], kinds: Iterable[str], names: Container[str] = ()
) -> None:
    """Raise an InputError if a state has a tensor of no known kind or name."""
    known = tuple(f"{kind}/" for kind in kinds)
    for name in state:
        if name not in names and not name.startswith(known):
            raise InputError(f"The state is of another adapter: it holds {name!r}.")


def read_count(state: Mapping[str, torch.Tensor], name: str) -> int:
    """Read an integer from a state.

    Raises:
        InputError: it is missing, has another shape or dtype, or is negative.
    """
    count = int(copy_tensor(state, name, torch.zeros((), dtype=torch.int64)))
    if count < 0:
        raise InputError(f"The state is damaged: {name} is {count}.")
    return count


def widen(values: torch.Tensor) -> torch.Tensor:
    """Convert values of half precision to float32; return others unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
