"""What a comparison of two runs says, as types: what ``--json`` writes."""

from __future__ import annotations

from typing import Literal

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Unit

Role = Literal["headline", "corruption", "cell", "set"]
Verdict = Literal["pass", "unclear", "fail"]
Finding = Literal["better", "worse", "not shown", "same"]


class Side(msgspec.Struct, frozen=True):
    """One of the two: the run's folder, and the model in it."""

    run: str
    model: str
    title: str = ""


class Difference(msgspec.Struct, frozen=True):
    """A figure of both models, and the paired difference: candidate minus baseline.

    Attributes:
        name: of the figure: "mce", "fog", "fog-3".
        title: as a person reads it.
        role: what it is over.
        unit: of all three; a share is a fraction here.
        lower_is_better: whether less of it is better.
        baseline: the figure of the baseline, with its own interval.
        candidate: the same of the candidate.
        difference: paired, over resamples of the images that both share.
    """

    name: str
    title: str
    role: Role
    unit: Unit
    lower_is_better: bool
    baseline: Interval
    candidate: Interval
    difference: Interval

    @property
    def finding(self) -> Finding:
        """What the interval of the difference shows: not shown where 0 lies in it."""
        if self.difference.is_zero:
            return "same"
        if self.difference.spans_zero:
            return "not shown"
        return "better" if (self.difference.value < 0) == self.lower_is_better else "worse"


class Check(msgspec.Struct, frozen=True):
    """A condition, held against its figure.

    ``fail`` where the whole interval lies beyond the threshold; ``unclear`` where a part of it does,
    which fails only a strict gate; else ``pass``.

    Attributes:
        condition: as it was given.
        name: of the figure that it is about.
        title: the same as a person reads it.
        unit: of the interval and the threshold.
        change: whether it is about the difference.
        interval: of the difference, or of the candidate's figure.
        threshold: in ``unit``; of a share a fraction.
        level: share of the resamples that the interval holds.
        verdict: what the interval says.
        failed: whether the gate fails by it.
    """

    condition: str
    name: str
    title: str
    unit: Unit
    change: bool
    interval: Interval
    threshold: float
    level: float
    verdict: Verdict
    failed: bool


class Comparison(msgspec.Struct, frozen=True):
    """Two models of two runs, paired by image, and the conditions on them.

    Attributes:
        kind: of the runs.
        baseline: what is compared with.
        candidate: what is compared: differences are its figures minus the baseline's.
        images: that both share, and the figures are over.
        cells: of the grid that both share; of an evaluation the test sets.
        level: share of the resamples within the intervals.
        strict: whether what is unclear fails.
        differences: headlines first, then corruptions and cells, or test sets.
        checks: the conditions, in the order in which they were given.
        warnings: in what the runs are not like for like, a sentence each.
    """

    kind: str
    baseline: Side
    candidate: Side
    images: int
    cells: int
    level: float
    strict: bool
    differences: tuple[Difference, ...]
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any condition fails."""
        return any(check.failed for check in self.checks)

    def to_json(self) -> str:
        """Return everything as JSON, with ``failed`` beside it."""
        told = {"failed": self.failed, **msgspec.to_builtins(self)}
        return msgspec.json.format(msgspec.json.encode(told), indent=1).decode("utf-8")
