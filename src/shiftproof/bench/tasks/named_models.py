"""The models of a run by name: load those given as specs, and add adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from shiftproof.bench.tasks.interface import SOURCE, AdapterLike
from shiftproof.errors import InputError, ModelError
from shiftproof.runs.names import make_folder_name
from shiftproof.types import Settings

Model = TypeVar("Model")


def load_models(
    given: Any,
    load: Callable[[str], Model],
    *,
    check: Callable[[str], None],
    noun: str,
    single: str = SOURCE,
) -> dict[str, Model]:
    """Return models by names that are valid folder names, loading those given as specs.

    Args:
        given: a model, or name to model; texts are specs.
        load: loads the model of a spec.
        check: refuses an invalid spec; all are checked before the first model is loaded.
        noun: the noun for a model in errors.
        single: the name of a model given without a name.

    Raises:
        InputError: no model, or two with the same name; also the errors of ``check`` and ``load``.
    """
    pairs = given if isinstance(given, Mapping) else {single: given}
    if not pairs:
        raise InputError(f"Expected at least one {noun}, got none.")
    named: dict[str, Model | str] = {}
    for name, model in pairs.items():
        named[choose_name(name, noun, named)] = model
    for model in named.values():
        if isinstance(model, str):
            check(model)
    return {name: load(model) if isinstance(model, str) else model for name, model in named.items()}


def choose_name(name: str, noun: str, others: Mapping[str, object]) -> str:
    """Return a name as a valid folder name.

    Raises:
        InputError: another model of the run has this name.
    """
    safe = make_folder_name(name, noun)
    if safe in others:
        raise InputError(f"Two models of the run are called {safe!r}; give them other names.")
    return safe


def adapt_first(
    models: Mapping[str, Model],
    adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike],
    adapted: Callable[[Any, str], Model],
    *,
    kind: type,
) -> dict[str, Model]:
    """Return the first model under each adapter, by name.

    Raises:
        InputError: the specs are one text, or two models have the same name.
        ModelError: not a spec, or the first model is of another class.
    """
    if isinstance(adapters, str):
        raise InputError(f"Expected a list of adapters; write [{adapters!r}].")
    specs = (
        dict(adapters)
        if isinstance(adapters, Mapping)
        else {spec if isinstance(spec, str) else "adapted": spec for spec in adapters}
    )
    noun = kind.__name__.lower()
    first = next(iter(models.values()))
    found: dict[str, Model] = {}
    for name, spec in specs.items():
        if not isinstance(spec, str):
            raise ModelError(
                f"Expected the spec of an adapter of a {noun} (batchnorm:prior=16), got {spec!r:.80}."
            )
        if not isinstance(first, kind):
            raise ModelError(
                f"Expected a {kind.__name__} to adapt, got {type(first).__name__}; wrap its network."
            )
        found[choose_name(name, noun, {**models, **found})] = adapted(first, spec)
    return found


def write_settings(
    models: Mapping[str, Any], adapted: Mapping[str, Any], wrapped: str
) -> dict[str, Settings]:
    """Return the settings that reproduce the models; ``wrapped`` is an adapter's key for its model."""
    return {
        "models": {name: model.settings for name, model in models.items()},
        "adapters": {
            # The wrapped model is already under "models".
            name: {key: value for key, value in model.settings.items() if key != wrapped}
            for name, model in adapted.items()
        },
    }


def choose_titles(models: Mapping[str, Any]) -> dict[str, str]:
    """Return the titles of models: the full name for the source, and the given names for others."""
    return {name: model.name if name == SOURCE else name for name, model in models.items()}
