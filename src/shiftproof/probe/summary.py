"""From the records to the figures: how much of each factor is kept, with paired intervals.

Kept is the share of the way from a guess to the exact value. Of a number it is R²: 0 for always
guessing the mean, 1 for every value exact. Of a yes or no it is twice the balanced accuracy less 1: 0
for tossing a coin, 1 for every answer right. What is worse than a guess keeps nothing: 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError
from shiftproof.metrics import intervals
from shiftproof.probe.factors import Factor
from shiftproof.probe.records import READINGS, Readings, read_readings
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.resamples import Replicates
from shiftproof.runs.scores.probe import MEASURE, ProbeScores
from shiftproof.runs.scores.reading import FORMAT
from shiftproof.types import Cell

SEED = 0

COLLAPSED = 0.1
"""A factor of which less than this is kept, by either probe and with certainty, is collapsed."""


@dataclass(frozen=True)
class Probed:
    """One column of a probe: an encoder (``control`` is None) or what it is held against.

    ``of`` names the encoder whose architecture a random network has.
    """

    name: str
    title: str
    control: str | None = None
    of: str | None = None


def summarize(
    folder: RunFolder,
    probed: Sequence[Probed],
    factors: Sequence[Factor],
    images: Mapping[str, Any],
) -> ProbeScores:
    """Return the content of ``scores.json``; depends on the records alone.

    Args:
        folder: where the records are.
        probed: the models; encoders first, in the order in which they are compared.
        factors: in the order of the table.
        images: what it says of the images: how many, and those that could not be read.

    Raises:
        BrokenFileError: a table is missing, damaged, or about other images than the others.
    """
    kept = _kept(folder, probed, factors)
    encoders = [one for one in probed if one.control is None]
    pairs = [(one, encoders[0]) for one in encoders[1:]]
    pairs += [
        (one, other)
        for one in encoders
        for other in probed
        if other.control is not None and other.of in (None, one.name)
    ]
    content = {
        "format": FORMAT,
        "measure": MEASURE,
        "interval": {
            "level": intervals.LEVEL,
            "method": "paired percentile bootstrap over images, of probes fitted once",
            "replicates": intervals.REPLICATES,
            "seed": SEED,
        },
        "images": dict(images),
        "collapsed_below": COLLAPSED,
        "factors": [
            {
                "name": factor.name,
                "title": factor.title,
                "group": factor.group,
                "low": factor.low,
                "high": factor.high,
                "unit": factor.unit,
                "binary": factor.binary,
            }
            for factor in factors
        ],
        "models": [
            {
                "name": one.name,
                "title": one.title,
                "control": one.control,
                "of": one.of,
                "factors": {
                    factor.name: {
                        **{
                            reading: _figure(found)
                            for reading, found in kept[one.name][factor.name].items()
                        },
                        **({"verdict": _verdict(kept, one, factor.name, probed)}
                           if one.control is None else {}),
                    }
                    for factor in factors
                },
            }
            for one in probed
        ],
        "differences": [
            {
                "name": one.name,
                "against": other.name,
                "factors": {
                    factor.name: {
                        **{
                            reading: _figure(found - kept[other.name][factor.name][reading])
                            for reading, found in kept[one.name][factor.name].items()
                        },
                    }
                    for factor in factors
                },
            }
            for one, other in pairs
        ],
    }  # fmt: skip
    return msgspec.convert(content, ProbeScores)


def _kept(
    folder: RunFolder, probed: Sequence[Probed], factors: Sequence[Factor]
) -> dict[str, dict[str, dict[str, Replicates]]]:
    """Return ``(1 + R,)`` shares by model, factor and reading, all over the same resamples."""
    keys: list[tuple[str, Factor, str]] = []
    tables: list[Callable[[], NDArray[np.float64]]] = []
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
                    parts = parts_of(readings, reading, binary=factor.binary)
                    keys.append((one.name, factor, reading))
                    tables.append(partial(_as_it_is, parts))
    found: dict[str, dict[str, dict[str, Replicates]]] = {}
    sums = intervals.sum_resamples(tables, len(ids or ()), seed=SEED)
    for (name, factor, reading), summed in zip(keys, sums, strict=True):
        shares = kept_of(summed, binary=factor.binary)
        found.setdefault(name, {}).setdefault(factor.name, {})[reading] = shares
    return found


def _as_it_is(table: NDArray[np.float64]) -> NDArray[np.float64]:
    return table


def parts_of(readings: Readings, reading: str, *, binary: bool) -> NDArray[np.float64]:
    """Return ``(N, 4)`` per image, of which sums make ``kept_of``."""
    values, read = readings.values, readings.read[reading]
    if binary:
        right = (read > 0.5) == (values > 0.5)
        yes = values > 0.5
        columns = [right & ~yes, ~yes, right & yes, yes]
        return np.stack([column.sum(axis=1) for column in columns], axis=1).astype(np.float64)
    ones = np.full(len(values), values.shape[1], np.float64)
    squares = (values**2).sum(axis=1)
    return np.stack([((values - read) ** 2).sum(axis=1), values.sum(axis=1), squares, ones], axis=1)


def kept_of(sums: NDArray[np.float64], *, binary: bool) -> Replicates:
    """Return ``(R,)`` shares that are kept, 0 to 1, from ``(R, 4)`` sums over images."""
    first, second, third, count = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        balanced = first / second + third / count - 1
        explained = 1 - first / (third - second**2 / count)
    return np.asarray(np.clip(balanced if binary else explained, 0, 1))


def _figure(replicates: Replicates) -> dict[str, float] | None:
    found = intervals.percentile_interval(replicates)
    return None if found is None else asdict(found)


def _verdict(
    kept: Mapping[str, Mapping[str, Mapping[str, Replicates]]],
    one: Probed,
    factor: str,
    probed: Sequence[Probed],
) -> str:
    """Say what became of a factor, and no more than the intervals say.

    "kept": the linear probe reads it beyond chance. "hidden": only the network does. "collapsed":
    neither does, less than ``COLLAPSED`` is believable, and a control does read it. "unread": nothing
    reads it, the controls neither: these images do not tell. "undecided": anything else.
    """
    mine = _ends(kept[one.name][factor])
    if mine["beside"].lower > 0:
        return "kept"
    if "network" in mine and mine["network"].lower > 0:
        return "hidden"
    controls = [
        _ends(kept[other.name][factor])
        for other in probed
        if other.control is not None and other.of in (None, one.name)
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


def _ends(readings: Mapping[str, Replicates]) -> dict[str, intervals.Interval]:
    return {
        name: found
        for name, replicates in readings.items()
        if (found := intervals.percentile_interval(replicates)) is not None
    }
