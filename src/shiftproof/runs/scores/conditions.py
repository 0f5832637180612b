"""``conditions-NAME.json`` of a run: its figures by weather, hour, or what else metadata say."""

from __future__ import annotations

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Headline, Measure
from shiftproof.runs.scores.reading import AT
from shiftproof.runs.scores.shared import Count, Resampling


class ConditionFigures(msgspec.Struct, frozen=True):
    """One model over the images of one condition.

    Attributes:
        name: of the model.
        summary: headline to figure.
        corruptions: corruption to the run's first measure over its severities.
        difference: headline to this figure minus that of the reference condition; the two have other
            images, so the interval is not paired. Empty of the reference itself.
    """

    name: str
    summary: dict[str, Interval | None]
    corruptions: dict[str, Interval | None] = {}
    difference: dict[str, Interval | None] = {}


class Condition(msgspec.Struct, frozen=True):
    """The images of one condition, and every model over them.

    ``used`` are those that could be read, ``objects`` those to be found; None where there are none.
    """

    name: str
    images: Count
    used: Count | None
    objects: Count | None
    models: tuple[ConditionFigures, ...]


class ConditionScores(msgspec.Struct, frozen=True):
    """The content of the file.

    Attributes:
        format: of the file.
        kind: of the run.
        by: the column of the metadata, or ``part:2``, the second folder of the images' names.
        source: the file of the metadata; empty where the names say it.
        against: the reference condition.
        measure: the run's first.
        headlines: what the summaries hold.
        interval: how the intervals were made.
        images: of the run.
        unmatched: images of the run of which the metadata say nothing.
        conditions: the reference first, then those with the most images.
    """

    format: int
    kind: str
    by: str
    source: str
    against: str
    measure: Measure
    headlines: tuple[Headline, ...]
    interval: Resampling
    images: Count
    unmatched: Count
    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        names = [one.name for one in self.conditions]
        if len(set(names)) != len(names) or len(names) < 2:
            raise ValueError(f"two conditions or more with names of their own{AT}conditions")
        if self.against not in names:
            raise ValueError(f"the name of a condition{AT}against")
        models = [[one.name for one in condition.models] for condition in self.conditions]
        if any(one != models[0] for one in models):
            raise ValueError(f"the same models in every condition{AT}conditions")

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order of the run."""
        return tuple(one.name for one in self.conditions[0].models)
