"""RoTTA: moving statistics and a class-balanced memory, for class-correlated streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from shiftproof.adapt.base.events import FEW_CLASSES, EventLog
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.options import (
    FewClasses,
    check_count,
    check_few_classes,
    check_number,
    check_rate,
)
from shiftproof.adapt.base.tensors import check_names, copy_tensors, copy_to_cpu, read_count
from shiftproof.adapt.learning.jitter import apply_jitter, draw_jitter
from shiftproof.adapt.learning.losses import entropy, soft_pseudo_label_loss
from shiftproof.adapt.learning.memory import (
    ITEM_NAMES,
    TimelyMemory,
    pack_items,
    read_items,
    read_offered,
)
from shiftproof.adapt.learning.memory_adapter import MemoryAdapter
from shiftproof.adapt.learning.pixels import PixelSpace
from shiftproof.adapt.learning.source_check import FEW_CLASSES_SKIPPED, SourceCheck
from shiftproof.adapt.learning.steps import GradientSteps, find_norm_parameters
from shiftproof.adapt.normalization.packing import pack, unpack
from shiftproof.adapt.normalization.passes import (
    HookedNetwork,
    are_finite,
    move_statistics,
    use_given,
    use_moving_average,
)
from shiftproof.adapt.normalization.statistics import Statistics
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.rng import generator
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State


@dataclass(frozen=True)
class _Learned:
    """The adapted state, immutable, so that it can be restored."""

    student: State
    teacher: State
    student_statistics: Mapping[str, Statistics]
    teacher_statistics: Mapping[str, Statistics]
    memory: TimelyMemory
    updates: int
    batches: int


@final
class RoTTA(MemoryAdapter[_Learned]):
    """Learns from a balanced memory of recent images, with a slow teacher and moving statistics.

    Yuan et al. 2023 (arXiv 2303.13899), for streams in which shift and classes change over time:

    1. The teacher predicts the logits. Each image is offered to a memory that is balanced over the
       predicted classes and keeps the latest and most confident of each
       (:class:`~shiftproof.adapt.learning.memory.TimelyMemory`).
    2. After every ``every`` images, the student takes one step on the memory: the cross-entropy of
       its predictions for strongly augmented images to the teacher's predictions for the images,
       each weighted by ``exp(-age) / (1 + exp(-age))``. Scale and shift of the norm layers learn,
       by Adam.
    3. The teacher is updated: ``(1 - m) teacher + m student``.

    Batch norm predicts by moving statistics, which start at the source and move by ``weight``
    towards those of the memory at each step. So the prediction for an image does not depend on its
    batch, and batches may be of any size. A network with layer or group norm in place of batch norm
    has no such statistics and learns from the memory alone.

    Cost: one forward pass for each image, and for every ``every`` images two more and one backward
    pass over the memory: three forward and one backward per image where ``every`` is ``memory``.

    Images that are not finite do not enter the memory, and steps that are not finite are skipped;
    events say so. The augmentations are functions of the seed and of the number of the step since
    the last ``reset()``. ``state()`` holds the memory's images in float32.

    A memory of few classes is no evidence of a shift. If the source's predictions show few classes
    (:class:`~shiftproof.adapt.learning.source_check.SourceCheck`, for networks with batch norm), no step is
    taken, and an event says so; ``few_classes="learn"`` is the paper's.

    Differs from the published code: dropout stays off in the steps; the entropy has no 1e-6 in its
    logarithm; layer, group, instance and RMS norms learn as batch norm does; in a process group
    each process has its own memory and statistics.

    Args:
        model: a ``Classifier`` on torch, whose ``Preprocess`` tells how to undo the normalization.
        lr: Adam's learning rate.
        momentum: m of the teacher: weight of the student in each update, 0 to 1.
        weight: of the memory's statistics in the moving ones, 0 to 1.
        memory: how many images it holds.
        every: images between two steps; None takes ``memory``.
        timeliness: weight of an image's age in the eviction score, 0 or more.
        uncertainty: weight of its entropy, 0 or more.
        seed: of the augmentations.
        few_classes: ``"skip"`` the step for a memory of few classes, or ``"learn"`` from every
            memory.

    Raises:
        InputError: an option is out of its range.
        ModelError: there is no norm layer with scale and shift, the preprocessing is unknown (a
            plain module, or a function), the weights are of half precision, the graph is fixed
            (ONNX, TorchScript, compiled), the model cannot be copied, or hooks cannot control its
            batch norm.

    >>> from shiftproof.models import load_classifier
    >>> RoTTA(load_classifier("demo"))
    RoTTA(lr=0.001, memory=64, every=64)
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        lr: float = 1e-3,
        momentum: float = 0.001,
        weight: float = 0.05,
        memory: int = 64,
        every: int | None = None,
        timeliness: float = 1.0,
        uncertainty: float = 1.0,
        seed: int = 0,
        few_classes: FewClasses = "skip",
    ) -> None:
        self.few_classes = check_few_classes(few_classes)
        self.lr = check_rate(lr)
        self.momentum = check_number("momentum", momentum, 0, 1)
        self.weight = check_number("weight", weight, 0, 1)
        self.memory = check_count("memory", memory)
        self.every = check_count("every", self.memory if every is None else every)
        self.timeliness = check_number("timeliness", timeliness, 0, 1e6)
        self.uncertainty = check_number("uncertainty", uncertainty, 0, 1e6)
        self.seed = check_count("seed", seed, minimum=0)
        self._network = AdaptedNetwork(model)
        self._pixels = PixelSpace(self._network.classifier.preprocess, "RoTTA")
        names = list(find_norm_parameters(self._network.module, "RoTTA"))
        self._student = HookedNetwork(self._network)
        self._steps = GradientSteps(self._network.own(names), "adam", self.lr)
        self._teacher = HookedNetwork(AdaptedNetwork(model))
        self._teacher_parameters = {
            name: parameter.requires_grad_(False)
            for name, parameter in self._teacher.network.own(names).items()
        }
        self._student_statistics: Mapping[str, Statistics] = self._student.source
        self._teacher_statistics: Mapping[str, Statistics] = self._teacher.source
        judges = self.few_classes == "skip" and bool(self._teacher.layers)
        self._check = SourceCheck(AdaptedNetwork(model)) if judges else None
        self._memory = TimelyMemory(self.memory, self.timeliness, self.uncertainty)
        self._updates = 0
        self._batches = 0
        self._events = EventLog()
        self._first = self._capture()

    def __repr__(self) -> str:
        return f"RoTTA(lr={self.lr}, memory={self.memory}, every={self.every})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "rotta",
            "lr": self.lr,
            "optimizer": "adam",
            "momentum": self.momentum,
            "weight": self.weight,
            "memory": self.memory,
            "every": self.every,
            "timeliness": self.timeliness,
            "uncertainty": self.uncertainty,
            "seed": self.seed,
            "few_classes": self.few_classes,
            "values": sum(p.numel() for p in self._steps.parameters.values()),
            **self._network.settings(),
        }

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the teacher's weights and moving statistics.

        It predicts as the adapter does in ``frozen()``.
        """
        with self._network.lock:
            return self._teacher.copy_with(self._teacher_statistics)

    # ------------------------------------------------------------ state

    def _capture(self) -> _Learned:
        return _Learned(
            self._steps.capture(),
            {name: value.detach().clone() for name, value in self._teacher_parameters.items()},
            self._student_statistics,
            self._teacher_statistics,
            self._memory,
            self._updates,
            self._batches,
        )

    def _restore(self, learned: _Learned) -> None:
        self._steps.restore(learned.student)
        with torch.no_grad():
            for name, value in learned.teacher.items():
                self._teacher_parameters[name].copy_(value)
        self._student_statistics = learned.student_statistics
        self._teacher_statistics = learned.teacher_statistics
        self._memory = learned.memory
        self._updates, self._batches = learned.updates, learned.batches

    def state(self) -> State:
        """Return student, teacher, their statistics, Adam's moments, and the memory."""
        with self._network.lock:
            state = {name: copy_to_cpu(value) for name, value in self._steps.capture().items()}
            for name, value in self._teacher_parameters.items():
                state[f"teacher/{name}"] = copy_to_cpu(value)
            state |= pack("student-statistics", self._student_statistics)
            state |= pack("teacher-statistics", self._teacher_statistics)
            state |= pack_items(self._memory.items)
            counts = {
                "memory/offered": self._memory.offered,
                "updates": self._updates,
                "batches": self._batches,
            }
            return state | {name: torch.tensor(count) for name, count in counts.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        kinds = ("student-statistics", "teacher-statistics")
        names = (
            self._steps.names()
            | {f"teacher/{name}" for name in self._teacher_parameters}
            | ITEM_NAMES
        )
        check_names(state, kinds, names | {"memory/offered", "updates", "batches"})
        offered = read_offered(state)
        student, _ = unpack("student-statistics", state, self._student.source)
        teacher, _ = unpack("teacher-statistics", state, self._teacher.source)
        device = next(iter(self._teacher_parameters.values())).device
        learned = _Learned(
            self._steps.read(state),
            copy_tensors(state, "teacher", self._teacher_parameters),
            {**self._student.source, **student},
            {**self._teacher.source, **teacher},
            dataclasses.replace(
                self._first.memory,
                items=read_items(state, self.memory, offered, device),
                offered=offered,
            ),
            read_count(state, "updates"),
            read_count(state, "batches"),
        )
        with self._network.lock:
            self._restore(learned)
            self._events = EventLog()

    # ------------------------------------------------------------ one batch

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        logits, _ = self._teacher.predict(inputs, use_given(self._teacher_statistics))
        if self._network.is_frozen:
            return logits
        before, events = self._capture(), EventLog(self._events.events)
        try:
            self._learn(inputs, logits)
        except BaseException:
            self._restore(before)
            self._events = events
            raise
        self._batches += 1
        return logits

    def _learn(self, inputs: torch.Tensor, logits: torch.Tensor) -> None:
        """Offer each image to the memory, and update after every ``every`` images."""
        labels, uncertainties = logits.argmax(-1).tolist(), entropy(logits).tolist()
        sound = torch.isfinite(logits.float().logsumexp(-1)) & torch.isfinite(
            inputs.flatten(1)
        ).all(1)
        for place, is_finite in enumerate(sound.tolist()):
            if not is_finite:
                self._note("left out", "An image or its logits were not finite; not remembered.")
                continue
            image = inputs[place].detach().clone()
            self._memory = self._memory.add(
                image, labels[place], uncertainties[place], logits.shape[-1]
            )
            if self._memory.offered % self.every == 0:
                self._update()

    def _update(self) -> None:
        """Take one step on the memory, and update statistics and teacher."""
        items = self._memory.items
        ages = torch.tensor(self._memory.ages(), device=items[0].image.device)
        images = torch.stack([item.image for item in items])
        images = images.contiguous(memory_format=torch.channels_last)
        if self._holds_few_classes(images):
            self._updates += 1
            self._note(FEW_CLASSES, FEW_CLASSES_SKIPPED)
            return
        answers, teacher_observed = self._teacher.predict(
            images, use_moving_average(self._teacher_statistics, self.weight)
        )
        is_finite = teacher_observed.is_finite and are_finite({}, answers)
        choose = use_moving_average(self._student_statistics, self.weight)
        with (
            torch.enable_grad(),
            self._student.run(self._augment(images), choose) as (logits, observed),
        ):
            # exp(-age) / (1 + exp(-age))
            losses = soft_pseudo_label_loss(logits, answers) * torch.sigmoid(-ages)
            is_finite = is_finite and observed.is_finite and self._steps.take(losses.mean())
        self._updates += 1
        if not is_finite:
            self._note("skipped", "The loss or its gradient was not finite; no step was taken.")
            return
        self._student_statistics = move_statistics(self._student_statistics, observed, self.weight)
        self._teacher_statistics = move_statistics(
            self._teacher_statistics, teacher_observed, self.weight
        )
        with torch.no_grad():
            for name, parameter in self._steps.parameters.items():
                self._teacher_parameters[name].mul_(1 - self.momentum).add_(
                    parameter, alpha=self.momentum
                )

    def _holds_few_classes(self, images: torch.Tensor) -> bool:
        if self._check is None:
            return False
        with self._check.judge(images, remembers=False):
            return self._check.finds_few_classes(together=False)

    def _augment(self, images: torch.Tensor) -> torch.Tensor:
        pixels = self._pixels.to_pixels(images)
        rng = generator(self.seed, "rotta", "augmentation", str(self._updates))
        augmented = apply_jitter(pixels, draw_jitter(rng, *pixels.shape[-2:]))
        return self._pixels.to_inputs(augmented).to(images.dtype)
