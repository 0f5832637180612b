"""Mean-teacher adaptation of detectors with pseudo-labels (Liu et al. 2021, Unbiased Teacher)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

import torch

from shiftproof.adapt.base.events import Event, EventLog
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.base.options import check_count, check_number
from shiftproof.adapt.base.tensors import copy_tensors, copy_to_cpu, read_count
from shiftproof.adapt.learning.learning_network import (
    NOT_FINITE,
    Gradients,
    LearningNetwork,
    ParameterChoice,
)
from shiftproof.adapt.learning.parameters import affine_or_all
from shiftproof.adapt.normalization.norm_layers import is_norm
from shiftproof.errors import ModelError
from shiftproof.rng import generator
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

Outputs = TypeVar("Outputs")

RATE = 1e-4
"""Learning rate of a step."""


@final
class MeanTeacher(NetworkAdapter):
    """A detector that learns from pseudo-boxes of its moving average (teacher); the teacher
    predicts.

    Unbiased Teacher (Liu et al. 2021, arXiv 2102.09480) without its labeled images, as mean
    teachers are used at test time (Wang et al. 2022, CoTTA): the teacher's boxes with a score of
    ``threshold`` or more are the targets of the student, which gets the same images with changed
    brightness, contrast and noise, and takes one step on the training loss; then the teacher is
    updated, ``keep * teacher + (1 - keep) * student``. The predictions are the teacher's, from
    before the step.

    The network must return its training loss: ``module(images, targets)`` in training mode returns
    losses by name, as torchvision's detectors do. In that pass norm layers and dropout stay in
    evaluation mode. Images without a confident box are not used in the step.

    Cost: two forward passes and a backward pass, and memory for a second copy of the learned
        parameters.

    Args:
        model: a plain ``torch.nn.Module``, of torchvision's convention.
        threshold: score threshold of pseudo-boxes, from 0 to 1.
        keep: decay of the teacher's moving average, from 0 to 1.
        strength: of the student's augmentations: brightness and contrast change by a factor of up
            to 1 + strength, and the standard deviation of the noise is a tenth of it; 0 augments
            nothing.
        lr: a learning rate for every batch; ``"auto"`` is 1e-4.
        momentum: of the SGD, from 0 to below 1.
        parameters: ``"affine"``, ``"all"`` or ``"last"``; None takes the affine ones of the norm
            layers, or all if these have none (frozen batch norm).
        seed: random seed of the student's augmentations and of its loss.

    Raises:
        InputError: an option is out of its range.
        ModelError: the network does not give a training loss, or there is nothing to learn.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        threshold: float = 0.7,
        keep: float = 0.999,
        strength: float = 0.3,
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.0,
        parameters: ParameterChoice | None = None,
        seed: int = 0,
    ) -> None:
        self.threshold = check_number("threshold", threshold, 0, 1)
        self.keep = check_number("keep", keep, 0, 1)
        self.strength = check_number("strength", strength, 0, 1)
        self.seed = check_count("seed", seed, minimum=0)
        if "targets" not in inspect.signature(model.forward).parameters:
            raise ModelError(
                f"{type(model).__name__} gives no training loss: a mean teacher needs "
                "module(images, targets), as torchvision's detectors have it. Take actmad or batchnorm."
            )
        chosen: ParameterChoice = affine_or_all(model) if parameters is None else parameters
        self._learner = LearningNetwork(
            model,
            parameters=chosen,
            layers="all",
            prior=float("inf"),
            lr=lr,
            auto=lambda _: RATE,
            momentum=momentum,
        )
        self._student = self._learner.network
        self._network = AdaptedNetwork(model)
        self._teacher = self._network.own(list(self._learner.parameters))
        for parameter in self._teacher.values():
            parameter.requires_grad_(False)
        self._forget()

    def _forget(self) -> None:
        self._batches = 0
        self._events = EventLog()

    def __repr__(self) -> str:
        return f"MeanTeacher(threshold={self.threshold}, {self._learner.size} parameters)"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "teacher",
            "threshold": self.threshold,
            "keep": self.keep,
            "strength": self.strength,
            "seed": self.seed,
            **self._learner.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """Skipped steps."""
        return self._events.events

    def run_batch(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        """Predict a batch with the teacher, and update student and teacher.

        Args:
            run: takes the teacher's network, calls it as a module, and returns anything.
            images: how many images the batch has, 1 or more.

        Raises:
            InputError: fewer than 1 image.
            ModelError: the network gives no boxes with scores, or no losses.
        """
        check_count("images", images)
        with self._network.lock, torch.inference_mode(False), torch.no_grad():
            if self._network.is_frozen:
                return run(self._network.module)
            calls: list[tuple[Any, Any]] = []
            hook = self._network.module.register_forward_hook(
                lambda _, args, outputs: calls.append((args[0] if args else None, outputs))
            )
            try:
                answers = run(self._network.module)
            finally:
                hook.remove()
            gradients = self._differentiate(calls)
            if gradients is None:
                self._events.add("skipped", self._batches, NOT_FINITE)
            elif gradients:
                self._learner.step(gradients, images)
                self._follow()
            self._batches += 1
            return answers

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.run_batch(lambda module: module(inputs), len(inputs))
        return answers

    # ------------------------------------------------------------ one batch

    def _differentiate(self, calls: Sequence[tuple[Any, Any]]) -> Gradients | None:
        """Return the gradients of the student's loss; empty without boxes, None if not finite."""
        try:
            total, count = 0.0, 0
            for place, (inputs, outputs) in enumerate(calls):
                images, targets = self._choose_targets(inputs, outputs)
                if images:
                    total += self._differentiate_call(images, targets, place)
                    count += 1
            if count == 0:
                return []
            found = [parameter.grad for parameter in self._learner.parameters.values()]
            sizes = [g.abs().sum().float().cpu() for g in found if g is not None]
            sizes.append(torch.tensor(total))
            return list(found) if bool(torch.isfinite(torch.stack(sizes)).all()) else None
        finally:
            for parameter in self._learner.parameters.values():
                parameter.grad = None

    def _differentiate_call(
        self, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]], place: int
    ) -> float:
        module = self._student.module
        devices = [image.device for image in images[:1] if image.device.type == "cuda"]
        with torch.random.fork_rng(devices=devices), _training(module), torch.enable_grad():
            key = f"{self._batches}/{place}"
            torch.manual_seed(int(generator(self.seed, "mean teacher", key).integers(2**31)))
            losses = module([self._augment(image) for image in images], targets)
            if not isinstance(losses, dict) or not losses:
                raise ModelError(
                    f"{type(module).__name__} gives {type(losses).__name__} in training mode; "
                    "expected losses by name."
                )
            loss = torch.stack(list(losses.values())).sum()
            if not loss.requires_grad:
                raise ModelError("The training loss depends on none of the parameters that learn.")
            torch.autograd.backward(loss)
        return float(loss.detach())

    def _choose_targets(
        self, inputs: Any, outputs: Any
    ) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
        """Return the images with confident boxes of the teacher, and the boxes."""
        if (
            inputs is None
            or not isinstance(outputs, (list, tuple))
            or not all(isinstance(one, dict) and {"boxes", "scores"} <= set(one) for one in outputs)
        ):
            raise ModelError(
                "A mean teacher needs boxes, scores and labels for each image, as torchvision's "
                f"detectors give them, got {type(outputs).__name__}."
            )
        images, targets = [], []
        for image, one in zip(inputs, outputs, strict=True):
            target = select_boxes(one, self.threshold)
            if len(target["boxes"]):
                images.append(image.detach())
                targets.append(target)
        return images, targets

    def _augment(self, image: torch.Tensor) -> torch.Tensor:
        """Return the augmented image ``(3, H, W)`` in 0..1 for the student."""
        if self.strength == 0:
            return image.clone()
        low, high = 1 / (1 + self.strength), 1 + self.strength
        brightness, contrast = (torch.rand(2, dtype=torch.float32) * (high - low) + low).tolist()
        noise = torch.randn_like(image) * (self.strength / 10)
        middle = image.mean()
        changed: torch.Tensor = ((image - middle) * contrast + middle) * brightness + noise
        return changed.clamp(0, 1)

    def _follow(self) -> None:
        """Update the teacher by the student."""
        for name, parameter in self._teacher.items():
            parameter.lerp_(self._learner.parameters[name].detach(), 1 - self.keep)

    # ------------------------------------------------------------ what was learned

    def end_epoch(self) -> None:
        """Do nothing: a pass over the target set ends nothing here."""

    def reset(self) -> None:
        """Restore the initial state."""
        with self._network.lock, torch.no_grad():
            self._learner.reset()
            for name, parameter in self._teacher.items():
                parameter.copy_(self._learner.first[name])
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the student's parameters that learn."""
        return iter(self._learner.parameters.values())

    def merge(self) -> torch.nn.Module:
        """Return the teacher as a plain model."""
        with self._network.lock, torch.no_grad():
            return self._network.copy()

    def state(self) -> State:
        """Return the parameters of student and teacher, the momentum and a count of batches."""
        with self._network.lock:
            teacher_parameters = {
                f"teacher/{name}": copy_to_cpu(p) for name, p in self._teacher.items()
            }
            return (
                self._learner.state()
                | teacher_parameters
                | {"batches": torch.tensor(self._batches)}
            )

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the state of an adapter with the same settings."""
        names = [f"teacher/{name}" for name in self._teacher]
        restore = self._learner.read_state(state, [*names, "batches"])
        teacher_parameters = copy_tensors(state, "teacher", self._teacher)
        batches = read_count(state, "batches")
        with self._network.lock, torch.no_grad():
            restore()
            self._forget()
            self._batches = batches
            for name, value in teacher_parameters.items():
                self._teacher[name].copy_(value)


def select_boxes(found: Mapping[str, torch.Tensor], threshold: float) -> dict[str, torch.Tensor]:
    """Return the confident boxes among a torchvision detector's predictions, as a target.

    Args:
        found: ``boxes`` ``(D, 4)`` corners, ``scores`` ``(D,)``, ``labels`` ``(D,)``; optionally
            ``masks`` ``(D, 1, H, W)`` in 0..1, which are thresholded at 0.5, and ``keypoints``.
        threshold: the minimum score. Boxes without an area are dropped.
    """
    boxes = found["boxes"]
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(1) & torch.isfinite(boxes).all(1)
    confident = (found["scores"] >= threshold) & has_area
    target = {
        name: found[name][confident] for name in ("boxes", "labels", "keypoints") if name in found
    }
    if "masks" in found:
        target["masks"] = (found["masks"][confident, 0] >= 0.5).to(torch.uint8)
    return {name: value.detach() for name, value in target.items()}


@contextmanager
def _training(module: torch.nn.Module) -> Iterator[None]:
    """Context with a network in training mode, except its norm layers and dropout."""
    module.train()
    for part in module.modules():
        if is_norm(part) or "dropout" in type(part).__name__.lower():
            part.eval()
    try:
        yield
    finally:
        module.eval()
