"""Values of two models over the same resamples, and looking them up by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shiftproof.comparison.result import Difference, Role
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics.intervals import Interval, percentile_interval
from shiftproof.runs.resamples import Replicates, make_interval
from shiftproof.runs.scores.grid import Unit

WORST = "worst"
ANY = "any"
"""The name for each corruption, or each test set, in a condition."""


@dataclass(frozen=True, eq=False)
class Figure:
    """One measure of both models, each ``(1 + R,)`` over the same resamples of the images."""

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
        replicates = (self.baseline, self.candidate, self.change)
        baseline, candidate, change = map(make_interval, replicates)
        if baseline is None or candidate is None or change is None:
            return None
        return Difference(
            self.name, self.title, self.role, self.unit, self.lower_is_better,
            baseline, candidate, change,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class PairedFigures:
    """All scores that two runs share.

    Attributes:
        figures: headlines, then corruptions and cells, or test sets.
        images: number of common images.
        cells: number of common cells, or test sets.
        aliases: other normalized names of measures.
        absent: normalized names of measures that these runs cannot have, with the reason.
        warnings: the parts of the runs that are not compared.
        notes: how the runs were brought together.
    """

    figures: Sequence[Figure]
    images: int
    cells: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()

    def find(self, text: str) -> list[Figure]:
        """Return the measure of a name or title in any spelling; for "any" each corruption.

        The first words of a headline's title suffice if they are unique: "error" is "Error under
        corruption".

        Raises:
            UnknownNameError: no such measure.
            InputError: these runs cannot have it; the message has the reason.
        """
        name = normalize_name(text)
        if name in (ANY, "any_corruption", "any_set"):
            return _select_parts(self.figures)
        name = self.aliases.get(name, name)
        for figure in self.figures:
            if name in (normalize_name(figure.name), normalize_name(figure.title)):
                return [_check_defined(figure, text)]
        headlines = [
            figure
            for figure in self.figures
            if figure.role == "headline" and normalize_name(figure.title).startswith(f"{name}_")
        ]
        if len(headlines) == 1:
            return [_check_defined(headlines[0], text)]
        if name in self.absent:
            raise InputError(
                f"These runs have no {text}: {self.absent[name]}. Take 'mean', the mean over what was "
                "run."
            )
        listed = (figure for figure in self.figures if figure.role != "cell")
        known = [name for figure in listed for name in _list_names(figure)]
        raise UnknownNameError.of("measure", text, [*known, ANY])


def _select_parts(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures of single corruptions, or single test sets."""
    return [figure for figure in figures if figure.role in ("corruption", "set")]


def _list_names(figure: Figure) -> list[str]:
    """Return a figure's name, and its title if that is another word."""
    is_same = normalize_name(figure.name) == normalize_name(figure.title)
    return [figure.name] if is_same else [figure.name, figure.title]


def _check_defined(figure: Figure, text: str) -> Figure:
    if not (np.isfinite(figure.baseline[0]) and np.isfinite(figure.candidate[0])):
        raise InputError(
            f"{text} has no value for one of the two models, so no condition can be put on it."
        )
    return figure


def normalize_name(text: str) -> str:
    """Normalize a name: ``Gaussian noise`` and ``gaussian-noise`` are equal.

    >>> normalize_name("Gaussian noise"), normalize_name("fog-3")
    ('gaussian_noise', 'fog_3')
    """
    return re.sub(r"[\s_\-]+", "_", text.strip().lower())


def find_worst(figures: Sequence[Figure]) -> Figure | None:
    """Return each model's score under its own worst corruption, by resample; None without any."""
    parts = _select_parts(figures)
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


def find_scale(unit: Unit) -> float:
    """Return the factor for display: 100 for shares, which are displayed in percent."""
    return 100.0 if unit == "share" else 1.0


def make_interval_at(values: Replicates, level: float) -> Interval:
    """Return a value with its interval at a confidence level.

    Raises:
        InputError: the value is undefined.
    """
    interval = percentile_interval(values, level=level)
    if interval is None:
        raise InputError("A figure has no value for one of the two models.")
    return interval
