"""The optimizers of contrastive training by name, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch

from shiftproof.errors import InputError, UnknownNameError

TRUST = 1e-3
"""The trust coefficient of LARS."""


class LARS(torch.optim.Optimizer):
    """SGD with momentum and layer-wise adaptive rates (You et al. 2017, arXiv 1708.03888).

    The gradient of each matrix of weights, with its weight decay, is scaled to ``trust`` times the
    norm of the weights. Vectors, such as biases and the scales of normalization layers, take plain
    steps without decay, as in SimCLR.

    Differs from the paper: equation 6 divides by the norm of the gradient plus the norm of the
    decay; this, like SimCLR's code, by the norm of their sum. Without decay both are the same.

    Args:
        parameters: tensors, or groups of them.
        lr: the learning rate.
        momentum: 0 to below 1.
        weight_decay: 0 or more.
        trust: the trust coefficient.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = TRUST,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(parameters, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; ``closure`` recomputes the loss, as for all optimizers of torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                direction = parameter.grad
                if parameter.ndim > 1:
                    direction = direction + group["weight_decay"] * parameter
                    length, strength = parameter.norm(), direction.norm()
                    scale = group["trust"] * length / strength
                    direction = direction * torch.where((length > 0) & (strength > 0), scale, 1.0)
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(group["momentum"]).add_(direction)
                parameter.add_(velocity, alpha=-group["lr"])
        return loss


OPTIMIZERS = ("adam", "sgd", "lars")


def make_optimizer(
    name: str, groups: list[dict[str, Any]], *, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return an optimizer of parameter groups, each with its ``lr``.

    Args:
        name: ``"adam"``, ``"sgd"`` (Nesterov) or ``"lars"``.
        groups: parameter groups as for torch.
        momentum: of SGD and LARS.
        weight_decay: decoupled for Adam.

    Raises:
        UnknownNameError: no such optimizer.
    """
    if name == "adam":
        return torch.optim.AdamW(groups, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(
            groups, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0
        )
    if name == "lars":
        return LARS(groups, lr=groups[0]["lr"], momentum=momentum, weight_decay=weight_decay)
    raise UnknownNameError.of("optimizer", name, OPTIMIZERS)


def collect_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state as ``NUMBER/KEY``, of each parameter in the order of the groups."""
    return {
        f"{number}/{key}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[str, torch.Tensor]
) -> None:
    """Load into an optimizer the state that ``collect_optimizer_state`` returned.

    Raises:
        InputError: the state is of another optimizer.
    """
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        number, _, key = name.partition("/")
        entries.setdefault(int(number), {})[key] = value
    try:
        optimizer.load_state_dict(
            {"state": entries, "param_groups": optimizer.state_dict()["param_groups"]}
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"The state is of another optimizer ({error}).") from error
