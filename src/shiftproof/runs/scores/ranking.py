"""Which model of several is best by the headline, and which differences are more than chance."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.reading import AT
from shiftproof.runs.scores.shared import Share

Rank = Annotated[int, Meta(ge=1)]


class Place(msgspec.Struct, frozen=True):
    """A model's place: 1 is best, and equal figures share a place.

    ``first`` and ``last`` hold its place in the interval's share of the resamples; None where there
    were none.
    """

    name: str
    figure: Interval
    rank: Rank
    first: Rank | None = None
    last: Rank | None = None


class Pair(msgspec.Struct, frozen=True):
    """The difference of two models: the figure of ``name``, the better one, minus ``against``.

    Attributes:
        difference: paired, over resamples that both share.
        p: the two-sided p-value of no difference, from the resamples; None without any.
        adjusted: the same after Holm's correction for all pairs of the ranking.
    """

    name: str
    against: str
    difference: Interval
    p: Share | None = None
    adjusted: Share | None = None


class Ranking(msgspec.Struct, frozen=True):
    """All models by one headline, the best first, and every pair of them.

    Attributes:
        headline: name of the figure that ranks.
        places: the models that have it.
        pairs: two by two, in the order of the places.
    """

    headline: str
    places: tuple[Place, ...]
    pairs: tuple[Pair, ...]

    def __post_init__(self) -> None:
        names = {place.name for place in self.places}
        for at, pair in enumerate(self.pairs):
            if pair.name not in names or pair.against not in names:
                raise ValueError(f"two models of the ranking{AT}pairs[{at}]")
