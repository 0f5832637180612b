"""``unlabeled.json``: estimated performance of detectors and segmenters on unlabeled images."""

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


class WorstCell(msgspec.Struct, frozen=True):
    """The cell with the largest error of an estimate."""

    cell: str
    estimate: Share
    truth: Share


class EstimatorError(
    msgspec.Struct, frozen=True, rename={"mean_absolute_error": "mean absolute error"}
):
    """Errors of an estimator over corrupted cells of labeled images; a ``bias`` above 0 is too high."""

    cells: Count
    mean_absolute_error: Share
    bias: float
    worst: WorstCell


class CellEstimate(msgspec.Struct, frozen=True):
    """A corrupted cell of the labeled images: the measured performance and its estimates."""

    cell: str
    truth: Share
    estimates: dict[str, Share]


class UnlabeledEstimate(msgspec.Struct, frozen=True):
    """Estimated performance of one model on unlabeled images. All in 0..1.

    Attributes:
        measure: the estimated measure: AP50 or mIoU.
        clean: the measure on the labeled clean images.
        labeled: number of labeled images.
        images: number of unlabeled images.
        estimates: estimate by estimator.
        quality: errors by estimator; empty without corrupted cells.
        cells: the corrupted cells, from which ``quality`` follows.
        version: version of the file format.
    """

    measure: str
    clean: Share
    labeled: Count
    images: Count
    estimates: dict[str, Share]
    quality: dict[str, EstimatorError] = {}
    cells: tuple[CellEstimate, ...] = ()
    version: int = msgspec.field(default=FORMAT, name="format")


def read_estimates(folder: Path) -> dict[str, UnlabeledEstimate]:
    """Return the estimates in a run's folder, by name of the model; empty without such a file.

    Raises:
        BrokenFileError: it cannot be read, or is not what this version writes.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise BrokenFileError(f"{path}: expected an object of models, got something else.")
    estimates = {
        str(name): convert(value, UnlabeledEstimate, path, str(name))
        for name, value in content.items()
    }
    for name, estimate in estimates.items():
        if estimate.version != FORMAT:
            raise BrokenFileError(
                f"{path}: {name}: expected format {FORMAT}, got {estimate.version}. It was written by "
                "another version of shiftproof."
            )
    return estimates
