"""Tables of model sources: their rows, and reading of specs and keywords."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from shiftproof.errors import InputError
from shiftproof.io.locations import is_url
from shiftproof.io.naming import hide_folders
from shiftproof.models.targets import fetch_target
from shiftproof.specs import (
    Readers,
    merge_options,
    parse_spec,
    read_numbers,
    read_pixels,
    read_switch,
)

Check: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Refuses a target or options from names and files alone, without loading the model."""

Options = TypeVar("Options")

Parts = TypeVar("Parts")


@dataclass(frozen=True)
class Loader(Generic[Options, Parts]):
    """One row of a table of sources: how the models of one source are loaded.

    ``load`` gets the part of the spec after the colon. ``options`` has the options of this source,
    in addition to those of all sources in its table. ``check`` runs for all models before the first
    is loaded.
    """

    load: Callable[[str, Options], Parts]
    description: str
    example: str
    options: frozenset[str] = frozenset()
    check: Check | None = None


@dataclass(frozen=True)
class Request(Generic[Options, Parts]):
    """A requested model: its source, the part of the spec after the colon, a name, the options."""

    loader: Loader[Options, Parts]
    target: str
    name: str
    options: dict[str, Any]


READERS: Readers = {
    "classes": str,
    "pretrained": read_switch,
    "arch": str,
    "weights": str,
    "output": str,
    "layout": str,
    "pixels": str,
    "output_layout": str,
    "templates": str,
    "template": str,
    "decode": str,
    "size": read_pixels,
    "resize": read_pixels,
    "window": read_pixels,
    "stride": read_pixels,
    "interpolation": str,
    "mean": read_numbers,
    "std": read_numbers,
    "score": float,
    "overlap": float,
    "limit": int,
}
"""The readers of the models' options in a spec, by name."""


@dataclass(frozen=True)
class SpecReader(Generic[Options, Parts]):
    """Reads and checks the specs of one table of model sources.

    Attributes:
        loaders: the table.
        common: the options that every source takes.
        wrapped: the expression that wraps a model in memory, for errors.
        readers: the readers of the options in a spec, by name.
    """

    loaders: Mapping[str, Loader[Options, Parts]]
    common: Container[str]
    wrapped: str
    readers: Readers = field(default_factory=lambda: READERS)

    def read(self, spec: str, keywords: Mapping[str, Any]) -> Request[Options, Parts]:
        """Read a spec and the keywords of a call as a request.

        ``keywords`` are those that may be in the spec instead, None if not given.

        Raises:
            UnknownNameError: no such source or option; says the nearest.
            InputError: an option that this source does not take, given twice, or of the wrong kind.
            BrokenFileError, InputError, MissingExtraError, RunError: as for :func:`fetch_target`.
        """
        source, target, options = self._read(spec, keywords)
        target = fetch_target(target)
        for name in ("size", "window", "stride"):
            if isinstance(options.get(name), int):
                options[name] = (options[name], options[name])
        name = hide_folders(f"{source}:{target}") if target else source
        return Request(self.loaders[source], target, name, options)

    def check(self, spec: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse an invalid spec from names and files alone, without loading the model.

        Arguments as for :meth:`read`.

        Returns:
            the options of the spec and of the call.

        Raises:
            UnknownNameError, InputError: as for :meth:`read`.
            ModelError, BrokenFileError, MissingExtraError: raised by the check of the source.
        """
        source, target, options = self._read(spec, keywords)
        for name in ("size", "resize", "window", "stride"):
            _check_pixels(name, options.get(name))
        check = self.loaders[source].check
        if check is not None and not is_url(target):
            check(target, options)
        return options

    def _read(self, spec: str, keywords: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Return the source, the part of the spec after the colon, and the options."""
        own = {name: self.readers[name] for name in keywords}
        source, target, written = parse_spec(spec, self.loaders, own, wrapped=self.wrapped)
        options = merge_options(spec, keywords, written, source, self.loaders, common=self.common)
        return source, target, options


def _check_pixels(name: str, value: Any) -> None:
    sides = value if isinstance(value, tuple) else (value,)
    if any(isinstance(side, int) and side <= 0 for side in sides):
        raise InputError(f"{name}: expected whole numbers of pixels above 0, got {value}.")


def collect_assumed(models: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the assumptions made when each model was loaded, for the models that have some."""
    assumed = {name: list(getattr(model, "assumed", ())) for name, model in models.items()}
    return {name: phrases for name, phrases in assumed.items() if phrases}
