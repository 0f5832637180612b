"""Classifiers that learn while they predict, without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.batchnorm import BatchNorm
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.models.classifier import ClassifierLike

__all__ = ["ADAPTERS", "Adapter", "AdapterEntry", "BatchNorm", "make_adapter"]


@dataclass(frozen=True)
class AdapterEntry:
    """One row of ``ADAPTERS``: how the command line makes an adapter.

    ``make`` is called with the classifier and the options as keywords, each read from its text
    by the function that ``options`` names.
    """

    make: Callable[..., Adapter]
    description: str
    options: Mapping[str, Callable[[str], object]]


def _number(text: str) -> float:
    """Read a number; ``inf`` is one, and a whole one stays whole."""
    try:
        return int(text)
    except ValueError:
        return float(text)


ADAPTERS: dict[str, AdapterEntry] = {
    "batchnorm": AdapterEntry(
        BatchNorm,
        "Mix each batch's statistics into the batch-norm layers (Schneider et al. 2020); "
        "prior=16 images of trust in the source.",
        {"prior": _number},
    ),
}
"""Adapters by the name that ``make_adapter`` and the command line take."""


def make_adapter(spec: str, classifier: ClassifierLike) -> Adapter:
    """Make the adapter that a text names, as the command line spells it.

    Args:
        spec: ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``, with a name of ``ADAPTERS``:
            ``"batchnorm"``, ``"batchnorm:prior=0"``, ``"batchnorm:prior=inf"``.
        classifier: what it adapts.

    Raises:
        UnknownNameError: no such adapter or option; says the nearest.
        InputError: an option without a value, given twice, or of the wrong kind.
        ModelError: the classifier cannot be adapted that way.

    >>> from shiftproof.models import load_classifier
    >>> make_adapter("batchnorm:prior=0", load_classifier("demo"))
    BatchNorm(prior=0, 49 layers)
    """
    name, _, rest = spec.strip().partition(":")
    if name not in ADAPTERS:
        raise UnknownNameError.of("adapter", name, ADAPTERS)
    entry = ADAPTERS[name]
    options: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, text = (piece.strip() for piece in part.partition("="))
        if option not in entry.options:
            raise UnknownNameError.of(f"option of {name}", option, entry.options)
        if not equals or not text:
            raise InputError(f"{spec!r}: expected {option}=VALUE, got {part!r}.")
        if option in options:
            raise InputError(f"{spec!r}: the option {option} is given twice.")
        try:
            options[option] = entry.options[option](text)
        except ValueError as error:
            raise InputError(f"{spec!r}: {option} cannot be {text!r}.") from error
    return entry.make(classifier, **options)
