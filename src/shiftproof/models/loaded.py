"""What a loader is told, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from shiftproof.classes import Classes
from shiftproof.models.preprocess import Interpolation, Preprocess


class Loaded(NamedTuple):
    """The parts of a ``Classifier``.

    ``classes`` is None where the source names none; ``name`` is None where the text that was asked
    for says it best.
    """

    module: Callable[..., Any]
    preprocess: Preprocess
    classes: Classes | None
    name: str | None = None


@dataclass(frozen=True)
class LoadOptions:
    """What the caller of ``load_classifier`` asked for beside the name; None where nothing.

    ``load_classifier`` applies ``resize``, ``interpolation``, ``mean`` and ``std`` by itself; a
    loader sees them, and may need ``size``.
    """

    device: str = "cpu"
    pretrained: bool | None = None
    arch: str | None = None
    size: tuple[int, int] | None = None
    resize: int | tuple[int, int] | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
