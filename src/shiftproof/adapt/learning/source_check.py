"""Check by the source's predictions whether a batch differs from the source by its classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import distributed

from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.tensors import copy_tensor, copy_to_cpu
from shiftproof.adapt.learning.few_classes import explain_by_classes, measure_agreement
from shiftproof.adapt.normalization.batch_norm_layers import ObservedStatistics
from shiftproof.adapt.normalization.norm_layers import (
    find_all_batch_norm_layers,
    find_tracked_batch_norm_layers,
    is_tracked,
)
from shiftproof.adapt.normalization.passes import HookedNetwork, use_batch
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.adapt.normalization.statistics import LayerInput, Statistics, process_group
from shiftproof.errors import InputError, ModelError

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

JUDGED_IMAGES = 16
"""Number of predictions per check: of this batch, and of earlier ones if it is smaller."""

FIRST_LAYERS = 3
"""Batch-norm layers whose distance is measured, in the order in which they run. A shift of the
images appears in the first layers and classes in the last; the first layer alone is hardly
sensitive to noise and blur.
"""

FEW_CLASSES_KEPT = (
    "The source's answers hold few classes, which explain how the batch differs from the source; its "
    "statistics were not used."
)
"""The reason of an event of the kind ``FEW_CLASSES``."""

FEW_CLASSES_SKIPPED = (
    "The source's answers hold few classes, which explain how the batch differs from clean images; no "
    "step was taken."
)
"""Its reason where a method uses the source's statistics anyway."""

ANSWERS = "answers"
"""The name of the remembered answers in an adapter's state."""


class FewClassesFound(Exception):
    """Ends a forward pass with the batch's statistics, since the source's are to be used."""


class _Probe(NamedTuple):
    """The source's probabilities ``(M, K)`` for some images, their logits, distance and indices."""

    answers: torch.Tensor | None
    logits: object
    distance: float
    chosen: torch.Tensor


class SourceCheck:
    """Distinguishes batches of few classes from batches under a shift.

    The statistics of a batch of few classes differ from the source's, and normalizing by them does
    harm. Before they are used, the source predicts up to ``JUDGED_IMAGES`` images of the batch,
    spread over it. There is no evidence of a shift if these predictions agree so often that the
    classes explain the distance of the first layers' statistics from the source's. The network's
    confidence with the batch's statistics counts, too
    (:func:`~shiftproof.adapt.learning.few_classes.explain_by_classes`). Smaller batches are checked together
    with earlier predictions.

    Networks whose outputs are not logits ``(N, K)`` with K of 2 or more are not checked.

    A batch costs one pass if its statistics have no weight, and ``JUDGED_IMAGES / n`` more if they
    are used. If the predictions alone show few classes, its pass ends at the first layer in which
    its statistics would have weight (:meth:`watch`), and the source predicts the remaining images
    (:meth:`answer`).

    Args:
        network: a copy of the model whose parameters do not learn. It runs during the pass of
            another copy.
    """

    def __init__(self, network: AdaptedNetwork) -> None:
        self._network = network
        self._hooked: HookedNetwork | None = None  # created at its first use
        self.forget()

    def forget(self) -> None:
        """Discard the predictions of earlier batches."""
        self._recent: torch.Tensor | None = None
        self._begin(None)

    def _begin(self, inputs: torch.Tensor | None) -> None:
        self._inputs = inputs
        self._answers: torch.Tensor | None = None
        self._probe: _Probe | None = None
        self._verdict: bool | None = None

    @contextmanager
    def judge(self, inputs: torch.Tensor, *, remembers: bool) -> Iterator[None]:
        """Context for one batch, which is checked once, however often it runs.

        Args:
            inputs: ``(N, ...)``, prepared.
            remembers: whether to use its predictions for later batches, too.
        """
        self._begin(inputs)
        try:
            yield
            if remembers:
                self._remember()
        finally:
            self._begin(None)

    def _remember(self) -> None:
        if self._answers is not None:
            self._recent = self._join(self._answers)[-JUDGED_IMAGES:]

    def should_keep_source(
        self, inputs: torch.Tensor, outputs: object, observed: ObservedStatistics
    ) -> bool:
        """Return whether to use the source's statistics for the current batch.

        In a process group all processes use them if one has to.

        Args:
            inputs: of a pass: the batch, or an augmented copy. The first pass of the batch itself
                decides for all that follow.
            outputs: its logits.
            observed: its batch-norm statistics. If they have no weight, nothing is run, and
                ``outputs`` are kept as the source's predictions.
        """
        if self._inputs is None:
            return False
        is_batch = inputs.data_ptr() == self._inputs.data_ptr()
        uses_batch = observed.uses_batch and observed.is_finite
        if is_batch and observed.is_finite and not uses_batch:
            self._note(outputs)
        if not self._any_process(uses_batch):
            return False
        if self._verdict is not None:
            return self._verdict
        verdict = self._any_process(self._explain(self._inputs, outputs if is_batch else None))
        self._verdict = verdict if is_batch else None
        return verdict

    def watch(self, inputs: torch.Tensor) -> Callable[[ObservedStatistics], None]:
        """Return a function that runs the check as soon as the batch's statistics have weight in a
        pass.

        Each layer calls it; it raises :class:`FewClassesFound` if ``should_keep_source`` would be
        true at the end of the pass, whatever its outputs. In a process group it does nothing: all
        processes have to run the same passes.

        Args:
            inputs: of the pass, as for ``should_keep_source``.
        """
        waits = self._inputs is not None and self._group() is None

        def look(observed: ObservedStatistics) -> None:
            nonlocal waits
            if not waits or not observed.uses_batch:
                return
            waits = False
            if observed.is_finite and self._explains_alone(inputs):
                raise FewClassesFound

        return look

    def _explains_alone(self, inputs: torch.Tensor) -> bool:
        """Whether the source's predictions alone decide for its statistics."""
        if self._verdict is not None:
            return self._verdict
        batch = cast("torch.Tensor", self._inputs)
        # Without agreement, a lower confidence could still decide against them.
        if not self._explain(batch, None) or not self._predictions_agree():
            return False
        if inputs.data_ptr() == batch.data_ptr():
            self._verdict = True
        return True

    def answer(
        self, inputs: torch.Tensor, forward: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Return the source's logits for the current batch.

        Args:
            inputs: the batch.
            forward: the plain forward pass of the source; it runs only on images without logits so
                far.
        """
        known = None if self._probe is None else self._probe.logits
        if not isinstance(known, torch.Tensor) or self._depends_on_batch():
            return forward(inputs)
        chosen = cast("_Probe", self._probe).chosen
        rest = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        rest[chosen] = False
        if not bool(rest.any()):
            return known
        logits = known.new_empty((len(inputs), *known.shape[1:]))
        logits[chosen], logits[rest] = known, forward(inputs[rest])
        return logits

    def _depends_on_batch(self) -> bool:
        """Whether some layer normalizes by the batch even in the source."""
        layers = find_all_batch_norm_layers(self._network.module).values()
        return not all(is_tracked(layer) for layer in layers)

    def finds_few_classes(self, *, together: bool = True) -> bool:
        """Return whether classes explain the distance of the current batch, before it runs.

        For methods that normalize by the source's statistics: the checked images run once more,
        normalized by their own, to measure the source's confidence.

        Args:
            together: whether the processes of a group share the result; False if each has its own
                images.
        """
        if self._inputs is None:
            return False
        verdict = self._explain(self._inputs, None) or self._explain_by_confidence(self._inputs)
        return self._any_process(verdict) if together else verdict

    # ------------------------------------------------------------ one judgment

    def _note(self, logits: object) -> None:
        if self._answers is None:
            self._answers = read_answers(logits)

    def _explain(self, inputs: torch.Tensor, outputs: object) -> bool:
        if self._probe is None:
            self._probe = self._run(inputs)
            self._answers = self._probe.answers
        answers, _, distance, chosen = self._probe
        if answers is None:
            return False
        logits = outputs[chosen] if isinstance(outputs, torch.Tensor) else None
        return self._explain_with(answers, distance, logits)

    def _explain_with(self, answers: torch.Tensor, distance: float, logits: object) -> bool:
        """Whether classes explain a distance, given the logits with the batch's statistics, if
        known.
        """
        adapted = read_answers(logits)
        confidence_ratio = (
            1.0
            if adapted is None
            else float(_measure_confidence(adapted) / _measure_confidence(answers))
        )
        return explain_by_classes(self._join(answers)[-JUDGED_IMAGES:], distance, confidence_ratio)

    def _predictions_agree(self) -> bool:
        """Whether the predictions agree more often than by chance."""
        answers = cast("_Probe", self._probe).answers
        return answers is not None and measure_agreement(self._join(answers)[-JUDGED_IMAGES:]) > 0

    def _explain_by_confidence(self, inputs: torch.Tensor) -> bool:
        """Explain a distance by the classes and the source's confidence."""
        answers, _, distance, chosen = cast("_Probe", self._probe)
        if answers is None or not math.isfinite(distance) or not self._predictions_agree():
            return False
        return self._explain_with(answers, distance, self._normalize(inputs[chosen]))

    def _normalize(self, images: torch.Tensor) -> torch.Tensor | None:
        """Return the source's logits, normalized by these images; None if it cannot be.

        Processes do not pool theirs: one may have nothing to run when another has.
        """
        try:
            if self._hooked is None:
                self._hooked = HookedNetwork(self._network)
            # "measured" hardly ever uses the statistics of a few images, which are needed here.
            prior: Prior = "measured" if len(images) >= JUDGED_IMAGES else "layerwise"
            choose = use_batch(prior, len(images), pools=False)
            return self._hooked.predict(images, choose)[0]
        except ModelError:  # batch norm that hooks cannot control
            return None

    def _run(self, inputs: torch.Tensor) -> _Probe:
        """Run some images of a batch through the source."""
        chosen = torch.linspace(0, len(inputs) - 1, min(JUDGED_IMAGES, len(inputs))).long()
        chosen = chosen.to(inputs.device)
        with torch.no_grad(), measure_distances(self._network.module, len(chosen)) as found:
            logits = self._network.forward(inputs[chosen])
        return _Probe(read_answers(logits), logits, mean_distance(found), chosen)

    def _join(self, answers: torch.Tensor) -> torch.Tensor:
        """Return the predictions after those of earlier batches."""
        if self._recent is None or self._recent.shape[1] != answers.shape[1]:
            return answers
        return torch.cat([self._recent, answers])

    def _any_process(self, flag: bool) -> bool:
        """Return whether a flag is true in any process that shares the batches of a layer."""
        group = self._group()
        if group is None:
            return flag
        device = next(self._network.module.parameters()).device
        any_flag = torch.tensor(float(flag), device=device)
        distributed.all_reduce(any_flag, distributed.ReduceOp.MAX, group=group)
        return bool(any_flag)

    def _group(self) -> Any:
        """Return the process group that shares the batches of a layer, or None."""
        groups = (
            process_group(layer)
            for layer in find_tracked_batch_norm_layers(self._network.module).values()
        )
        return next((group for group in groups if group is not None), None)

    # ------------------------------------------------------------ state

    def state(self) -> State:
        """Return the predictions for the check of small batches."""
        return {} if self._recent is None else {ANSWERS: copy_to_cpu(self._recent)}

    def read_state(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return the predictions in a state, for :meth:`restore`.

        Raises:
            InputError: they are invalid.
        """
        given = state.get(ANSWERS)
        if given is None:
            return None
        if given.ndim != 2 or not 0 < len(given) <= JUDGED_IMAGES or given.shape[1] < 2:
            raise InputError(
                f"The state is damaged: {ANSWERS!r} has the shape {tuple(given.shape)}, expected up "
                f"to {JUDGED_IMAGES} rows of two classes or more."
            )
        # On the CPU, like those that they are concatenated with.
        return copy_tensor(state, ANSWERS, torch.zeros(given.shape, device="cpu"))

    def restore(self, answers: torch.Tensor | None) -> None:
        """Restore the predictions from :meth:`read_state`."""
        self.forget()
        self._recent = answers


@contextmanager
def measure_distances(network: torch.nn.Module, images: int) -> Iterator[list[float]]:
    """Context that collects the distances of the first batch norms from their source statistics.

    Args:
        network: runs in the context with its own statistics.
        images: number of images of its batch.
    """
    found: list[float] = []

    def measure(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(found) < FIRST_LAYERS:
            values = args[0] if args else next(iter(kwargs.values()))
            source = Statistics(layer.running_mean, layer.running_var)
            found.append(LayerInput(values, images).measure_distance(source))

    handles = [
        layer.register_forward_pre_hook(measure, with_kwargs=True)
        for layer in find_tracked_batch_norm_layers(network).values()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def mean_distance(distances: Sequence[float]) -> float:
    """Return the mean of measured distances; NaN without any."""
    return sum(distances) / len(distances) if distances else math.nan


def _measure_confidence(probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities.amax(1).mean()


def read_answers(logits: object) -> torch.Tensor | None:
    """Return the finite rows of logits as probabilities ``(M, K)`` on the CPU.

    None where there are no logits ``(N, K)`` with K of 2 or more, or no finite row.
    """
    is_matrix = isinstance(logits, torch.Tensor) and logits.ndim == 2 and logits.shape[1] > 1
    if not is_matrix or not cast("torch.Tensor", logits).is_floating_point():
        return None
    rows = cast("torch.Tensor", logits).detach().float().cpu()
    rows = rows[torch.isfinite(rows.logsumexp(-1))]
    return torch.softmax(rows, -1) if len(rows) else None
