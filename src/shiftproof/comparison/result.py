"""Types of a comparison's result, as written by ``--json``."""

from __future__ import annotations

from typing import Literal

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Unit

Role = Literal["headline", "corruption", "cell", "set"]
Verdict = Literal["pass", "unclear", "fail"]
Finding = Literal["better", "worse", "not shown", "same"]


class Side(msgspec.Struct, frozen=True):
    """One side of a comparison: the run's folder, and the model in it."""

    run: str
    model: str
    title: str = ""


class Difference(msgspec.Struct, frozen=True):
    """A measure of both models, and the paired difference: candidate minus baseline.

    Attributes:
        name: name of the measure: "mce", "fog", "fog-3".
        title: name shown to users.
        role: kind of the measure.
        unit: unit of all three values; shares are fractions.
        lower_is_better: whether lower values are better.
        baseline: value of the baseline, with its own interval.
        candidate: value of the candidate, with its own interval.
        difference: paired difference, over resamples of the common images.
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
        """The conclusion from the difference's interval: "not shown" if it contains 0."""
        if self.difference.is_zero:
            return "same"
        if self.difference.spans_zero:
            return "not shown"
        return "better" if (self.difference.value < 0) == self.lower_is_better else "worse"


class Check(msgspec.Struct, frozen=True):
    """A condition, checked on its measure.

    ``fail`` if the whole interval is beyond the threshold; ``unclear`` if part of it is, which
    fails only a strict gate; else ``pass``.

    Attributes:
        condition: the condition as given.
        name: name of the measure.
        title: title of the measure.
        unit: unit of the interval and the threshold.
        change: whether it is on the difference.
        interval: interval of the difference, or of the candidate's value.
        threshold: in ``unit``; for shares a fraction.
        level: confidence level of the interval.
        verdict: conclusion from the interval.
        failed: whether it fails the gate.
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
        kind: kind of the runs.
        baseline: the baseline.
        candidate: the candidate; differences are its values minus the baseline's.
        images: number of common images.
        cells: number of common cells; for an evaluation, test sets.
        level: confidence level of the intervals.
        strict: whether unclear conditions fail.
        differences: headlines first, then corruptions and cells, or test sets.
        checks: the conditions, in the order in which they were given.
        warnings: limitations of the comparison, one sentence each.
        notes: how the runs were brought together, one sentence each.
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
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any condition fails."""
        return any(check.failed for check in self.checks)

    def to_json(self) -> str:
        """Return everything as JSON, including ``failed``."""
        content = {"failed": self.failed, **msgspec.to_builtins(self)}
        return msgspec.json.format(msgspec.json.encode(content), indent=1).decode("utf-8")
