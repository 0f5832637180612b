"""A strip of small pictures per factor: one photograph with values from low to high."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shiftproof.io import files
from shiftproof.probe.factors import Family, Values, find_families
from shiftproof.probe.versions import Versions
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.scores.probe import Factor, ProbeGallery, Strip, StripPicture
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.thumbnails import encode_thumbnail
from shiftproof.types import Image, Sample

SHOWN = 5
"""Pictures of a strip; two for binary factors."""

LONG_SIDE = 160
QUALITY = 80


def save_strips(
    folder: RunFolder, made: Versions, factors: Sequence[Factor], samples: Sequence[Sample]
) -> None:
    """Write ``gallery.json`` and the pictures it names; each factor uses another photograph."""
    strips = []
    for number, family in enumerate(find_families(factors)):
        sample = samples[number % len(samples)]
        image = made.data.read(sample)
        for factor in family.factors:
            if factor in factors:
                strips.append(_strip(folder, made, family, factor, sample, image))
    write_form(folder.gallery_file, ProbeGallery(tuple(strips)))


def _strip(
    folder: RunFolder,
    made: Versions,
    family: Family,
    factor: Factor,
    sample: Sample,
    image: Image,
) -> Strip:
    place = files.make_folder(folder.path / "gallery" / factor.name)
    pictures = []
    for number, share in enumerate(np.linspace(0, 1, 2 if factor.binary else SHOWN).tolist()):
        values, value = _place_at(family, factor, share)
        path = place / f"{number}.jpg"
        if not path.is_file():
            shown = made.change(image, sample, family.name, values, "strip")
            files.write_bytes(path, encode_thumbnail(shown, LONG_SIDE, QUALITY), durable=False)
        pictures.append(StripPicture(value, path.relative_to(folder.path).as_posix()))
    return Strip(factor.name, sample.id, tuple(pictures))


def _place_at(family: Family, factor: Factor, share: float) -> tuple[Values, float]:
    """Return the family's values with one factor at ``share`` of its range and the others
    midway.
    """
    place = family.factors.index(factor)
    values = family.place([share if at == place else 0.5 for at in range(len(family.factors))])
    return values, round(values[place], 6)
