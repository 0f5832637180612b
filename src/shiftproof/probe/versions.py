"""The versions of an image in a probe, computed by worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shiftproof.bench.cells.views import resize
from shiftproof.data import ImageData
from shiftproof.errors import BrokenFileError, ShiftproofError
from shiftproof.probe.factors import FAMILIES, Values, draw_values
from shiftproof.types import Image, Sample

UNCHANGED = "unchanged"
"""Name of the family of unchanged images: one version of each."""


@dataclass(frozen=True)
class Versions:
    """Computes the versions of images as model inputs: uint8, resized, not normalized.

    Small to pickle: it is sent to each worker once. Changes are applied after resizing and cropping
    for the model, like corruptions; crops to the original image.
    """

    data: ImageData
    geometry: Callable[[Image], Image]
    versions: int
    seed: int

    def make(self, sample: Sample, family: str) -> list[Image]:
        """Return all versions of one image.

        Raises:
            BrokenFileError: the image cannot be read.
        """
        image = self.data.read(sample)
        if family == UNCHANGED:
            return [resize(self.geometry, image, sample)]
        values = draw_values(FAMILIES[family], sample.id, versions=self.versions, seed=self.seed)
        return [
            self.change(image, sample, family, tuple(row), str(n)) for n, row in enumerate(values)
        ]

    def change(
        self, image: Image, sample: Sample, family: str, values: Values, version: str
    ) -> Image:
        """Return an image that was read, changed by ``values``; ``version`` is the key of random
        draws.
        """
        found = FAMILIES[family]
        key = f"{sample.id}/{version}"
        try:
            if found.before_resize:
                return resize(self.geometry, found.change(image, values, self.seed, key), sample)
            return found.change(resize(self.geometry, image, sample), values, self.seed, key)
        except BrokenFileError:
            raise
        except ShiftproofError as error:
            error.args = (f"{family} of {sample.id}: {error}",)
            raise


def load(made: Versions, item: tuple[Sample, str]) -> list[Image] | str:
    """Return all versions of one image, or the error; runs in a worker."""
    try:
        return made.make(*item)
    except BrokenFileError as error:
        return str(error)
