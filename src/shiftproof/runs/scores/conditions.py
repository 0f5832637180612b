"""``conditions-NAME.json`` of a run: its scores by weather, hour, or other metadata."""

from __future__ import annotations

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Headline, Measure
from shiftproof.runs.scores.reading import AT
from shiftproof.runs.scores.shared import Count, Resampling


class ConditionFigures(msgspec.Struct, frozen=True):
    """One model on the images of one condition.

    Attributes:
        name: name of the model.
        summary: value by headline.
        corruptions: by corruption, the run's first measure over its severities.
        difference: by headline, the value minus that of the reference condition. The images differ,
            so the interval is not paired. Empty for the reference itself.
    """

    name: str
    summary: dict[str, Interval | None]
    corruptions: dict[str, Interval | None] = {}
    difference: dict[str, Interval | None] = {}


class Condition(msgspec.Struct, frozen=True):
    """The images of one condition, and the scores of every model on them.

    ``used`` is the number of images that could be read, ``objects`` the number of ground-truth
    objects; None if that is unknown.
    """

    name: str
    images: Count
    used: Count | None
    objects: Count | None
    models: tuple[ConditionFigures, ...]


class ConditionScores(msgspec.Struct, frozen=True):
    """The content of the file.

    Attributes:
        format: version of the file format.
        kind: kind of the run.
        by: the column of the metadata, or ``part:2`` for the second folder of the images' names.
        source: the file of the metadata; empty if conditions are in the names.
        against: the reference condition.
        measure: the run's first measure.
        headlines: the headlines in the summaries.
        interval: method of the intervals.
        images: number of images of the run.
        unmatched: number of images without metadata.
        conditions: the reference first, then by decreasing number of images.
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
