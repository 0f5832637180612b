"""The ranking of several models by a headline, and the significance of their differences."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.reading import AT
from shiftproof.runs.scores.shared import Share

Rank = Annotated[int, Meta(ge=1)]


class Place(msgspec.Struct, frozen=True):
    """The rank of a model: 1 is best, and equal values share a rank.

    ``first`` and ``last`` are the ends of the interval of the rank over the resamples; None without
    resamples.
    """

    name: str
    figure: Interval
    rank: Rank
    first: Rank | None = None
    last: Rank | None = None


class Pair(msgspec.Struct, frozen=True):
    """The difference of two models: the value of ``name``, the better one, minus ``against``.

    Attributes:
        difference: paired over the resamples.
        p: two-sided p-value of a difference of 0, from the resamples; None without any.
        adjusted: the p-value after Holm's correction for all pairs of the ranking.
    """

    name: str
    against: str
    difference: Interval
    p: Share | None = None
    adjusted: Share | None = None


class Ranking(msgspec.Struct, frozen=True):
    """All models by one headline, the best first, and every pair of them.

    Attributes:
        headline: name of the headline.
        places: the models with a value of it.
        pairs: the pairs of models, in the order of the places.
    """

    headline: str
    places: tuple[Place, ...]
    pairs: tuple[Pair, ...]

    def __post_init__(self) -> None:
        names = {place.name for place in self.places}
        for index, pair in enumerate(self.pairs):
            if pair.name not in names or pair.against not in names:
                raise ValueError(f"two models of the ranking{AT}pairs[{index}]")
