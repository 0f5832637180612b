"""What the scores of all kinds are made of: counts, shares, how intervals were made, broken images."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.runs.scores.reading import SLACK

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
