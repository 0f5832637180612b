"""From records to scores: the explained share of each factor, with paired intervals.

"Kept" is a normalized score, 0 for chance and 1 for perfect prediction: R² for continuous factors,
and twice the balanced accuracy minus 1 for binary ones. Negative scores count as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from shiftproof.errors import BrokenFileError
from shiftproof.metrics import intervals
from shiftproof.metrics.intervals import Interval
from shiftproof.probe.records import Readings, read_readings
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.resamples import Replicates
from shiftproof.runs.scores.probe import (
    MEASURE,
    READINGS,
    Factor,
    FactorReadouts,
    ProbedModel,
    ProbeImages,
    ProbeScores,
    Reading,
    Verdict,
)
from shiftproof.runs.scores.reading import FORMAT
from shiftproof.runs.scores.shared import Resampling
from shiftproof.types import F64, Cell

SEED = 0

COLLAPSED = 0.1
"""A factor is collapsed if the upper bounds of both probes' scores are below this."""


@dataclass(frozen=True)
class Column:
    """A model of a probe: an encoder (``control`` is None) or a control.

    ``of`` names the encoder whose architecture a random network has.
    """

    name: str
    title: str
    control: str | None = None
    of: str | None = None

    def is_control_of(self, encoder: Column) -> bool:
        """Return whether this is a control of an encoder."""
        return self.control is not None and self.of in (None, encoder.name)


_Shares: TypeAlias = Mapping[str, Mapping[str, Mapping[Reading, Replicates]]]
"""By model, factor and reading."""


def summarize(
    folder: RunFolder,
    probed: Sequence[Column],
    factors: Sequence[Factor],
    images: ProbeImages,
) -> ProbeScores:
    """Return the content of ``scores.json``; depends only on the records.

    ``probed`` are the models, encoders first, in the order in which they are compared.

    Raises:
        BrokenFileError: a table is missing, damaged, or about other images than the others.
    """
    shares = _read_shares(folder, probed, factors)
    encoders = [one for one in probed if one.control is None]
    pairs = [(one, encoders[0]) for one in encoders[1:]]
    pairs += [(one, other) for one in encoders for other in probed if other.is_control_of(one)]
    return ProbeScores(
        format=FORMAT,
        kind="probe",
        measure=MEASURE,
        interval=Resampling(
            intervals.LEVEL,
            "paired percentile bootstrap over images, of probes fitted once",
            intervals.REPLICATES,
            SEED,
        ),
        images=images,
        collapsed_below=COLLAPSED,
        factors=tuple(factors),
        models=tuple(_score(shares, one, factors, probed) for one in probed),
        differences=tuple(_compare(shares, one, other, factors) for one, other in pairs),
    )


def _score(
    shares: _Shares, one: Column, factors: Sequence[Factor], probed: Sequence[Column]
) -> ProbedModel:
    return ProbedModel(
        one.name,
        {
            factor.name: _keep(
                shares[one.name][factor.name],
                _judge(shares, one, factor.name, probed) if one.control is None else None,
            )
            for factor in factors
        },
        title=one.title,
        control=one.control,
        of=one.of,
    )


def _compare(shares: _Shares, one: Column, other: Column, factors: Sequence[Factor]) -> ProbedModel:
    def subtract(factor: str) -> dict[Reading, Replicates]:
        theirs = shares[other.name][factor]
        return {name: mine - theirs[name] for name, mine in shares[one.name][factor].items()}

    return ProbedModel(
        one.name,
        {factor.name: _keep(subtract(factor.name)) for factor in factors},
        against=other.name,
    )


def _keep(readings: Mapping[Reading, Replicates], verdict: Verdict | None = None) -> FactorReadouts:
    ends = _compute_intervals(readings)
    return FactorReadouts(ends.get("beside"), ends.get("alone"), ends.get("network"), verdict)


def _read_shares(folder: RunFolder, probed: Sequence[Column], factors: Sequence[Factor]) -> _Shares:
    """Return ``(1 + R,)`` scores, all over the same resamples."""
    keys: list[tuple[str, Factor, Reading]] = []
    tables: list[Callable[[], F64]] = []
    ids: tuple[str, ...] | None = None
    for one in probed:
        for factor in factors:
            path = folder.records_file(one.name, Cell(factor.name, 0))
            readings = read_readings(path)
            if ids is not None and readings.ids != ids:
                raise BrokenFileError(
                    f"{path}: it is about other images than the other tables of the run. Delete the "
                    "run's folder and start the probe again."
                )
            ids = readings.ids
            for reading in READINGS:
                if reading in readings.read:
                    parts = compute_terms(readings, reading, binary=factor.binary)
                    keys.append((one.name, factor, reading))
                    tables.append(partial(np.asarray, parts))
    found: dict[str, dict[str, dict[Reading, Replicates]]] = {}
    sums = intervals.sum_resamples(tables, len(ids or ()), seed=SEED)
    for (name, factor, reading), summed in zip(keys, sums, strict=True):
        shares = share_kept(summed, binary=factor.binary)
        found.setdefault(name, {}).setdefault(factor.name, {})[reading] = shares
    return found


def compute_terms(readings: Readings, reading: str, *, binary: bool) -> F64:
    """Return ``(N, 4)`` per-image terms, whose sums are the input of ``share_kept``."""
    values, read = readings.values, readings.read[reading]
    if binary:
        right = (read > 0.5) == (values > 0.5)
        yes = values > 0.5
        columns = [right & ~yes, ~yes, right & yes, yes]
        return np.stack([column.sum(axis=1) for column in columns], axis=1).astype(np.float64)
    ones = np.full(len(values), values.shape[1], np.float64)
    squares = (values**2).sum(axis=1)
    return np.stack([((values - read) ** 2).sum(axis=1), values.sum(axis=1), squares, ones], axis=1)


def share_kept(sums: F64, *, binary: bool) -> Replicates:
    """Return ``(R,)`` scores, 0 to 1, from ``(R, 4)`` sums over images."""
    first, second, third, count = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        balanced = first / second + third / count - 1
        explained = 1 - first / (third - second**2 / count)
    return np.asarray(np.clip(balanced if binary else explained, 0, 1))


def _judge(shares: _Shares, one: Column, factor: str, probed: Sequence[Column]) -> Verdict:
    """Return the verdict on a factor that its intervals support.

    "kept": the linear probe is above chance. "hidden": only the network is. "collapsed": neither
        is, both upper bounds are below ``COLLAPSED``, and a control is above chance. "unread": no
        model is above chance, including the controls: these images are uninformative. "undecided":
        anything else.
    """
    mine = _compute_intervals(shares[one.name][factor])
    if mine["beside"].lower > 0:
        return "kept"
    if "network" in mine and mine["network"].lower > 0:
        return "hidden"
    controls = [
        _compute_intervals(shares[other.name][factor])
        for other in probed
        if other.is_control_of(one)
    ]
    read = any(
        found[reading].lower > 0
        for found in controls
        for reading in ("beside", "network")
        if reading in found
    )
    if not read:
        return "unread"
    highest = max(found.upper for reading, found in mine.items() if reading != "alone")
    return "collapsed" if highest < COLLAPSED else "undecided"


def _compute_intervals(readings: Mapping[Reading, Replicates]) -> dict[str, Interval]:
    found = ((name, intervals.percentile_interval(shares)) for name, shares in readings.items())
    return {name: interval for name, interval in found if interval is not None}
