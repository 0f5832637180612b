"""``scores.json`` of a probe: how much of each factor each encoder encodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.reading import AT, describe_range, is_outside
from shiftproof.runs.scores.shared import BrokenImage, Count, Resampling, Share, check_differences
from shiftproof.runs.scores.tidy import Row, TidyScores, list_columns

MEASURE: Final = "kept"

Group = Literal["geometry", "color", "texture", "weather"]
GROUPS: tuple[Group, ...] = ("geometry", "color", "texture", "weather")
"""Texture is sharpness, noise and compression: changes that preserve shapes and colors."""

Reading = Literal["beside", "alone", "network"]
READINGS: tuple[Reading, ...] = ("beside", "alone", "network")
"""The readouts of a factor: see :class:`FactorReadouts`."""

Verdict = Literal["kept", "hidden", "collapsed", "unread", "undecided"]
"""Verdicts on a factor, made by the probe's summary."""


class Factor(msgspec.Struct, frozen=True):
    """A factor of variation: one number by which images are changed.

    Attributes:
        name: name in ``--factors`` and in the records.
        title: name shown to users.
        group: one of ``GROUPS``.
        low: the smallest value, in ``unit``.
        high: the largest.
        unit: unit of the values.
        binary: whether the only values are 0 and 1.
    """

    name: str
    title: str
    group: Group
    low: float
    high: float
    unit: str
    binary: bool = False


class FactorReadouts(msgspec.Struct, frozen=True):
    """Explained share of a factor by each readout; for a difference of models, points.

    ``beside`` uses the vectors of the changed and the unchanged image, ``alone`` only the former,
    both by ridge regression; ``network`` uses both with a small network. ``verdict`` is None for
    controls and differences.
    """

    beside: Interval | None = None
    alone: Interval | None = None
    network: Interval | None = None
    verdict: Verdict | None = None


class ProbedModel(msgspec.Struct, frozen=True):
    """An encoder, a control ("pixels" or "random"), or a difference of two models.

    ``of`` is the encoder whose architecture a random network has; ``factors`` is keyed by name.
    """

    name: str
    factors: dict[str, FactorReadouts]
    title: str = ""
    against: str | None = None
    control: str | None = None
    of: str | None = None


class ProbeImages(msgspec.Struct, frozen=True):
    """The images of a probe, and the number of versions of each."""

    total: Count
    used: Count
    versions: Count
    broken: tuple[BrokenImage, ...] = ()


class ProbeScores(TidyScores, frozen=True):
    """The content of ``scores.json``."""

    format: int
    kind: Literal["probe"]
    measure: Literal["kept"]
    interval: Resampling
    images: ProbeImages
    collapsed_below: Share
    factors: tuple[Factor, ...]
    models: tuple[ProbedModel, ...]
    differences: tuple[ProbedModel, ...]

    def __post_init__(self) -> None:
        if all(model.control is not None for model in self.models):
            raise ValueError(f"at least one encoder{AT}models")
        check_differences(self.models, self.differences)
        for key, low, probed in (
            ("models", 0, self.models),
            ("differences", -1, self.differences),
        ):
            for index, model in enumerate(probed):
                self._check(model, f"{key}[{index}].factors", low)

    def _check(self, model: ProbedModel, place: str, low: float) -> None:
        if set(model.factors) != {factor.name for factor in self.factors}:
            raise ValueError(f"a figure for each of the factors{AT}{place}")
        for name, kept in model.factors.items():
            for reading in READINGS:
                figure: Interval | None = getattr(kept, reading)
                if figure is not None and is_outside(figure.value, low, 1):
                    raise ValueError(f"{describe_range(low, 1)}{AT}{place}.{name}.{reading}.value")

    def rows(self) -> Iterator[Row]:
        """Yield a row per model or difference, factor and readout."""
        for model in (*self.models, *self.differences):
            for factor, kept in model.factors.items():
                for reading in READINGS:
                    yield {
                        "model": model.name, "against": model.against, "factor": factor,
                        "reading": reading, **list_columns(getattr(kept, reading)),
                    }  # fmt: skip

    @property
    def used(self) -> int:
        """Number of images in the scores."""
        return self.images.used

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The factors, as in all kinds of runs."""
        return tuple(factor.name for factor in self.factors)

    @property
    def severities(self) -> tuple[int, ...]:
        """Empty: factors have values instead."""
        return ()

    @property
    def encoders(self) -> tuple[ProbedModel, ...]:
        """The models without the controls."""
        return tuple(model for model in self.models if model.control is None)

    def groups(self) -> dict[str, list[str]]:
        """Return the factors that were probed, by group."""
        found: dict[str, list[str]] = {
            group: [factor.name for factor in self.factors if factor.group == group]
            for group in GROUPS
        }
        return {group: names for group, names in found.items() if names}


# ---------------------------------------------------------------- gallery.json


class StripPicture(msgspec.Struct, frozen=True):
    """One picture of a strip: the factor's value, and the file below the run folder."""

    value: float
    file: str


class Strip(msgspec.Struct, frozen=True):
    """One photograph with a factor at values from low to high."""

    factor: str
    id: str
    pictures: tuple[StripPicture, ...]


class ProbeGallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``; empty if the run has no pictures."""

    strips: tuple[Strip, ...] = ()
