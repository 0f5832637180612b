"""A router: runs several adapters, and chooses one for each batch."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

import numpy as np
import torch
from numpy.typing import NDArray

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.adapt.base.events import Event, EventLog, find_new_events
from shiftproof.adapt.base.network import AdaptedNetwork, describe_output
from shiftproof.adapt.base.probabilities import Probabilities, to_probabilities
from shiftproof.adapt.base.tensors import check_names
from shiftproof.adapt.learning.source_check import mean_distance, measure_distances
from shiftproof.adapt.safeguards.error_estimates import UNKNOWN, Basis, Shift
from shiftproof.adapt.safeguards.first_layers import FirstLayers
from shiftproof.adapt.safeguards.ledger import open_ledger
from shiftproof.adapt.table import make_adapter
from shiftproof.errors import InputError, ModelError
from shiftproof.io.border import describe_error
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.preprocess import count_images
from shiftproof.types import Image, Images, Logits, Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

AdapterFactory: TypeAlias = Callable[[Classifier | torch.nn.Module], Adapter]
"""An adapter's class, or a function from a model to an adapter."""

SOURCE = "source"
"""The name of the expert that does not adapt."""

DEFAULT = ("batchnorm", "rpl")
"""The default experts, in addition to the source."""

_NO_CONFIDENCE = ("lame", "t3a")
"""Adapters whose logits are not on the scale of confidences."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Expert:
    name: str
    adapter: Adapter
    basis: Basis


@final
class Router(Adapter):
    """Runs the source and several adapters side by side, and returns the predictions of the best
    one.

    Each batch goes through all of them. The expert that predicts is chosen in two steps:

    1. **Without labels.** How often each seems to be wrong is estimated on every batch: from its
       confidence, from how far its predictions collapse to few classes, and from the gain in
       confidence of its changed predictions
       (:func:`~shiftproof.adapt.safeguards.error_estimates.estimate_errors`).
       If the source's predictions collapse because of a shift, and not because the batch has few
       classes, its error rate is at least the distance between its mean prediction and that of the
       expert with the largest spread
       (:func:`~shiftproof.adapt.safeguards.error_estimates.estimate_source`). The
       estimates are the losses of Hedge with a fixed share (Freund & Schapire 1997; Herbster &
       Warmuth 1998), over batches; the source has a larger initial weight. **These estimates are a
       proxy**, measured in ``benchmarks/router.py``, and no bound on errors follows from them.
    2. **With labels**, given by :meth:`label`. The choice of step 1 and each expert are voters
       whose weights follow their mistakes on the labeled images; the choice of step 1 has an
       initial weight of 0.9. The vote is deterministic, and **its mistakes on the labeled images
       are bounded by a theorem**: at most 2.64 times those of the best voter, plus 2.64 times
       ``ln 1 / (its first weight)`` and 2.7 percent of the labels; in full, with changes of the
       best voter, in :func:`~shiftproof.adapt.safeguards.expert_weights.bound_mistakes`.
       It assumes nothing about
       images and labels, except that an image counts with the weights at the time its label
       arrives. That the labeled images represent the others is an assumption: sample them at
       random.

    ``answering`` names the expert that predicted last; every change is an event with its reason. An
    expert that raises an error is left out until ``reset()``, with an event; at least the source
    continues. An expert that does not support this model is left out, too.

    The cost is that of all experts and one plain forward pass, and a second one for batches on
    which the source's predictions collapse; in ``frozen()`` only the expert that predicted last
    runs.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module`` that gives logits.
        experts: the adapters beside the source: specs as for ``make_adapter``, or functions from a
            model to an adapter. LAME and T3A, whose logits are no confidences, are chosen by labels
            alone.

    Raises:
        InputError: no expert, two of the same name, or a function that returns no adapter.
        UnknownNameError: a spec with an unknown adapter or option.
        ModelError: the graph is fixed, or the model cannot be copied.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    >>> routed = Router(net.eval(), experts=["batchnorm"])
    >>> images = torch.rand(32, 3, 4, 4)
    >>> outputs = routed(images)
    >>> for place, label in enumerate(net(images).argmax(dim=1).tolist()):
    ...     routed.label(place, label)  # the source is always right
    >>> outputs = routed(images)
    >>> routed.answering
    'source'
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        experts: Sequence[str | AdapterFactory] = DEFAULT,
    ) -> None:
        if isinstance(experts, str) or not isinstance(experts, Sequence) or not experts:
            raise InputError(
                f"experts: expected a list of one adapter or more, as in {list(DEFAULT)}, got "
                f"{experts!r}."
            )
        self._network = AdaptedNetwork(model)
        self._first_layers = FirstLayers(self._network)
        self._lock = threading.RLock()
        self._freezes = 0
        self._unsupported: dict[str, str] = {}
        self._experts: list[_Expert] = []
        for wanted in experts:
            self._add(wanted, model)
        self._bases: list[Basis] = ["confidence", *(e.basis for e in self._experts)]
        self._forget()

    def _add(self, wanted: str | AdapterFactory, model: Classifier | torch.nn.Module) -> None:
        """Create an expert, or record why this model does not support it."""
        name = wanted if isinstance(wanted, str) else getattr(wanted, "__qualname__", "function")
        if name in (SOURCE, *self._unsupported, *(expert.name for expert in self._experts)):
            raise InputError(f"experts: {name!r} occurs twice; the source is always included.")
        try:
            made: object = make_adapter(wanted, model) if isinstance(wanted, str) else wanted(model)
        except ModelError as error:
            self._unsupported[name] = str(error)
            return
        if not isinstance(made, Adapter):
            raise InputError(
                f"experts: expected what makes an adapter, got {type(made).__name__} of {name}."
            )
        self._experts.append(_Expert(name, made, _find_basis(made)))

    def _forget(self) -> None:
        self._ledger = open_ledger(1 + len(self._experts))
        self._left_out = [False] * len(self._experts)
        self._answered = np.zeros(1 + len(self._experts), dtype=np.int64)
        self._answering = 0
        self._batches = 0
        self._shift = UNKNOWN
        self._events = EventLog(
            Event("left out", 0, f"{name} was left out: {reason}")
            for name, reason in self._unsupported.items()
        )

    def __getstate__(self) -> dict[str, Any]:
        """Omit the lock and open contexts, which a copy does not share."""
        kept = {name: value for name, value in vars(self).items() if name != "_lock"}
        return {**kept, "_freezes": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Router(experts={self.experts[1:]})"

    # ------------------------------------------------------------ properties

    @property
    def classifier(self) -> Classifier:
        """The classifier that is adapted."""
        return self._network.classifier

    @property
    def experts(self) -> list[str]:
        """The names of the running experts, the source first."""
        return [SOURCE, *(expert.name for expert in self._experts)]

    @property
    def answering(self) -> str:
        """The expert that predicted most of the last batch; at first the source."""
        return self.experts[self._answering]

    @property
    def answered(self) -> dict[str, int]:
        """Number of images that each expert has predicted since the last ``reset()``."""
        return dict(zip(self.experts, self._answered.tolist(), strict=True))

    @property
    def estimates(self) -> dict[str, float]:
        """The estimated error rate of each expert on the last batch, without labels."""
        return dict(zip(self.experts, self._ledger.estimates.tolist(), strict=True))

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON; the experts' by name."""
        experts = {expert.name: _drop_model(expert.adapter.settings) for expert in self._experts}
        return {
            "adapter": "router",
            "experts": experts,
            "left_out": list(self._unsupported),
            **self._network.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """Changes of the answering expert with reasons, excluded experts, and the experts' events."""
        return self._events.events

    # ------------------------------------------------------------ one batch

    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Let all experts adapt to a batch, and return the logits of the chosen one."""
        network = self._network
        if count_images(images) == 0:
            return network.classifier.predict(images)
        answer = self._route(
            lambda: network.predict(images, self._run_source),
            lambda expert: expert.adapter.predict(images),
        )
        return cast("Logits", answer)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Let all experts adapt to a batch, and return the logits of the chosen one."""
        network = self._network
        if not isinstance(batch, torch.Tensor) or batch.ndim == 0 or len(batch) == 0:
            return network.call(batch, network.forward)
        answer = self._route(
            lambda: network.call(batch, self._run_source), lambda expert: expert.adapter(batch)
        )
        return cast("torch.Tensor", answer)

    def _run_source(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the source's logits, and measure the shift of the batch in its first layers."""
        with measure_distances(self._network.module, len(inputs)) as found:
            logits = self._network.forward(inputs)
        self._shift = Shift(mean_distance(found), lambda: self._remove_shift(inputs))
        return logits

    def _remove_shift(self, inputs: torch.Tensor) -> Probabilities | None:
        """Return the source's probabilities with its first layers normalized by the batch."""
        logits = self._first_layers.predict(inputs)
        return None if logits is None else to_probabilities(logits)

    def _route(self, source: Callable[[], Any], ask: Callable[[_Expert], Any]) -> Any:
        with self._lock, self._restoring_on_error():
            if self._freezes:
                return self._answer_frozen(source, ask)
            source_logits = source()
            if source_logits.ndim != 2:
                raise ModelError(
                    f"Expected logits (N, K) of the model, got {describe_output(source_logits)}."
                )
            answers, reasons, expert_events = self._ask_all(source_logits, ask)
            return self._choose([source_logits, *answers], reasons, expert_events)

    @contextmanager
    def _restoring_on_error(self) -> Iterator[None]:
        """Restore the experts if the batch is interrupted, and release its images."""
        before = [None if out or self._freezes else e.adapter.state() for e, out in self._pairs()]
        try:
            yield
        except BaseException:
            for expert, state in zip(self._experts, before, strict=True):
                if state is not None:
                    expert.adapter.load_state(state)
            raise
        finally:
            self._shift = UNKNOWN

    def _answer_frozen(self, source: Callable[[], Any], ask: Callable[[_Expert], Any]) -> Any:
        """Return the prediction of the expert that predicted last."""
        if self._answering == 0 or self._left_out[self._answering - 1]:
            return source()
        return ask(self._experts[self._answering - 1])

    def _ask_all(
        self, source_logits: Any, ask: Callable[[_Expert], Any]
    ) -> tuple[list[Any], dict[int, str], list[Event]]:
        """Return each expert's answer or None, the reasons of new exclusions, and the experts'
        events.
        """
        answers: list[Any] = []
        reasons: dict[int, str] = {}
        expert_events: list[Event] = []
        for place, (expert, out) in enumerate(self._pairs()):
            answer = None
            if not out:
                events = expert.adapter.events
                try:
                    answer = _check_answer(ask(expert), source_logits)
                except Exception as error:  # any error excludes this expert only
                    reasons[place] = f"{expert.name} was left out: {describe_error(error)}"
                expert_events += _name_events(
                    expert, find_new_events(events, expert.adapter.events)
                )
            answers.append(answer)
        return answers, reasons, expert_events

    def _pairs(self) -> Iterator[tuple[_Expert, bool]]:
        return zip(self._experts, self._left_out, strict=True)

    def _choose(
        self, answers: list[Any], reasons: dict[int, str], expert_events: list[Event]
    ) -> Any:
        """Return the batch's answer, and update the record."""
        probabilities = [None if answer is None else to_probabilities(answer) for answer in answers]
        ledger, chosen = self._ledger.weigh(probabilities, self._bases, self._shift)
        counts = np.bincount(chosen, minlength=len(answers))
        place = int(counts.argmax())
        self._ledger = ledger
        for expert, reason in reasons.items():
            self._left_out[expert] = True
            self._events.add("left out", self._batches, reason)
        self._events.extend(dataclasses.replace(e, batch=self._batches) for e in expert_events)
        if place != self._answering or self._batches == 0:
            self._events.add("answers", self._batches, self._explain(place))
        self._answering = place
        self._answered = self._answered + counts
        self._batches += 1
        return _join(answers, chosen)

    def _explain(self, place: int) -> str:
        """Return the reason for the choice of an expert."""
        ledger, name = self._ledger, self.experts[place]
        live = [True, *(not out for out in self._left_out)]
        names = [n for n, is_live in zip(self.experts, live, strict=True) if is_live]
        text = ", ".join(f"{n} {100 * self.estimates[n]:.0f} %" for n in names)
        reason = f"{name} answers. Errors as estimated without labels: {text}."
        if ledger.labels:
            wrong = zip(self.experts, ledger.mistakes[1:].tolist(), strict=True)
            counted = ", ".join(f"{n} {count}" for n, count in wrong if n in names)
            plural = "label" if ledger.labels == 1 else "labels"
            reason += f" Wrong of {ledger.labels} {plural}: {counted}."
        return reason

    def label(self, index: int, label: int | str) -> None:
        """Give the true class of a predicted image; it takes effect with the next batch.

        Args:
            index: index of the image since the last ``reset()``, without those of ``frozen()``.
            label: its class: the index of the output, or for a classifier the class's name.

        Raises:
            InputError: the image was not predicted, or more than 4,096 images ago, or already has a
                label; or there is no such class.
            LabelError: no class has that name.
        """
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise InputError(f"index: expected the number of an image, got {index!r}.")
        with self._lock:
            number = self._find_class(label)
            self._ledger = self._ledger.settle(int(index), number)

    def _find_class(self, label: int | str) -> int:
        if isinstance(label, str):
            return self.classes.index(label)
        count = self._ledger.mean.sums.shape[1]
        is_number = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
        if not is_number or label < 0 or (count and label >= count):
            ends = f"0 to {count - 1}" if count else "0 or more"
            raise InputError(f"label: expected a class, {ends}, got {label!r}.")
        return int(label)

    # ------------------------------------------------------------ state

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Predict with the expert that answered last, without adaptation."""
        with self._lock:
            self._freezes += 1
        try:
            with ExitStack() as stack:
                for expert in self._experts:
                    stack.enter_context(expert.adapter.frozen())
                yield
        finally:
            with self._lock:
                self._freezes -= 1

    def end_epoch(self) -> None:
        """Pass the call on to the experts."""
        for expert, out in self._pairs():
            if not out:
                expert.adapter.end_epoch()

    def reset(self) -> None:
        """Return to the initial state; excluded experts take part again."""
        with self._lock:
            for expert in self._experts:
                expert.adapter.reset()
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the parameters of all experts."""
        for expert in self._experts:
            yield from expert.adapter.parameters()

    def merge(self) -> torch.nn.Module:
        """Return the plain model of the expert that answered last; at first the source's."""
        with self._lock:
            if self._answering == 0 or self._left_out[self._answering - 1]:
                return self._network.copy()
            return self._experts[self._answering - 1].adapter.merge()

    def state(self) -> State:
        """Return the states of the experts, and the record of them."""
        with self._lock:
            state = {f"ledger/{name}": value for name, value in self._ledger.pack().items()}
            state["router/numbers"] = torch.tensor([self._answering, self._batches])
            state["router/answered"] = torch.from_numpy(self._answered.copy())
            state["router/left_out"] = torch.tensor([int(out) for out in self._left_out])
            for place, (expert, out) in enumerate(self._pairs()):
                inner = {} if out else expert.adapter.state()
                state |= {f"expert{place}/{name}": value for name, value in inner.items()}
            return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another router with the same experts."""
        kinds = ["ledger", "router", *(f"expert{p}" for p in range(len(self._experts)))]
        parts: dict[str, State] = {kind: {} for kind in kinds}
        check_names(state, kinds)
        for name, value in state.items():
            kind, _, rest = name.partition("/")
            parts[kind][rest] = value
        ledger = self._ledger.unpack(parts["ledger"])
        place, batches, answered, left_out = self._read_own(parts["router"])
        with self._lock:
            self._load_experts([parts[kind] for kind in kinds[2:]], left_out)
            self._forget()
            self._ledger, self._left_out = ledger, left_out
            self._answering, self._batches, self._answered = place, batches, answered

    def _read_own(
        self, state: Mapping[str, torch.Tensor]
    ) -> tuple[int, int, NDArray[np.int64], list[bool]]:
        """Read place, batches, answered and left out from a state, or raise an InputError."""
        count = len(self._experts)
        shapes = {"numbers": (2,), "answered": (1 + count,), "left_out": (count,)}
        if {name: tuple(value.shape) for name, value in state.items()} != shapes:
            raise InputError("The state is of another adapter: it is not that of these experts.")
        place, batches = (int(number) for number in state["numbers"].tolist())
        answered = state["answered"].detach().cpu().numpy().astype(np.int64)
        if not 0 <= place <= count or batches < 0 or (answered < 0).any():
            raise InputError("The state of the router is damaged: its numbers do not fit.")
        return place, batches, answered, [bool(out) for out in state["left_out"].tolist()]

    def _load_experts(self, states: Sequence[State], left_out: Sequence[bool]) -> None:
        """Restore the states of all experts, or of none if one refuses."""
        before = [None if out else e.adapter.state() for e, out in self._pairs()]
        try:
            for expert, state, out in zip(self._experts, states, left_out, strict=True):
                if not out:
                    expert.adapter.load_state(state)
        except InputError:
            for expert, kept in zip(self._experts, before, strict=True):
                if kept is not None:
                    expert.adapter.load_state(kept)
            raise


# ---------------------------------------------------------------- tools


def _find_basis(adapter: Adapter) -> Basis:
    """Return the basis for the estimate of an expert's errors."""
    inner: Any = adapter.settings
    while isinstance(inner.get("inner"), Mapping):
        inner = inner["inner"]
    if inner.get("adapter") in _NO_CONFIDENCE:
        return "source"
    return "confidence" if next(adapter.parameters(), None) is None else "gain"


def _drop_model(settings: Settings) -> Settings:
    """Return an expert's settings without those of the model, which the router has."""
    return {name: value for name, value in settings.items() if name not in ("classifier", "module")}


def _check_answer(answer: Any, source_logits: Any) -> Any:
    """Return an expert's answer, or raise a ModelError if it has the wrong shape."""
    if getattr(answer, "shape", None) != source_logits.shape:
        raise ModelError(
            f"It gave {describe_output(answer)}, expected logits {tuple(source_logits.shape)}."
        )
    return answer


def _name_events(expert: _Expert, events: Sequence[Event]) -> Iterator[Event]:
    """Yield an expert's events with its name."""
    for event in events:
        yield dataclasses.replace(event, reason=f"{expert.name}: {event.reason}")


def _join(answers: Sequence[Any], chosen: NDArray[np.int64]) -> Any:
    """Return each image's row from the expert chosen for it."""
    places = np.unique(chosen)
    first = answers[int(places[0])]
    if len(places) == 1:
        return first
    joined = first.copy() if isinstance(first, np.ndarray) else first.clone()
    for place in places[1:]:
        rows = np.flatnonzero(chosen == place)
        joined[rows] = answers[int(place)][rows]
    return joined
