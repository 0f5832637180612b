"""What the scores of all kinds are made of: counts, shares, how intervals were made, broken images."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

SLACK = 1e-9
"""A mean of shares may leave the range by rounding; a percentage given for a share leaves it by far."""

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


def describe_range(low: float | None, high: float | None) -> str:
    """Return ``a number from 0 to 1``; a limit that is None is left out."""
    limits = (("from", low), ("to", high))
    return " ".join(["a number", *(f"{word} {end:g}" for word, end in limits if end is not None)])


def is_outside(value: float, low: float | None, high: float | None, slack: float = SLACK) -> bool:
    """Whether a value lies beyond its limits by more than rounding explains."""
    return (low is not None and value < low - slack) or (high is not None and value > high + slack)
