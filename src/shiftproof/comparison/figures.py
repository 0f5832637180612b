"""The figures of two models over the same resamples, by name, and how a condition finds one."""

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
    """One figure of both models, ``(1 + R,)`` each over the same resamples of the images."""

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
        """Return it with its intervals; None where it has no meaning for one of the two."""
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
    """All that two runs share, measured.

    Attributes:
        figures: headlines, then corruptions and cells, or test sets.
        images: that both share.
        cells: number of cells, or of test sets.
        aliases: other names of figures, folded.
        absent: folded names of figures that these runs cannot have, with the reason.
        warnings: what of the runs is not compared.
    """

    figures: Sequence[Figure]
    images: int
    cells: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def find(self, text: str) -> list[Figure]:
        """Return the figure of a name or a title, however it is spelt; for "any" each corruption.

        Raises:
            UnknownNameError: there is none.
            InputError: these runs cannot have it; the message says why.
        """
        wanted = fold(text)
        if wanted in (ANY, "any_corruption", "any_set"):
            return [one for one in self.figures if one.role in ("corruption", "set")]
        wanted = self.aliases.get(wanted, wanted)
        for one in self.figures:
            if wanted in (fold(one.name), fold(one.title)):
                return [_check_meaning(one, text)]
        if wanted in self.absent:
            raise InputError(
                f"These runs have no {text}: {self.absent[wanted]}. Take 'mean', the mean over what was "
                "run."
            )
        known = [one.name for one in self.figures if one.role != "cell"]
        raise UnknownNameError.of("measure", text, [*known, ANY])


def _check_meaning(figure: Figure, text: str) -> Figure:
    if not (np.isfinite(figure.baseline[0]) and np.isfinite(figure.candidate[0])):
        raise InputError(
            f"{text} has no value for one of the two models, so no condition can be put on it."
        )
    return figure


def fold(text: str) -> str:
    """Return a name as it is compared: ``Gaussian noise`` and ``gaussian-noise`` are one.

    >>> fold("Gaussian noise"), fold("fog-3")
    ('gaussian_noise', 'fog_3')
    """
    return re.sub(r"[\s_\-]+", "_", text.strip().lower())


def find_worst(figures: Sequence[Figure]) -> Figure | None:
    """Return each model's figure under its own worst corruption, resample by resample."""
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
    """Return what a figure is multiplied by to be read: a share in percent."""
    return 100.0 if unit == "share" else 1.0


def narrow(values: Replicates, level: float) -> Interval:
    """Return a figure with the interval of a level.

    Raises:
        InputError: it has no meaning.
    """
    from shiftproof.metrics.intervals import percentile_interval

    found = percentile_interval(values, level=level)
    if found is None:
        raise InputError("A figure has no value for one of the two models.")
    return found
