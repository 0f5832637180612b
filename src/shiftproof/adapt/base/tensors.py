"""Copies of the named tensors of an adapter's state, on the CPU and back."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import torch

from shiftproof.errors import InputError


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
