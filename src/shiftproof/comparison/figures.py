"""Paired values of two models over the same resamples, and looking them up by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shiftproof.comparison.result import Difference, Role
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.resamples import Replicates, make_interval
from shiftproof.runs.scores.grid import Unit

WORST = "worst"
ANY = "any"
"""A condition on each corruption."""


@dataclass(frozen=True, eq=False)
class Figure:
    """One measure of both models, ``(1 + R,)`` each over the same resamples of the images."""

    name: str
    title: str
    role: Role
    unit: Unit
    lower_is_better: bool
    baseline: Replicates
    candidate: Replicates

    @property
    def change(self) -> Replicates:
        """Candidate minus baseline, resample by resample."""
        return self.candidate - self.baseline

    def summarize(self) -> Difference | None:
        """Return the values with their intervals; None if undefined for one of the models."""
        found = [make_interval(one) for one in (self.baseline, self.candidate, self.change)]
        baseline, candidate, change = found
        if baseline is None or candidate is None or change is None:
            return None
        return Difference(
            self.name, self.title, self.role, self.unit, self.lower_is_better,
            baseline, candidate, change,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pair:
    """All scores that two runs share.

    Attributes:
        figures: headlines, then corruptions and cells, or test sets.
        images: number of common images.
        cells: number of common cells, or test sets.
        aliases: other normalized names of measures.
        absent: normalized names of measures that these runs cannot have, with the reason.
        warnings: the parts of the runs that are not compared.
    """

    figures: Sequence[Figure]
    images: int
    cells: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def find(self, text: str) -> list[Figure]:
        """Return the measure of a name or title in any spelling; for "any" each corruption.

        Of a headline's title the first words are enough where no other begins so: "error" is
        "Error under corruption".

        Raises:
            UnknownNameError: no such measure.
            InputError: these runs cannot have it; the message has the reason.
        """
        wanted = fold(text)
        if wanted in (ANY, "any_corruption", "any_set"):
            return [one for one in self.figures if one.role in ("corruption", "set")]
        wanted = self.aliases.get(wanted, wanted)
        for one in self.figures:
            if wanted in (fold(one.name), fold(one.title)):
                return [_check_meaning(one, text)]
        begun = [one for one in self.figures if _begins_title(one, wanted)]
        if len(begun) == 1:
            return [_check_meaning(begun[0], text)]
        if wanted in self.absent:
            raise InputError(
                f"These runs have no {text}: {self.absent[wanted]}. Take 'mean', the mean over what was "
                "run."
            )
        known = [name for one in self.figures if one.role != "cell" for name in _list_names(one)]
        raise UnknownNameError.of("measure", text, [*known, ANY])


def _begins_title(figure: Figure, wanted: str) -> bool:
    return figure.role == "headline" and fold(figure.title).startswith(f"{wanted}_")


def _list_names(figure: Figure) -> list[str]:
    """Return a figure's name and, where it is not the same word, its title."""
    same = fold(figure.name) == fold(figure.title)
    return [figure.name] if same else [figure.name, figure.title]


def _check_meaning(figure: Figure, text: str) -> Figure:
    if not (np.isfinite(figure.baseline[0]) and np.isfinite(figure.candidate[0])):
        raise InputError(
            f"{text} has no value for one of the two models, so no condition can be put on it."
        )
    return figure


def fold(text: str) -> str:
    """Normalize a name: ``Gaussian noise`` and ``gaussian-noise`` are equal.

    >>> fold("Gaussian noise"), fold("fog-3")
    ('gaussian_noise', 'fog_3')
    """
    return re.sub(r"[\s_\-]+", "_", text.strip().lower())


def find_worst(figures: Sequence[Figure]) -> Figure | None:
    """Return each model's score under its own worst corruption, by resample."""
    parts = [one for one in figures if one.role in ("corruption", "set")]
    if not parts:
        return None
    first, pick = parts[0], np.max if parts[0].lower_is_better else np.min
    what = "corruption" if first.role == "corruption" else "test set"
    return Figure(
        WORST,
        f"Worst {what}",
        "headline",
        first.unit,
        first.lower_is_better,
        pick([one.baseline for one in parts], axis=0),
        pick([one.candidate for one in parts], axis=0),
    )


def scale_of(unit: Unit) -> float:
    """Return the factor for display: 100 for shares, which are shown in percent."""
    return 100.0 if unit == "share" else 1.0


def narrow(values: Replicates, level: float) -> Interval:
    """Return a value with its interval at a confidence level.

    Raises:
        InputError: the value is undefined.
    """
    from shiftproof.metrics.intervals import percentile_interval

    found = percentile_interval(values, level=level)
    if found is None:
        raise InputError("A figure has no value for one of the two models.")
    return found
