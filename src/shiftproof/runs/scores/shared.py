"""Types that the scores of all kinds share: counts, shares, resampling, broken images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from shiftproof.runs.scores.reading import AT, SLACK

Count = Annotated[int, Meta(ge=0)]

Share = Annotated[float, Meta(ge=-SLACK, le=1 + SLACK)]


class Resampling(msgspec.Struct, frozen=True):
    """How the intervals were made.

    Attributes:
        level: confidence level, such as 0.95.
        method: description, such as "paired percentile bootstrap over images".
        replicates: number of resamples.
        seed: random seed of the resamples.
    """

    level: Annotated[float, Meta(gt=0, lt=1)]
    method: str
    replicates: Count
    seed: int


class BrokenImage(msgspec.Struct, frozen=True):
    """An image that could not be read.

    Attributes:
        id: id of the image.
        cells: number of cells in which it could not be read; None if unknown.
        first_cell: the first of these cells, such as "fog-3"; empty if unknown.
        reason: the reason.
    """

    id: str
    cells: Count | None = None
    first_cell: str = ""
    reason: str = "no reason given"


class Named(Protocol):
    """A model, or the difference of two models: then ``against`` is the subtracted one."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def against(self) -> str | None:
        """Name of the subtracted model."""


def check_differences(models: Sequence[Named], differences: Sequence[Named]) -> None:
    """Raise a ValueError unless models have unique names, and differences are of two of them."""
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise ValueError(f"models with names of their own{AT}models")
    for index, one in enumerate(differences):
        if one.name not in names or one.against not in names:
            raise ValueError(f"a difference between two of the models{AT}differences[{index}]")
