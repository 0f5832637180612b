"""The optimisers of contrastive training by name, with their state as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch

from shiftproof.errors import InputError, UnknownNameError

TRUST = 1e-3
"""The trust coefficient of LARS."""


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose steps are as long as the weights allow (You et al. 2017, arXiv 1708.03888).

    The gradient of each matrix of weights, with its weight decay, is scaled to ``trust`` times the
    length of the weights. Vectors, such as biases and the scales of norms, take plain steps without
    decay, as for SimCLR.

    Differs from the paper: equation 6 divides by the length of the gradient plus that of the decay,
    this, as SimCLR's code does, by the length of their sum. Without decay both are the same.

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
        """Take one step; ``closure`` computes the loss anew, as for all optimisers of torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                pull = parameter.grad
                if parameter.ndim > 1:
                    pull = pull + group["weight_decay"] * parameter
                    length, strength = parameter.norm(), pull.norm()
                    scale = group["trust"] * length / strength
                    pull = pull * torch.where((length > 0) & (strength > 0), scale, 1.0)
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(group["momentum"]).add_(pull)
                parameter.add_(velocity, alpha=-group["lr"])
        return loss


OPTIMIZERS = ("adam", "sgd", "lars")


def make_optimizer(
    name: str, groups: list[dict[str, Any]], *, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return an optimiser of parameter groups, each with its ``lr``.

    Args:
        name: ``"adam"``, ``"sgd"`` (Nesterov) or ``"lars"``.
        groups: as torch takes them.
        momentum: of SGD and LARS.
        weight_decay: decoupled for Adam.

    Raises:
        UnknownNameError: another name.
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


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
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
    """Give an optimiser what ``optimizer_state`` returned.

    Raises:
        InputError: the state is of another optimiser.
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
        raise InputError(f"The state is of another optimiser ({error}).") from error
