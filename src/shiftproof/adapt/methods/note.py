"""NOTE: instance-aware batch norm and a class-balanced memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from shiftproof.adapt.base.events import EventLog
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.options import check_count, check_number, check_rate
from shiftproof.adapt.base.tensors import check_names, copy_to_cpu, read_count
from shiftproof.adapt.learning.losses import entropy
from shiftproof.adapt.learning.memory import (
    ITEM_NAMES,
    ReservoirMemory,
    pack_counts,
    pack_items,
    read_counts,
    read_items,
    read_offered,
)
from shiftproof.adapt.learning.memory_adapter import MemoryAdapter
from shiftproof.adapt.learning.steps import GradientSteps, find_norm_parameters
from shiftproof.adapt.normalization.instances import use_batch_and_instances, use_instances
from shiftproof.adapt.normalization.packing import pack, unpack
from shiftproof.adapt.normalization.passes import HookedNetwork, move_statistics
from shiftproof.adapt.normalization.statistics import Statistics
from shiftproof.errors import InputError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State


@dataclass(frozen=True)
class _Learned:
    """The adapted state, immutable, so that it can be restored."""

    parameters: State
    statistics: Mapping[str, Statistics]
    memory: ReservoirMemory
    batches: int


@final
class NOTE(MemoryAdapter[_Learned]):
    """Corrects batch norm for each image, and learns from a memory balanced over classes.

    Gong et al. 2022 (arXiv 2208.05117), for streams in which images of a class come together:

    1. Instance-aware batch norm: each image is normalized by the layer's statistics, moved towards
       its own by the excess of their difference over ``k`` standard errors
       (:func:`~shiftproof.adapt.normalization.instances.correct_by_instance`).
    2. Each image is offered to a memory that is balanced over the predicted classes
       (:class:`~shiftproof.adapt.learning.memory.ReservoirMemory`).
    3. After every ``every`` images, one step of Adam on the mean entropy of the predictions for the
       memory updates scale and shift of the norm layers; the layers' statistics move by ``weight``
       towards the memory's.

    Each image is predicted with the parameters learned before it, so a prediction does not depend
    on the division of a stream into batches. In a network with layer or group norm instead of batch
    norm, nothing is corrected, and only the memory is learned from.

    Cost: one forward pass for each image, and for every ``every`` images one more and one backward
    pass over the memory: two forward and one backward per image where ``every`` is ``memory``.

    The paper's models were trained with this batch norm. In a model trained with ordinary batch
    norm it changes predictions before anything is learned: with the published 4 standard errors the
    error on clean Fashion-MNIST rose by 3.1 points, and even with 12 that of EfficientNet-Lite0 on
    20 photographs by 30 points. So the default is ``k=inf``, which turns it off.

    Images that are not finite do not enter the memory, and steps that are not finite are skipped;
    events say so. Evictions from the memory are a function of the seed and of the number of images
    since the last ``reset()``. ``state()`` holds the memory's images in float32.

    Differs from the published code: dropout stays off in the steps; the loss is not divided by the
    number of classes, which makes hardly any difference with Adam, and has no 1e-6 in its
    logarithm; a memory that is larger than the training batch is taken in one step, not several;
    layer, group, instance and RMS norms learn as batch norm does; in a process group each process
    has its own memory and statistics.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module`` that gives logits
            ``(N, K)``, which is then called with its own normalized batch.
        lr: Adam's learning rate.
        k: threshold of the correction in standard errors, 0 or more; 4 is published, infinity
            corrects no image.
        weight: of the memory's statistics in the moving ones, 0 to 1.
        memory: how many images it holds.
        every: images between two steps; None takes ``memory``.
        seed: random seed of the evictions.

    Raises:
        InputError: an option is out of its range; or, at a batch, images of another size than
            those of the memory.
        ModelError: there is no norm layer with scale and shift, the weights are of half precision,
            the graph is fixed (ONNX, TorchScript, compiled), the model cannot be copied, or hooks
            cannot control its batch norm.

    >>> import torch
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(),
    ...     torch.nn.Linear(4 * 14 * 14, 5),
    ... )
    >>> NOTE(net)(torch.rand(8, 3, 16, 16)).shape
    torch.Size([8, 5])
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        lr: float = 1e-4,
        k: float = math.inf,
        weight: float = 0.01,
        memory: int = 64,
        every: int | None = None,
        seed: int = 0,
    ) -> None:
        self.lr = check_rate(lr)
        self.k = check_number("k", k, 0)
        self.weight = check_number("weight", weight, 0, 1)
        self.memory = check_count("memory", memory)
        self.every = check_count("every", self.memory if every is None else every)
        self.seed = check_count("seed", seed, minimum=0)
        self._network = AdaptedNetwork(model)
        names = list(find_norm_parameters(self._network.module, "NOTE"))
        self._hooked = HookedNetwork(self._network)
        self._steps = GradientSteps(self._network.own(names), "adam", self.lr)
        self._statistics: Mapping[str, Statistics] = self._hooked.source
        self._memory = ReservoirMemory(self.memory, self.seed)
        self._batches = 0
        self._events = EventLog()
        self._first = self._capture()

    def __repr__(self) -> str:
        return f"NOTE(lr={self.lr}, k={self.k:g}, memory={self.memory}, every={self.every})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "note",
            "lr": self.lr,
            "optimizer": "adam",
            "k": "inf" if self.k == math.inf else self.k,
            "weight": self.weight,
            "memory": self.memory,
            "every": self.every,
            "seed": self.seed,
            "values": sum(p.numel() for p in self._steps.parameters.values()),
            **self._network.settings(),
        }

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the adapted parameters and the moving statistics.

        A plain model has ordinary batch norm, without the correction for each image: it predicts as
        the adapter does only with ``k=inf``.
        """
        with self._network.lock:
            return self._hooked.copy_with(self._statistics)

    # ------------------------------------------------------------ state

    def _capture(self) -> _Learned:
        return _Learned(self._steps.capture(), self._statistics, self._memory, self._batches)

    def _restore(self, learned: _Learned) -> None:
        self._steps.restore(learned.parameters)
        self._statistics, self._memory = learned.statistics, learned.memory
        self._batches = learned.batches

    def state(self) -> State:
        """Return the parameters, Adam's moments, the moving statistics and the memory."""
        with self._network.lock:
            state = {name: copy_to_cpu(value) for name, value in self._steps.capture().items()}
            state |= pack("statistics", self._statistics) | pack_items(self._memory.items)
            state |= pack_counts(self._memory.counts)
            state["memory/offered"] = torch.tensor(self._memory.offered)
            state["batches"] = torch.tensor(self._batches)
            return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        own = {"memory/offered", "memory/counts", "batches"}
        check_names(state, ("statistics",), self._steps.names() | ITEM_NAMES | own)
        offered = read_offered(state)
        statistics, _ = unpack("statistics", state, self._hooked.source)
        device = next(iter(self._steps.parameters.values())).device
        learned = _Learned(
            self._steps.read(state),
            {**self._hooked.source, **statistics},
            dataclasses.replace(
                self._first.memory,
                items=read_items(state, self.memory, offered, device),
                counts=read_counts(state, offered),
                offered=offered,
            ),
            read_count(state, "batches"),
        )
        with self._network.lock:
            self._restore(learned)
            self._events = EventLog()

    # ------------------------------------------------------------ one batch

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._network.is_frozen:
            return self._predict(inputs)
        before, events = self._capture(), EventLog(self._events.events)
        try:
            logits = self._predict_and_learn(inputs)
        except BaseException:
            self._restore(before)
            self._events = events
            raise
        self._batches += 1
        return logits

    def _predict(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._hooked.predict(inputs, use_instances(self._statistics, self.k))[0]

    def _predict_and_learn(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of each image, predicted before the memory learns from it."""
        self._check_size(inputs)
        answers = []
        rest = inputs
        while len(rest):
            # The images before the next step.
            count = self.every - self._memory.offered % self.every
            part, rest = rest[:count], rest[count:]
            logits = self._predict(part)
            answers.append(logits)
            self._remember(part, logits)
        return torch.cat(answers)

    def _remember(self, images: torch.Tensor, logits: torch.Tensor) -> None:
        """Offer images to the memory, and update after every ``every`` images."""
        labels = logits.argmax(-1).tolist()
        finite = torch.isfinite(logits.float().logsumexp(-1))
        finite &= torch.isfinite(images.flatten(1)).all(1)
        offered = self._memory.offered
        for image, label, is_finite in zip(images, labels, finite.tolist(), strict=True):
            if is_finite:
                self._memory = self._memory.add(image.detach().clone(), label)
            else:
                self._note("left out", "An image or its logits were not finite; not remembered.")
        if self._memory.offered > offered and self._memory.offered % self.every == 0:
            self._update()

    def _update(self) -> None:
        """Take one step on the memory, and update the statistics."""
        images = torch.stack([item.image for item in self._memory.items])
        images = images.contiguous(memory_format=torch.channels_last)
        choose = use_batch_and_instances(self._statistics, self.k)
        with torch.enable_grad(), self._hooked.run(images, choose) as (logits, observed):
            is_finite = observed.is_finite and self._steps.take(entropy(logits).mean())
        if is_finite:
            self._statistics = move_statistics(self._statistics, observed, self.weight)
        else:
            self._note("skipped", "The loss or its gradient was not finite; no step was taken.")

    def _check_size(self, inputs: torch.Tensor) -> None:
        """Raise an InputError if the images have another size than those in the memory."""
        if self._memory.items and self._memory.items[0].image.shape != inputs.shape[1:]:
            raise InputError(
                f"NOTE: expected images {tuple(self._memory.items[0].image.shape)} as those it "
                f"remembers, got {tuple(inputs.shape[1:])}. Call reset() between sizes."
            )
