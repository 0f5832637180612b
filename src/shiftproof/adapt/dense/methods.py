"""Adaptation methods for detectors and segmenters by name, and their spec strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from shiftproof.adapt.base.clean_images import check_clean_option
from shiftproof.adapt.base.events import Event
from shiftproof.adapt.dense.adapted_model import POINTS, DenseModel
from shiftproof.adapt.table import ADAPTERS, read_number_or_auto
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models.structure import is_torch_module
from shiftproof.specs import read_number, read_options, split_name
from shiftproof.types import Settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

    from shiftproof.adapt.base.adapter import State
    from shiftproof.adapt.safeguards.guard import Guard

Outputs = TypeVar("Outputs")

ModelKind = Literal["detector", "segmenter"]


@runtime_checkable
class BatchMethod(Protocol):
    """An adapter of a network that other code runs."""

    @property
    def settings(self) -> Settings:
        """The settings that reproduce it, for JSON."""

    @property
    def events(self) -> Sequence[Event]:
        """Events that affect the interpretation of results."""

    def run_batch(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        """Adapt while ``run`` runs the given network on a batch of images."""

    def frozen(self) -> AbstractContextManager[None]:
        """Context without learning."""

    def end_epoch(self) -> None:
        """End a pass over the target set."""

    def reset(self) -> None:
        """Restore the initial state."""

    def merge(self) -> torch.nn.Module:
        """Return a plain model."""

    def state(self) -> State:
        """Return what was learned."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a learned state."""


Method: TypeAlias = "BatchMethod | Guard"


@dataclass(frozen=True)
class MethodEntry:
    """One row of ``METHODS``.

    ``make`` is called with the wrapped model, its network and the options as keywords, each read
    from its text; ``kinds`` are the kinds of models that it adapts.
    """

    make: Callable[..., BatchMethod]
    description: str
    options: Mapping[str, Callable[[str], object]]
    kinds: tuple[ModelKind, ...] = ("detector", "segmenter")


def _make_batch_norm(
    model: DenseModel[Any], network: torch.nn.Module, **options: Any
) -> BatchMethod:
    from shiftproof.adapt.methods.batchnorm import BatchNorm

    return BatchNorm(network, **options)


def _make_learning(loss: str) -> Callable[..., BatchMethod]:
    def make(model: DenseModel[Any], network: torch.nn.Module, **options: Any) -> BatchMethod:
        from shiftproof.adapt.dense.class_logits import find_box_logits, find_pixel_logits
        from shiftproof.adapt.dense.self_learning import DenseLearning
        from shiftproof.models.segmenters.segmenter import Segmenter

        logits = find_pixel_logits() if isinstance(model, Segmenter) else find_box_logits(network)
        made: Any = DenseLearning
        learning: BatchMethod = made(network, logits=logits, loss=loss, **options)
        return learning

    return make


def _make_actmad(model: DenseModel[Any], network: torch.nn.Module, **options: Any) -> BatchMethod:
    from shiftproof.adapt.methods.actmad import ActMAD

    return ActMAD(network, predict_with=model.predict_with, **options)


def _make_teacher(model: DenseModel[Any], network: torch.nn.Module, **options: Any) -> BatchMethod:
    from shiftproof.adapt.dense.mean_teacher import MeanTeacher

    return MeanTeacher(network, **options)


_LEARNING: Mapping[str, Callable[[str], object]] = {
    "lr": read_number_or_auto, "momentum": float, "q": float, "threshold": float, "rows": int,
    "parameters": str, "layers": str, "prior": ADAPTERS["batchnorm"].options["prior"], "seed": int,
}  # fmt: skip

METHODS: dict[str, MethodEntry] = {
    "batchnorm": MethodEntry(
        _make_batch_norm, ADAPTERS["batchnorm"].description, ADAPTERS["batchnorm"].options
    ),
    "actmad": MethodEntry(
        _make_actmad,
        "Match mean and variance of features with those of clean images (Mirza et al. 2023); "
        "clean=FOLDER measures them, else batch norm's running statistics are taken.",
        ADAPTERS["actmad"].options,
    ),
    "ent": MethodEntry(
        _make_learning("ent"),
        "Minimize the entropy per pixel, or per box where a detector's classes exclude each other.",
        _LEARNING,
    ),
    "rpl": MethodEntry(
        _make_learning("rpl"), "Learn from robust pseudo-labels per pixel or box.", _LEARNING
    ),
    "teacher": MethodEntry(
        _make_teacher,
        "Learn from the sure boxes of a slow teacher (Liu et al. 2021), where the network gives its "
        "training loss.",
        {
            "threshold": read_number,
            "keep": read_number,
            "strength": read_number,
            "lr": read_number_or_auto,
            "momentum": float,
            "parameters": str,
            "seed": int,
        },
        ("detector",),
    ),
}
"""Methods by the name that adapted detectors and segmenters, and ``--adapt``, take."""


def choose_method(
    adapter: Method | str, model: Any, expected: type[DenseModel[Any]], kind: ModelKind, *, why: str
) -> Method:
    """Return the method that adapts a model: the given one, or the one that a spec names.

    Args:
        adapter: the method, or a spec as for :func:`make_method`.
        model: what is adapted.
        expected: the class of such models.
        kind: their name in errors.
        why: why other models cannot be adapted, for the error.

    Raises:
        UnknownNameError, InputError: as for :func:`make_method` and :func:`check_method`.
        ModelError: another model, or one that is not on torch.
    """
    network: Any = getattr(model, "module", None)
    if not isinstance(model, expected) or not is_torch_module(network):
        name = getattr(model, "name", type(model).__name__)
        raise ModelError(
            f"{name} cannot be adapted: expected a {expected.__name__} around a torch.nn.Module. {why}"
        )
    if isinstance(adapter, str):
        return make_method(adapter, model, network, kind)
    return check_method(adapter, kind)


def make_method(
    spec: str, model: DenseModel[Any], network: torch.nn.Module, kind: ModelKind
) -> Method:
    """Make the method that a spec names.

    Args:
        spec: ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE`` with a name of ``METHODS``; ``guard+``
            may stand before it: ``"guard:window=64+ent"``.
        model: what is adapted.
        network: its network.
        kind: what it is.

    Raises:
        UnknownNameError: no such method or option; says the nearest.
        InputError: a method that does not adapt such a model, or an option of the wrong kind.
        ModelError: the network cannot be adapted that way.
    """
    (entry, options), guarding = _read_spec(spec, kind)
    method = entry.make(model, network, **options)
    if guarding is None:
        return method
    from shiftproof.adapt.safeguards.guard import Guard

    made: Any = Guard
    guard: Guard = made(method, rows=POINTS**2, **guarding)
    return guard


def check_method_spec(spec: str, kind: ModelKind) -> None:
    """Check that a spec names a method for such models, without a model.

    Raises:
        UnknownNameError, InputError: as for :func:`make_method`.
    """
    (_, options), _ = _read_spec(spec, kind)
    check_clean_option(options)


def _read_spec(
    spec: str, kind: ModelKind
) -> tuple[tuple[MethodEntry, dict[str, Any]], dict[str, Any] | None]:
    """Return the method that a spec names with its options, and those of the guard before it."""
    before, plus, last = spec.strip().rpartition("+")
    if plus and last[:1].isdigit():
        # The plus of a number: lr=1e+3.
        before, plus, last = "", "", spec.strip()
    found = _read(last, spec, kind)
    if not plus:
        return found, None
    wrapper, options = split_name(before)
    if wrapper != "guard":
        raise InputError(f"{spec!r}: of wrappers only guard can stand before a {kind}'s method.")
    return found, read_options(options, ADAPTERS["guard"].options, spec=spec, owner="guard")


def _read(text: str, spec: str, kind: ModelKind) -> tuple[MethodEntry, dict[str, Any]]:
    name, options = split_name(text)
    fitting = [known for known, entry in METHODS.items() if kind in entry.kinds]
    if name not in METHODS and name in ADAPTERS:
        raise InputError(
            f"{spec!r}: {name} learns from one answer per image, which a {kind} does not give; "
            f"expected {', '.join(fitting)}, with guard+ before it or without."
        )
    if name not in METHODS:
        raise UnknownNameError.of("adapter", name, METHODS)
    if name not in fitting:
        raise InputError(f"{spec!r}: {name} is for detectors; expected {', '.join(fitting)}.")
    entry = METHODS[name]
    return entry, read_options(options, entry.options, spec=spec, owner=name)


def check_method(method: object, what: str) -> BatchMethod | Guard:
    """Return a given method.

    Raises:
        InputError: it is not a method.
    """
    from shiftproof.adapt.safeguards.guard import Guard

    if isinstance(method, (Guard, BatchMethod)):
        return method
    raise InputError(
        f"adapter: expected a spec ({', '.join(METHODS)}) or an adapter with run_batch, such as "
        f"BatchNorm({what}.module), got {type(method).__name__}."
    )
