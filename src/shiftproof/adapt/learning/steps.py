"""Gradient steps on some parameters of a network, with capture and restore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from shiftproof.adapt.base.tensors import copy_tensor
from shiftproof.adapt.learning.parameters import affine_parameters
from shiftproof.errors import InputError, ModelError

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

OptimizerName = Literal["adam", "adamw", "sgd", "nesterov"]

_OPTIMIZER_STATE: dict[OptimizerName, tuple[str, ...]] = {
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "sgd": (),
    "nesterov": ("momentum_buffer",),
}
"""State tensors of torch's optimizers for each parameter."""


class GradientSteps:
    """Steps of an optimizer on parameters that an adapter owns.

    Steps that are not finite are skipped. ``capture`` copies the state of parameters and optimizer,
    and ``restore`` restores it bit for bit.

    Args:
        parameters: parameters by name, of single precision or more.
        optimizer: ``"adam"`` (betas 0.9 and 0.999), ``"adamw"`` (weight decay 0.01), ``"sgd"``,
            or ``"nesterov"`` (SGD with Nesterov momentum 0.9).
        lr: the learning rate.

    Raises:
        ModelError: no parameter, or one of half precision.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], optimizer: OptimizerName, lr: float
    ) -> None:
        if not parameters:
            raise ModelError("The model has no parameter to learn.")
        check_precision(parameters)
        self.parameters = dict(parameters)
        self._kind: OptimizerName = optimizer
        self._lr = lr
        self._optimizer = self._make_optimizer()
        self.first = self.capture()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        learned = list(self.parameters.values())
        if self._kind == "adam":
            return torch.optim.Adam(learned, self._lr, betas=(0.9, 0.999))
        if self._kind == "adamw":
            return torch.optim.AdamW(learned, self._lr, weight_decay=0.01)
        if self._kind == "nesterov":
            return torch.optim.SGD(learned, self._lr, momentum=0.9, nesterov=True)
        return torch.optim.SGD(learned, self._lr)

    def take(self, loss: torch.Tensor) -> bool:
        """Take one step on a loss; if it is not finite, change nothing and return False."""
        if not loss.requires_grad:
            raise make_no_gradient_error()
        try:
            # Reentrant checkpoints do not support autograd.grad.
            torch.autograd.backward(loss)
            sizes = [loss.detach().float()]
            sizes += [p.grad.abs().sum() for p in self.parameters.values() if p.grad is not None]
            if not bool(torch.isfinite(torch.stack(sizes)).all()):
                return False
            self._optimizer.step()
            return True
        finally:
            for parameter in self.parameters.values():
                parameter.grad = None

    def capture(self) -> State:
        """Return copies of the parameters and the optimizer's state, on their device."""
        captured = {f"parameter/{n}": p.detach().clone() for n, p in self.parameters.items()}
        for kind in _OPTIMIZER_STATE[self._kind]:
            for name, parameter in self.parameters.items():
                value = self._optimizer.state.get(parameter, {}).get(kind)
                if value is not None:
                    captured[f"optimizer/{kind}/{name}"] = value.detach().clone()
        return captured

    def restore(self, captured: Mapping[str, torch.Tensor]) -> None:
        """Restore a state of ``capture`` or ``read``."""
        with torch.no_grad():
            self._optimizer = self._make_optimizer()
            for name, parameter in self.parameters.items():
                parameter.copy_(captured[f"parameter/{name}"])
                for kind in _OPTIMIZER_STATE[self._kind]:
                    value = captured.get(f"optimizer/{kind}/{name}")
                    if value is not None:
                        self._optimizer.state[parameter][kind] = value.clone()

    def names(self) -> set[str]:
        """Return the possible names in ``capture``."""
        kinds = ["parameter", *(f"optimizer/{kind}" for kind in _OPTIMIZER_STATE[self._kind])]
        return {f"{kind}/{name}" for kind in kinds for name in self.parameters}

    def read(self, state: Mapping[str, torch.Tensor]) -> State:
        """Read and check the part of a state for ``restore``.

        Raises:
            InputError: a tensor is missing, has another shape or dtype, or is not finite.
        """
        found = {}
        for name, parameter in self.parameters.items():
            key = f"parameter/{name}"
            found[key] = copy_tensor(state, key, parameter)
            found |= self._read_optimizer_state(state, name, parameter)
        return found

    def _read_optimizer_state(
        self, state: Mapping[str, torch.Tensor], name: str, parameter: torch.nn.Parameter
    ) -> State:
        keys = {kind: f"optimizer/{kind}/{name}" for kind in _OPTIMIZER_STATE[self._kind]}
        if not any(key in state for key in keys.values()):
            return {}
        like = {kind: torch.zeros(()) if kind == "step" else parameter for kind in keys}
        found = {key: copy_tensor(state, key, like[kind]) for kind, key in keys.items()}
        if any(bool((found[keys[k]] < 0).any()) for k in keys if k in ("step", "exp_avg_sq")):
            raise InputError(f"The state is damaged: the optimizer's state of {name!r} is below 0.")
        return found


def make_no_gradient_error() -> ModelError:
    """Return the error to raise where no learned parameter affects the loss."""
    return ModelError(
        "The loss depends on none of the parameters that are to be learned: the model turns "
        "gradients off in its forward, or does not use them. Choose other parameters or layers."
    )


def find_norm_parameters(network: torch.nn.Module, method: str) -> dict[str, torch.nn.Parameter]:
    """Return scale and shift of all norm layers by name.

    Raises:
        ModelError: there are none; the message has the method and an alternative.
    """
    try:
        return affine_parameters(network)
    except ModelError as error:
        raise ModelError(
            f"{method} learns the scale and shift of norm layers, and {type(network).__name__} has "
            "none to learn. CoTTA and MEMO move all weights."
        ) from error


def find_weights_and_biases(network: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the floating parameters with the name ``weight`` or ``bias`` in their layer, by full
    name.

    These are the parameters of the published CoTTA: all of a convolutional network; those of a
    transformer except position embedding, class token and the joint projection of torch's
    attention.
    """
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if name.rpartition(".")[2] in ("weight", "bias") and parameter.is_floating_point()
    }


def check_precision(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise a ModelError if a parameter to learn has less than single precision."""
    for name, parameter in parameters.items():
        if not parameter.is_floating_point() or parameter.element_size() < 4:
            raise ModelError(
                f"The parameter {name!r} is {parameter.dtype}: steps are smaller than its precision. "
                "Use model.float(), and torch.autocast for speed."
            )
