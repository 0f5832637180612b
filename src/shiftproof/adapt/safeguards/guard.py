"""A guard that detects, without labels, when an adapter fails, and rolls it back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, final

import numpy as np
import torch

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.adapt.base.events import Event, EventLog, find_new_events
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.options import check_count, check_number
from shiftproof.adapt.base.probabilities import Probabilities, to_probabilities
from shiftproof.adapt.base.state import save_state
from shiftproof.adapt.base.tensors import check_names
from shiftproof.adapt.base.wrapper import WrappingAdapter
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.preprocess import count_images
from shiftproof.types import Image, Images, Logits, Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

Outputs = TypeVar("Outputs")

GAIN_PER_CHANGE = 0.3
"""Required gain of mean confidence per share of changed predictions."""

CONFIDENT_SOURCE = 0.7
"""Minimum mean confidence of the source for its predictions to be informative."""

CONVINCING_CONFIDENCE = 0.8
"""Mean confidence above which adapted predictions over all classes are trusted."""

MIN_SPREAD = 0.95
"""Minimum ratio of the adapted predictions' spread to the source's."""

MANY_CLASSES = 0.7
"""Share of the maximum spread above which a stream counts as having many classes."""

ALL_CLASSES = 0.9
"""Share of the maximum spread above which predictions count as covering all classes."""


# ---------------------------------------------------------------- signals and decisions


class Signals(NamedTuple):
    """Label-free signals of a model and its adapted form on the same images.

    ``confidence`` and ``source_confidence`` are mean largest probabilities; ``changed`` is the
    share of images with different predictions; ``spread`` and ``source_spread`` are the entropies,
    in nats, of the frequencies of the predicted classes, and ``max_spread`` the largest possible
    entropy.
    """

    confidence: float
    source_confidence: float
    changed: float
    spread: float
    source_spread: float
    max_spread: float


def compare_answers(source: Probabilities, adapted: Probabilities) -> Signals:
    """Return the signals of ``(M, K)`` probabilities of both on the same M images, M above 0."""
    return Signals(
        float(adapted.max(1).mean()),
        float(source.max(1).mean()),
        float((adapted.argmax(1) != source.argmax(1)).mean()),
        _spread(adapted),
        _spread(source),
        math.log(min(source.shape)),
    )


def _spread(probabilities: Probabilities) -> float:
    counts = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def find_objection(signals: Signals, margin: float = 0.01) -> str | None:
    """Return a sentence on why the adapted predictions should not be trusted, or None.

    A model that learns from its own predictions can become overconfident, but then **they collapse
    to few classes**: they must keep ``MIN_SPREAD`` of the source's spread. A model with unsuitable
    statistics changes predictions **without gaining confidence**: its mean confidence may be at
    most ``margin`` below the source's. If the source is confident (``CONFIDENT_SOURCE``), or
    predicts so few classes (below ``MANY_CLASSES``) that the stream may contain few, in which batch
    statistics mislead, changed predictions must also raise the mean confidence, by
    ``GAIN_PER_CHANGE`` times their share.

    Without labels, a stream of few classes cannot be told from a source whose predictions collapse
    under a strong shift. The source is then kept, unless the adapted predictions are
    :func:`is_convincing`, at the cost of a possible gain.
    """
    gain = signals.confidence - signals.source_confidence
    if not math.isfinite(gain):
        return "The adapted answers are not finite."
    if signals.spread < MIN_SPREAD * signals.source_spread:
        return (
            f"The answers collapse to few classes: their entropy is {signals.spread:.2f}, the "
            f"source's {signals.source_spread:.2f}."
        )
    holds_many = signals.source_spread >= MANY_CLASSES * signals.max_spread
    must_gain = signals.source_confidence >= CONFIDENT_SOURCE or not holds_many
    if gain < (GAIN_PER_CHANGE * signals.changed if must_gain else 0.0) - margin:
        return (
            f"{100 * signals.changed:.0f} % of the answers differ from the source's, and the mean "
            f"confidence went from {signals.source_confidence:.2f} to {signals.confidence:.2f}."
        )
    return None


def is_convincing(signals: Signals, margin: float = 0.01) -> bool:
    """Whether adapted predictions are confident and cover all classes, without training on a loss.

    They must be as confident as the source's, up to ``margin``.

    Unsuitable batch statistics lower the confidence: for a stream of one class, they give
    predictions of many classes with low confidence. So confident predictions of all classes imply
    suitable statistics. This does not hold for a model that learns from its own predictions.
    """
    covers_classes = signals.spread >= ALL_CLASSES * signals.max_spread
    least = max(CONVINCING_CONFIDENCE, signals.source_confidence - margin)
    return covers_classes and signals.confidence >= least


# ---------------------------------------------------------------- the adapter


@final
class Guard(WrappingAdapter):
    """An adapter with fallback to the source if label-free signals indicate harm.

    The source runs beside the adapter on every batch (one more forward pass). Over the last
    ``window`` images their predictions are compared, without labels (:func:`find_objection`): do
    changed predictions come with more confidence, and do they not collapse to few classes? If there
    is an objection, an adapter that learns by gradients is also compared with its own initial
    state, where that is more convincing than the source (one more forward pass, only then). Without
    an objection, the adapter predicts. At the first one it is rolled back to the last good state,
    and the source predicts until the adapter has had no objection for ``probation`` images; if that
    takes more than twice as many, it is reset. The same holds at the start: the first predictions
    of a stream of small batches are the source's.

    Every change is an event, in the record and in the report.

    Args:
        adapter: the monitored adapter; it is reset.
        window: number of images over which both are compared, 1 or more; a larger batch is used as
            a whole.
        probation: images without objection before the adapter is trusted, at most ``window``.
        margin: how far the adapter's mean confidence may be below the source's, from 0 to 1.
            Smaller is stricter.
        save_to: a file to which each good state is saved, as a protection against crashes; None
            keeps it in memory alone.
        rows: predictions per image: 1, or with ``run_batch`` the number that ``read`` returns.

    Raises:
        InputError: a number is out of its range, or ``adapter`` is none.

    >>> import torch
    >>> from shiftproof.adapt import SelfLearning
    >>> _ = torch.manual_seed(1)
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 3))
    >>> guarded = Guard(SelfLearning(net, loss="ent", lr=1000.0), probation=8)
    >>> for _ in range(4):
    ...     outputs = guarded(torch.rand(8, 3, 2, 2))
    >>> guarded.is_trusted
    False
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        window: int = 256,
        probation: int = 64,
        margin: float = 0.01,
        save_to: str | Path | None = None,
        rows: int = 1,
    ) -> None:
        for what, value in (("window", window), ("probation", probation)):
            check_count(what, value)
        check_count("rows", rows)
        if probation > window:
            raise InputError(
                f"probation: expected at most the window of {window} images, got {probation}."
            )
        self.window = window
        self.probation = probation
        self.margin = float(check_number("margin", margin, 0, 1))
        self.save_to = None if save_to is None else Path(save_to)
        self.rows = rows
        super().__init__(adapter)
        adapter.reset()
        self._source = AdaptedNetwork(_find_source(adapter))
        self._learns = next(adapter.parameters(), None) is not None
        self._first_state = adapter.state()

    def _forget(self) -> None:
        self._seen = _Window(self.window * self.rows)
        self._since_objection = _Window(self.window * self.rows)
        self._trusted = False
        self._good: State | None = None
        self._images_since_good = 0
        self._images_on_trial = 0
        self._failures = 0
        self._batches = 0
        self._events = EventLog()

    def __repr__(self) -> str:
        return f"Guard({self.inner!r}, window={self.window})"

    @property
    def is_trusted(self) -> bool:
        """Whether the adapter predicts currently, instead of the source."""
        return self._trusted

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return self._settings(
            {
                "adapter": "guard",
                "window": self.window,
                "probation": self.probation,
                "margin": self.margin,
            }
        )

    @property
    def events(self) -> Sequence[Event]:
        """Roll-backs and resumptions of the adapter, and its own events."""
        return self._events.events

    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Return the adapter's logits if it is trusted, else the source's."""
        if count_images(images) == 0:
            return self.inner.predict(images)
        source = self._source
        logits = self._watch(
            len(images),
            lambda: self.inner.predict(images),
            lambda: source.predict(images, source.forward),
        )
        return cast("Logits", logits)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the adapter's logits if it is trusted, else the source's."""
        if not isinstance(batch, torch.Tensor) or batch.ndim == 0 or len(batch) == 0:
            return self.inner(batch)
        source = self._source
        logits = self._watch(
            len(batch), lambda: self.inner(batch), lambda: source.call(batch, source.forward)
        )
        return cast("torch.Tensor", logits)

    def run_batch(
        self,
        run: Callable[[torch.nn.Module], Outputs],
        images: int,
        read: Callable[[Outputs], Probabilities],
    ) -> Outputs:
        """Return ``run(network)`` with the adapter's network if it is trusted, else the source's.

        For networks whose input or output is not one tensor, as ``BatchNorm.run_batch``.

        Args:
            run: takes a network, calls it as a module, and returns anything.
            images: how many images the batch has, 1 or more.
            read: from the result of ``run`` to ``(images * rows, K)`` probabilities, at the same
                places for both networks.

        Raises:
            InputError: the adapter takes batches as tensors only.
        """
        inner = getattr(self.inner, "run_batch", None)
        if inner is None:
            raise InputError(
                f"{type(self.inner).__name__} cannot run a batch by its network alone."
            )
        source = self._source

        def run_source() -> Outputs:
            with source.lock, torch.inference_mode(False), torch.no_grad():
                return run(source.module)

        return cast("Outputs", self._watch(images, lambda: inner(run, images), run_source, read))

    def _watch(
        self,
        count: int,
        adapt: Callable[[], Any],
        source: Callable[[], Any],
        read: Callable[[Any], Probabilities] = to_probabilities,
    ) -> Any:
        """Run one batch through both and return the result of the trusted one."""
        with self._lock:
            if self._freezes:
                return adapt() if self._trusted else source()
            return self._run_both(count, adapt, source, read)

    def _run_both(
        self,
        count: int,
        adapt: Callable[[], Any],
        source: Callable[[], Any],
        read: Callable[[Any], Probabilities],
    ) -> Any:
        source_answer = source()
        state = self.inner.state() if self._learns else None
        events_before = self.inner.events
        adapted = adapt()
        events = find_new_events(events_before, self.inner.events)
        windows = self._seen.contents, self._since_objection.contents
        try:
            reason = self._judge(read(source_answer), read(adapted), lambda: read(adapt()))
        except BaseException:
            # The pass of the initial state failed: undo the batch.
            self._seen.contents, self._since_objection.contents = windows
            if state is not None:
                self.inner.load_state(state)
            raise
        self._events.extend(dataclasses.replace(event, batch=self._batches) for event in events)
        if self._trusted:
            self._guard(count, reason)
        else:
            self._try(count, reason)
        self._batches += 1
        return adapted if self._trusted else source_answer

    def _judge(
        self, source: Probabilities, adapted: Probabilities, adapt: Callable[[], Probabilities]
    ) -> str | None:
        """Return the objection to the last window with this batch, or None."""
        self._seen.add(source, adapted)
        signals = self._seen.signals()
        reason = find_objection(signals, self.margin)
        if reason is None:
            self._since_objection.clear()
            return None
        if not self._learns:
            return None if is_convincing(signals, self.margin) else reason
        # Does the objection concern the initial state as well, and is that state convincing?
        self._since_objection.add(self._predict_unadapted(adapt), adapted)
        count = len(self._since_objection)
        at_first = compare_answers(
            self._seen.contents[0][-count:], self._since_objection.contents[0]
        )
        if not is_convincing(at_first, self.margin):
            return reason
        return find_objection(self._since_objection.signals(), self.margin)

    def _predict_unadapted(self, adapt: Callable[[], Probabilities]) -> Probabilities:
        """Return the initial adapter's predictions for this batch."""
        state = self.inner.state()
        self.inner.load_state(self._first_state)
        try:
            with self.inner.frozen():
                return adapt()
        finally:
            self.inner.load_state(state)

    def _guard(self, count: int, reason: str | None) -> None:
        """Keep the adapter trusted, or roll it back."""
        if reason is None:
            self._images_since_good += count
            if self._images_since_good >= self.window:
                self._keep()
            return
        self._roll_back(reason)

    def _try(self, count: int, reason: str | None) -> None:
        """Trust the adapter, or reset it when its probation is over."""
        self._images_on_trial += count
        # Each roll-back doubles the required number of images without objection.
        needed = min(self.window, self.probation * 2**self._failures)
        seen = len(self._seen) // self.rows
        if seen < needed:
            return
        if reason is None:
            self._trusted = True
            self._images_on_trial = 0
            self._keep()
            if self._events.events:
                self._note("trusted again", f"No objection over {pluralize(seen, 'image')}.")
            return
        if not any(event.kind == "source answers" for event in self._events.events):
            self._note("source answers", reason)
        self._seen.clear()
        self._since_objection.clear()
        if self._images_on_trial >= 2 * needed:
            # The probation is over without success.
            self.inner.reset()
            self._good = None
            self._images_on_trial = 0

    def _keep(self) -> None:
        """Save the current state as a good one."""
        self._good = self.inner.state()
        self._images_since_good = 0
        if self.save_to is not None:
            save_state(self._good, self.inner.settings, self.save_to)

    def _roll_back(self, reason: str) -> None:
        self._note("rolled back", reason)
        self._failures = min(self._failures + 1, 30)
        self._trusted = False
        self._images_on_trial = 0
        self._seen.clear()
        self._since_objection.clear()
        if self._good is None:
            self.inner.reset()
        else:
            self.inner.load_state(self._good)

    def merge(self) -> torch.nn.Module:
        """Return the adapter's plain model if it is trusted, else the source's."""
        if self._trusted:
            return self.inner.merge()
        return self._source.copy()

    def state(self) -> State:
        """Return the adapter's state, the last good one, and the recent predictions of both."""
        with self._lock:
            numbers = [
                self._trusted, self._good is not None, self._images_since_good, self._images_on_trial,
                self._failures, self._batches,
            ]  # fmt: skip
            state = {
                "guard/numbers": torch.tensor([int(number) for number in numbers]),
                "guard/source": torch.from_numpy(self._seen.contents[0].copy()),
                "guard/adapted": torch.from_numpy(self._seen.contents[1].copy()),
                "guard/began": torch.from_numpy(self._since_objection.contents[0].copy()),
                "guard/learnt": torch.from_numpy(self._since_objection.contents[1].copy()),
            }
            for kind, inner in (("inner", self.inner.state()), ("good", self._good or {})):
                state |= {f"{kind}/{name}": value for name, value in inner.items()}
            return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the state of an adapter with the same settings."""
        parts: dict[str, State] = {"guard": {}, "inner": {}, "good": {}}
        check_names(state, parts)
        for name, value in state.items():
            kind, _, rest = name.partition("/")
            parts[kind][rest] = value
        numbers, windows = _read_guard(parts["guard"])
        has_good = bool(numbers[1])
        if parts["good"] and not has_good:
            raise InputError(
                "The state is damaged: it holds a good state and says that it has none."
            )
        with self._lock:
            before = self.inner.state()
            try:
                if has_good:
                    self.inner.load_state(parts["good"])
                self.inner.load_state(parts["inner"])
            except InputError:
                self.inner.load_state(before)
                raise
            self._forget()
            self._trusted = bool(numbers[0])
            self._images_since_good, self._images_on_trial, self._failures, self._batches = numbers[
                2:
            ]
            self._good = parts["good"] if has_good else None
            self._seen.contents, self._since_objection.contents = windows

    def _note(self, kind: str, reason: str) -> None:
        self._events.add(kind, self._batches, reason)


def _read_guard(
    state: Mapping[str, torch.Tensor],
) -> tuple[list[int], list[tuple[Probabilities, Probabilities]]]:
    """Return the numbers and the two windows of a guard's state, or raise an InputError."""
    if set(state) != {"numbers", *_WINDOWS}:
        raise InputError("The state is of another adapter: it is not a guard's.")
    numbers = state["numbers"]
    arrays = [state[name].detach().cpu().float().numpy().copy() for name in _WINDOWS]
    sound = numbers.shape == (6,) and bool((numbers >= 0).all()) and bool((numbers < 2**53).all())
    paired = all(
        one.ndim == 2 and one.shape == other.shape and np.isfinite([*one.flat, *other.flat]).all()
        for one, other in zip(arrays[::2], arrays[1::2], strict=True)
    )
    if not sound or not paired:
        raise InputError("The state of the guard is damaged: its numbers or windows do not fit.")
    return [int(number) for number in numbers.tolist()], [
        (arrays[0], arrays[1]),
        (arrays[2], arrays[3]),
    ]


_WINDOWS = ("source", "adapted", "began", "learnt")
"""The two windows in a guard's state: source and adapted, beginning and learned."""


class _Window:
    """Predictions of two models over the last images."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.clear()

    def clear(self) -> None:
        nothing = np.zeros((0, 1), np.float32)
        self.contents: tuple[Probabilities, Probabilities] = (nothing, nothing)

    def __len__(self) -> int:
        return len(self.contents[0])

    def add(self, first: Probabilities, second: Probabilities) -> None:
        """Add a batch and drop older rows beyond the window; a larger batch is kept whole."""
        kept = max(self.size, len(first))
        if len(self):
            first = np.concatenate([self.contents[0], first])
            second = np.concatenate([self.contents[1], second])
        self.contents = first[-kept:], second[-kept:]

    def signals(self) -> Signals:
        return compare_answers(*self.contents)


def _find_source(adapter: Adapter) -> Classifier | torch.nn.Module:
    """Return the adapter's classifier, or a copy of its plain model."""
    try:
        return adapter.classifier
    except ModelError:
        return adapter.merge()
