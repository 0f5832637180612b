"""The options of a loader of detectors, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from shiftproof.classes import Classes
from shiftproof.models.detectors.detector import Convention

SCORE = 0.001
"""The lowest score that is kept: average precision wants the weak ones too."""


class LoadedDetector(NamedTuple):
    """The parts of a ``Detector``; ``classes`` is None where the source names none.

    ``assumed`` lists in words what was assumed.
    """

    module: Callable[..., Any]
    classes: Classes | None
    convention: Convention | None
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectorOptions:
    """The options of ``load_detector`` besides the name; None if not given.

    ``vocabulary`` is what a detector is asked for that takes words, where ``classes`` are not
    given.
    """

    device: str = "cpu"
    classes: Classes | None = None
    pretrained: bool | None = None
    arch: str | None = None
    weights: str | None = None
    decode: str | None = None
    layout: str | None = None
    pixels: str | None = None
    size: tuple[int, int] | None = None
    score: float | None = None
    overlap: float | None = None
    limit: int | None = None
    template: str | None = None
    vocabulary: Classes | None = None
