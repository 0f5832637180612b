"""Parsing specs: texts with a name and options, as on the command line.

There are two forms::

    SOURCE:TARGET?OPTION=VALUE&OPTION=VALUE    models: the target may have commas, colons and paths
    NAME:OPTION=VALUE,OPTION=VALUE             adapters and protocols: no target
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Any, Protocol, TypeAlias

from shiftproof.errors import InputError, UnknownNameError

Readers: TypeAlias = Mapping[str, Callable[[str], Any]]
"""Functions by name of the option that parse its value or raise a ValueError."""

Pixels: TypeAlias = int | tuple[int, int]
"""A length in pixels, or ``(height, width)``."""

SOURCES_OF_FILES = {
    ".onnx": "onnx",
    ".pt": "file",
    ".pth": "file",
    ".ckpt": "file",
    ".safetensors": "file",
}
"""Sources of model files, by suffix."""


class Source(Protocol):
    """A row of a table of sources, as needed for parsing."""

    @property
    def example(self) -> str:
        """A text that names a model of this source."""

    @property
    def options(self) -> Container[str]:
        """Options of this source in addition to the common ones."""


# ---------------------------------------------------------------- texts


def parse_spec(
    spec: str,
    sources: Mapping[str, Source],
    readers: Readers,
    *,
    wrapped: str,
) -> tuple[str, str, dict[str, Any]]:
    """Split ``SOURCE:TARGET?OPTION=VALUE&...`` into its parts, the options read.

    Args:
        spec: the text.
        sources: the sources; the target is optional if the example has none.
        readers: the options.
        wrapped: how to wrap a model in memory, for the error.

    Raises:
        UnknownNameError: no such source or option; suggests the nearest.
        InputError: no text, no target, or an option that is given twice or cannot be read.
    """
    if not isinstance(spec, str):
        raise InputError(
            f"Expected a text such as '{_get_example(sources)}', got "
            f"{type(spec).__name__}. Wrap a model in memory by {wrapped}."
        )
    body, mark, query = spec.strip().rpartition("?")
    if not mark or "=" not in query:
        body, query = spec.strip(), ""
    source, _, target = body.partition(":")
    if source not in sources:
        raise _explain_source(spec, body, sources)
    if not target and ":" in sources[source].example:
        raise InputError(f"{spec!r} names no model; expected for example {sources[source].example}")
    return source, target, read_options(query, readers, spec=spec, separator="&")


def _explain_source(spec: str, body: str, sources: Mapping[str, Source]) -> UnknownNameError:
    """Return the error for a text without a known source, which may be the path of a file."""
    source, colon, _ = body.partition(":")
    # A single letter is a drive: C:/nets/model.onnx.
    if not colon or len(source) == 1:
        for suffix, likely in SOURCES_OF_FILES.items():
            if body.lower().endswith(suffix) and likely in sources:
                return UnknownNameError(f"{spec!r} is a file; write: {likely}:{spec}")
        if body.endswith(".py") and "python" in sources:
            stem = re.split(r"[\\/]", body)[-1].removesuffix(".py")
            return UnknownNameError(
                f"{spec!r} is a program; name a function in it: python:{stem}:FUNCTION"
            )
    unknown = UnknownNameError.of("source of models", source, sources)
    if colon:
        return unknown
    return UnknownNameError(f"{unknown} Expected for example {_get_example(sources)}.")


def _get_example(sources: Mapping[str, Source]) -> str:
    """Return the first example that has a target."""
    examples = [row.example for row in sources.values()]
    return next((example for example in examples if ":" in example), examples[0])


def split_name(spec: str) -> tuple[str, str]:
    """Split ``NAME:OPTION=VALUE,...`` into the name and the text of the options."""
    name, _, options = spec.strip().partition(":")
    return name, options


def read_options(
    text: str, readers: Readers, *, spec: str, separator: str = ",", owner: str | None = None
) -> dict[str, Any]:
    """Parse options as ``OPTION=VALUE``, joined by a separator.

    Args:
        text: the options.
        readers: the known options.
        spec: the whole text, for errors.
        separator: separator of the options.
        owner: the adapter or protocol, for errors.

    Raises:
        UnknownNameError: no such option; suggests the nearest.
        InputError: an option without a value, given twice, or of the wrong kind.

    >>> read_options("lr=0.001,steps=3", {"lr": float, "steps": int}, spec="rpl:lr=0.001,steps=3")
    {'lr': 0.001, 'steps': 3}
    """
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(separator))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in readers:
            kind = "option" if owner is None else f"option of {owner}"
            raise UnknownNameError.of(kind, name, readers)
        if not equals or not value:
            raise InputError(f"{spec!r}: expected {name}=VALUE, got {part!r}.")
        if name in options:
            raise InputError(f"{spec!r}: the option {name} is given twice.")
        try:
            options[name] = readers[name](value)
        except ValueError as error:
            raise InputError(f"{spec!r}: {name} cannot be {value!r}.") from error
    return options


def merge_options(
    spec: str,
    keywords: Mapping[str, Any],
    options: Mapping[str, Any],
    source: str,
    sources: Mapping[str, Source],
    *,
    common: Container[str],
) -> dict[str, Any]:
    """Return the options of a call, from its keywords and its spec.

    Args:
        spec: the text.
        keywords: keywords of the call, None if not given.
        options: options of the text.
        source: the source in the text.
        sources: the sources.
        common: options of all sources.

    Raises:
        InputError: an option that is given twice, or that the source does not take.
    """
    merged = dict(keywords)
    for name, value in options.items():
        if merged[name] is not None:
            raise InputError(f"{spec!r}: the option {name} is given twice: here and as a keyword.")
        merged[name] = value
    for name, value in merged.items():
        if value is not None and name not in common and name not in sources[source].options:
            owners = ", ".join(key for key, row in sources.items() if name in row.options)
            raise InputError(f"{name} is an option of {owners} models; {spec!r} does not take it.")
    return merged


# ---------------------------------------------------------------- values


def read_switch(text: str) -> bool:
    """Read ``true`` or ``false``."""
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def read_pixels(text: str) -> Pixels:
    """Read ``224`` or, height first, ``224x320``."""
    height, times, width = text.lower().partition("x")
    return (int(height), int(width)) if times else int(height)


def read_number(text: str) -> float:
    """Read an int or float, including ``inf``."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def read_numbers(text: str) -> tuple[float, ...]:
    """Read numbers separated by commas."""
    return tuple(float(part) for part in text.split(","))
