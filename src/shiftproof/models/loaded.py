"""What a loader hands back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from shiftproof.classes import Classes
from shiftproof.models.preprocess import Preprocess


class Loaded(NamedTuple):
    """The parts of a ``Classifier``; ``classes`` is None where the source names none."""

    module: Callable[..., Any]
    preprocess: Preprocess
    classes: Classes | None
