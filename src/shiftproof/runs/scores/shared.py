"""What the scores of all kinds are made of: counts, shares, how intervals were made, broken images."""

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
        level: the share of the resamples within the ends, such as 0.95.
        method: in words: "paired percentile bootstrap over images".
        replicates: how many resamples.
        seed: decides them.
    """

    level: Annotated[float, Meta(gt=0, lt=1)]
    method: str
    replicates: Count
    seed: int


class BrokenImage(msgspec.Struct, frozen=True):
    """An image that could not be read, in how many of the cells, and in which one first.

    Attributes:
        id: of the image.
        cells: in how many cells; None where they were not counted.
        first_cell: the first of them, such as "fog-3"; empty where it is not known.
        reason: why.
    """

    id: str
    cells: Count | None = None
    first_cell: str = ""
    reason: str = "no reason given"


class Named(Protocol):
    """A model, or the difference of two: then ``against`` is what is subtracted."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def against(self) -> str | None:
        """Name of the subtracted model."""


def check_differences(models: Sequence[Named], differences: Sequence[Named]) -> None:
    """Raise a ValueError unless models have names of their own, and differences are of two of them."""
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise ValueError(f"models with names of their own{AT}models")
    for at, one in enumerate(differences):
        if one.name not in names or one.against not in names:
            raise ValueError(f"a difference between two of the models{AT}differences[{at}]")
