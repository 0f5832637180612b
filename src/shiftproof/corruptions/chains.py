"""Chains: several corruptions in sequence, each with its own severity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from shiftproof.corruptions.checks import CorruptionFunction, Random, check_severity
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.corruptions.table import CORRUPTIONS, find_function
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.types import Image


@dataclass(frozen=True)
class Link:
    """One corruption of a chain.

    Attributes:
        name: name of the corruption.
        function: ``(image, severity, rng) -> image``.
        severity: fixed severity; None is the severity that the chain is called with. At 0 the image
            is unchanged.
    """

    name: str
    function: CorruptionFunction
    severity: float | None = None

    def __str__(self) -> str:
        return self.name if self.severity is None else f"{self.name}-{self.severity:g}"


@dataclass(frozen=True)
class Chain:
    """Corruptions one after the other; an object, so that records can name it and workers unpickle
    it.

    Attributes:
        links: in the order in which they are applied.
        scheme: source of the constants, where they are not the published ones of the corruptions.
    """

    links: tuple[Link, ...]
    scheme: str = ""

    def __call__(self, image: Image, severity: float, rng: Random) -> Image:
        """Return a corrupted copy; every link has its own random generator."""
        out: Image = image.copy()
        for link, link_rng in zip(self.links, self._split(rng), strict=True):
            own_severity = severity if link.severity is None else link.severity
            if own_severity > 0:
                out = link.function(out, own_severity, link_rng)
        return np.asarray(out)

    def _split(self, rng: Random) -> list[np.random.Generator]:
        # A link draws the same whatever the severity of the one before it.
        if isinstance(rng, np.random.RandomState):
            return [cast(np.random.Generator, rng)] * len(self.links)
        seeds = rng.integers(2**63, size=len(self.links))
        return [np.random.Generator(np.random.PCG64(int(seed))) for seed in seeds]

    @property
    def __name__(self) -> str:
        """The names alone, which key the random draws: all severities share their noise."""
        return "+".join(link.name for link in self.links)

    @property
    def spec(self) -> str:
        """The names with the severities, as the command line takes them."""
        return "+".join(map(str, self.links))

    @property
    def identity(self) -> str:
        """Identity for the records: the spec, and the identity of each link."""
        parts = [identify_corruption(link.name) for link in self.links]
        severities = [
            "" if link.severity is None else f" at {link.severity:g}" for link in self.links
        ]
        text = ", then ".join(part + suffix for part, suffix in zip(parts, severities, strict=True))
        return f"{text} ({self.scheme})" if self.scheme else text


def chain(*specs: str | tuple[str, float]) -> Chain:
    """Return a corruption that applies several one after the other.

    Args:
        specs: names, or (name, severity); a name alone gets the severity that the chain is called
            with.

    Raises:
        UnknownNameError: no such corruption.
        InputError: fewer than two, or a severity outside 1 to 5.

    >>> from shiftproof.corruptions import corrupt
    >>> foggy = chain(("gaussian_noise", 1.25), "fog")
    >>> corrupt(np.zeros((8, 8, 3), np.uint8), foggy, severity=3).shape
    (8, 8, 3)
    """
    if len(specs) < 2:
        raise InputError(f"A chain has two corruptions or more; got {len(specs)}.")
    links = []
    for spec in specs:
        name, severity = (spec, None) if isinstance(spec, str) else spec
        checked = None if severity is None else check_severity(severity)
        links.append(Link(name, find_function(name), checked))
    return Chain(tuple(links))


def parse_chain(text: str, groups: Sequence[str] = ()) -> Chain:
    """Read ``"gaussian_noise-1.25+fog"``: names joined by +, each with a severity or without.

    ``groups`` are further valid names, suggested where a name is unknown.

    Raises:
        UnknownNameError: no such corruption; the error suggests the nearest name.
        InputError: a severity outside 1 to 5, or an empty part.
    """
    specs: list[str | tuple[str, float]] = []
    for part in text.split("+"):
        match = re.fullmatch(r"([a-z0-9_]+)(?:-(\d+(?:\.\d+)?))?", part)
        if match is None:
            raise InputError(
                f"Expected a chain such as gaussian_noise+fog or gaussian_noise-1.25+fog-3; got "
                f"{text!r}."
            )
        name, severity = match.groups()
        if name not in CORRUPTIONS:
            raise UnknownNameError.of("corruption", name, [*CORRUPTIONS, *groups])
        specs.append(name if severity is None else (name, float(severity)))
    return chain(*specs)


def has_fixed_severities(corruption: object) -> bool:
    """Return whether every link has a fixed severity, so that the grid's severity has no effect."""
    return isinstance(corruption, Chain) and all(
        link.severity is not None for link in corruption.links
    )
