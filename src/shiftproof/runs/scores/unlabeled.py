"""What is believed of detectors and segmenters on images without labels: ``unlabeled.json`` of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from shiftproof.errors import BrokenFileError
from shiftproof.io.text import read_json
from shiftproof.runs.scores.reading import convert
from shiftproof.runs.scores.shared import Count, Share

FILE = "unlabeled.json"

FORMAT = 1


class Worst(msgspec.Struct, frozen=True):
    """The cell in which an estimate is furthest off."""

    cell: str
    estimate: Share
    truth: Share


class Off(msgspec.Struct, frozen=True, rename={"mean_absolute_error": "mean absolute error"}):
    """How far an estimator is off over corrupted cells of labeled images; ``bias`` above 0: too high."""

    cells: Count
    mean_absolute_error: Share
    bias: float
    worst: Worst


class CellBelief(msgspec.Struct, frozen=True):
    """A corrupted cell of the labeled images: what was estimated, and what was measured there."""

    cell: str
    truth: Share
    estimates: dict[str, Share]


class Belief(msgspec.Struct, frozen=True):
    """What is believed of one model on images without labels. All in 0..1.

    Attributes:
        measure: what is estimated: AP50 or mIoU.
        clean: it, on the labeled clean images.
        labeled: how many of these there were.
        images: how many without labels.
        estimates: by estimator.
        quality: by estimator, how far it is off; empty where no cell was corrupted.
        cells: the cells that this follows from.
        format: of the file.
    """

    measure: str
    clean: Share
    labeled: Count
    images: Count
    estimates: dict[str, Share]
    quality: dict[str, Off] = {}
    cells: tuple[CellBelief, ...] = ()
    version: int = msgspec.field(default=FORMAT, name="format")


def read_beliefs(folder: Path) -> dict[str, Belief]:
    """Return the beliefs that a run's folder holds, by the model's name; none where it has no such file.

    Raises:
        BrokenFileError: it cannot be read, or is not what this version writes.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise BrokenFileError(f"{path}: expected an object of models, got something else.")
    found = {str(name): convert(one, Belief, path, str(name)) for name, one in content.items()}
    for name, one in found.items():
        if one.version != FORMAT:
            raise BrokenFileError(
                f"{path}: {name}: expected format {FORMAT}, got {one.version}. It was written by "
                "another version of shiftproof."
            )
    return found
