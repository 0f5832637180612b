"""Whether a batch differs from the source by its classes, judged by the source's own answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import distributed

from shiftproof.adapt.few_classes import explain_by_classes, measure_agreement
from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.adapt.normalization import Seen
from shiftproof.adapt.norms import all_batch_norm_layers, is_tracked
from shiftproof.adapt.passes import FollowedNetwork, by_batch
from shiftproof.adapt.shares import Prior
from shiftproof.adapt.statistics import LayerInput, Statistics, process_group
from shiftproof.adapt.tensors import copy_tensor, copy_to_cpu
from shiftproof.errors import InputError, ModelError

if TYPE_CHECKING:
    from shiftproof.adapt.adapter import State

IMAGES = 16
"""How many answers a judgment is made of: of this batch, and of those before if it is smaller."""

FIRST_LAYERS = 3
"""Batch-norm layers whose distance is measured, in the order in which they run. A shift of the images
shows there first and classes last; the first layer alone hardly sees noise and blur."""

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
    """Ends a forward pass by the batch's statistics, as the source's are to be kept."""


class _Probe(NamedTuple):
    """What the source said of some images: ``(M, K)``, their distance, and which they are."""

    answers: torch.Tensor | None
    logits: object
    distance: float
    chosen: torch.Tensor


class SourceCheck:
    """Tells batches of few classes from batches under a shift.

    The statistics of a batch of few classes differ from the source's, and normalizing by them does
    harm. So where they would be used, up to ``IMAGES`` images of the batch, spread over it, go through
    the source. The batch says nothing of a shift if the source's answers agree so often that its
    classes explain how far the statistics of the first layers are from the source's. How sure the
    network remains with the batch's statistics is weighed, too
    (:func:`~shiftproof.adapt.few_classes.explain_by_classes`). Smaller batches
    are judged together with the answers before.

    Networks whose outputs are no logits ``(N, K)`` with K of 2 or more are not judged.

    A batch costs one pass where its statistics do not count, and ``IMAGES / n`` more where they are
    used. Where the answers alone tell that classes are few, its pass ends at the first layer in which
    its statistics would count (:meth:`watch`), and the source answers the images that it has not yet
    seen (:meth:`answer`).

    Args:
        network: a copy of the model whose parameters do not learn. It runs while the pass of another
            copy is under way.
    """

    def __init__(self, network: AdaptedNetwork) -> None:
        self._network = network
        self._followed: FollowedNetwork | None = None  # until a batch is weighed by it
        self.forget()

    def forget(self) -> None:
        """Forget the answers of earlier batches."""
        self._recent: torch.Tensor | None = None
        self._begin(None)

    def _begin(self, inputs: torch.Tensor | None) -> None:
        self._inputs = inputs
        self._answers: torch.Tensor | None = None
        self._probe: _Probe | None = None
        self._verdict: bool | None = None

    @contextmanager
    def judge(self, inputs: torch.Tensor, *, remembers: bool) -> Iterator[None]:
        """Judge one batch while the context lasts, however often it runs.

        Args:
            inputs: ``(N, ...)``, prepared.
            remembers: whether later batches are judged by its answers, too.
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
            self._recent = self._join(self._answers)[-IMAGES:]

    def keeps_source(self, inputs: torch.Tensor, outputs: object, seen: Seen) -> bool:
        """Return whether the source's statistics are to be kept in the batch that is judged.

        In a process group all processes keep them if one has to.

        Args:
            inputs: of a pass: the batch, or a changed copy of it. The first pass of the batch itself
                decides for all that follow.
            outputs: its logits.
            seen: what batch norm saw in it. If the batch's statistics do not count anyway, nothing is
                run, and ``outputs`` are remembered in the place of the source's answers.
        """
        if self._inputs is None:
            return False
        is_batch = inputs.data_ptr() == self._inputs.data_ptr()
        uses_batch = seen.uses_batch and seen.is_sound
        if is_batch and seen.is_sound and not uses_batch:
            self._note(outputs)
        if not self._agree(uses_batch):
            return False
        if self._verdict is not None:
            return self._verdict
        verdict = self._agree(self._explain(self._inputs, outputs if is_batch else None))
        self._verdict = verdict if is_batch else None
        return verdict

    def watch(self, inputs: torch.Tensor) -> Callable[[Seen], None]:
        """Return what asks the source as soon as the batch's statistics count in a pass.

        It is called by each layer, and raises :class:`FewClassesFound` where ``keeps_source`` would be
        true at the end of the pass, whatever that answers. In a process group it does nothing: all
        processes have to go through the same passes.

        Args:
            inputs: of the pass, as of ``keeps_source``.
        """
        waits = self._inputs is not None and self._group() is None

        def look(seen: Seen) -> None:
            nonlocal waits
            if not waits or not seen.uses_batch:
                return
            waits = False
            if seen.is_sound and self._explains_alone(inputs):
                raise FewClassesFound

        return look

    def _explains_alone(self, inputs: torch.Tensor) -> bool:
        """Whether the source's answers alone decide for its statistics."""
        if self._verdict is not None:
            return self._verdict
        shown = cast("torch.Tensor", self._inputs)
        # Without an agreement a lower confidence could still decide against them.
        if not self._explain(shown, None) or not self._agrees():
            return False
        if inputs.data_ptr() == shown.data_ptr():
            self._verdict = True
        return True

    def answer(
        self, inputs: torch.Tensor, forward: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Return the source's logits for the batch that is judged.

        Args:
            inputs: the batch.
            forward: the plain forward pass of the source; what it has answered is not asked again.
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
        layers = all_batch_norm_layers(self._network.module).values()
        return not all(is_tracked(layer) for layer in layers)

    def finds_few_classes(self, *, together: bool = True) -> bool:
        """Return whether classes explain how the batch that is judged differs, before it runs.

        Where the method normalizes by the source's statistics, the chosen images run once more,
        normalized by their own, to see how sure the source remains.

        Args:
            together: whether the processes of a group agree; False where each has its own images.
        """
        if self._inputs is None:
            return False
        verdict = self._explain(self._inputs, None) or self._explain_by_trust(self._inputs)
        return self._agree(verdict) if together else verdict

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
        """Explain a distance, given the logits with the batch's statistics, if they are known."""
        adapted = read_answers(logits)
        trust = 1.0 if adapted is None else float(_confidence(adapted) / _confidence(answers))
        return explain_by_classes(self._join(answers)[-IMAGES:], distance, trust)

    def _agrees(self) -> bool:
        """Whether the answers agree more often than by chance."""
        answers = cast("_Probe", self._probe).answers
        return answers is not None and measure_agreement(self._join(answers)[-IMAGES:]) > 0

    def _explain_by_trust(self, inputs: torch.Tensor) -> bool:
        """Weigh what the classes alone did not explain by the source's confidence."""
        answers, _, distance, chosen = cast("_Probe", self._probe)
        if answers is None or not math.isfinite(distance) or not self._agrees():
            return False
        return self._explain_with(answers, distance, self._normalize(inputs[chosen]))

    def _normalize(self, images: torch.Tensor) -> torch.Tensor | None:
        """Return the source's logits where it normalizes by these images; None if it cannot.

        Processes do not pool theirs: one may have nothing to run where another has.
        """
        try:
            if self._followed is None:
                self._followed = FollowedNetwork(self._network)
            # "measured" hardly ever uses the statistics of a few images, which are to be tried here.
            prior: Prior = "measured" if len(images) >= IMAGES else "layerwise"
            choose = by_batch(prior, len(images), pools=False)
            return self._followed.predict(images, choose)[0]
        except ModelError:  # batch norm that cannot be followed
            return None

    def _run(self, inputs: torch.Tensor) -> _Probe:
        """Run some images of a batch through the source."""
        chosen = torch.linspace(0, len(inputs) - 1, min(IMAGES, len(inputs))).long()
        chosen = chosen.to(inputs.device)
        with torch.no_grad(), measuring(self._network.module, len(chosen)) as found:
            logits = self._network.forward(inputs[chosen])
        return _Probe(read_answers(logits), logits, average(found), chosen)

    def _join(self, answers: torch.Tensor) -> torch.Tensor:
        """Return the answers after those of earlier batches."""
        if self._recent is None or self._recent.shape[1] != answers.shape[1]:
            return answers
        return torch.cat([self._recent, answers])

    def _agree(self, flag: bool) -> bool:
        """Return whether it holds in any process that shares the batches of a layer."""
        group = self._group()
        if group is None:
            return flag
        device = next(self._network.module.parameters()).device
        told = torch.tensor(float(flag), device=device)
        distributed.all_reduce(told, distributed.ReduceOp.MAX, group=group)
        return bool(told)

    def _group(self) -> Any:
        """Return the process group that shares the batches of a layer, or None."""
        groups = (process_group(layer) for layer in _list_layers(self._network.module))
        return next((group for group in groups if group is not None), None)

    # ------------------------------------------------------------ state

    def state(self) -> State:
        """Return the answers by which small batches are judged."""
        return {} if self._recent is None else {ANSWERS: copy_to_cpu(self._recent)}

    def read_state(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return the answers of a state, for :meth:`restore`.

        Raises:
            InputError: they are none.
        """
        given = state.get(ANSWERS)
        if given is None:
            return None
        if given.ndim != 2 or not 0 < len(given) <= IMAGES or given.shape[1] < 2:
            raise InputError(
                f"The state is damaged: {ANSWERS!r} has the shape {tuple(given.shape)}, expected up "
                f"to {IMAGES} rows of two classes or more."
            )
        # On the CPU wherever the state is: so are those that they are joined with.
        return copy_tensor(state, ANSWERS, torch.zeros(given.shape, device="cpu"))

    def restore(self, answers: torch.Tensor | None) -> None:
        """Begin with answers of :meth:`read_state`."""
        self.forget()
        self._recent = answers


@contextmanager
def measuring(network: torch.nn.Module, images: int) -> Iterator[list[float]]:
    """Give the distances from the source of the batch norms that run first, while a context lasts.

    Args:
        network: runs in it with its own statistics.
        images: how many go through it.
    """
    found: list[float] = []

    def measure(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(found) < FIRST_LAYERS:
            values = args[0] if args else next(iter(kwargs.values()))
            source = Statistics(layer.running_mean, layer.running_var)
            found.append(LayerInput(values, images).measure_distance(source))

    handles = [
        layer.register_forward_pre_hook(measure, with_kwargs=True)
        for layer in _list_layers(network)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def average(distances: Sequence[float]) -> float:
    """Return the mean of measured distances; NaN without any."""
    return sum(distances) / len(distances) if distances else math.nan


def _list_layers(network: torch.nn.Module) -> list[Any]:
    return [layer for layer in all_batch_norm_layers(network).values() if is_tracked(layer)]


def _confidence(probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities.amax(1).mean()


def read_answers(logits: object) -> torch.Tensor | None:
    """Return the finite rows of logits as probabilities ``(M, K)`` on the CPU.

    None where there are no logits ``(N, K)`` with K of 2 or more, or no finite row.
    """
    is_table = isinstance(logits, torch.Tensor) and logits.ndim == 2 and logits.shape[1] > 1
    if not is_table or not cast("torch.Tensor", logits).is_floating_point():
        return None
    rows = cast("torch.Tensor", logits).detach().float().cpu()
    rows = rows[torch.isfinite(rows.logsumexp(-1))]
    return torch.softmax(rows, -1) if len(rows) else None
