"""Images named in a CSV file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

from shiftproof import files
from shiftproof.classes import Classes
from shiftproof.data.dataset import ImageData
from shiftproof.data.folder import read_below, read_csv
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.types import Image, Sample


@final
class ImageTable(ImageData):
    """The images of a CSV file with rows ``path,label``, or ``path`` alone for images without labels.

    A first row ``path,label`` is a header. Paths are relative to ``root``, by default the folder of
    the CSV file; absolute ones and such with ``..`` are taken, the file being the user's own, and
    the id is the path with its ``.`` and ``..`` resolved. A row whose file is missing stays in the
    data set and comes back as a broken file.

    Raises:
        BrokenFileError: the file is no CSV.
        InputError: a path stands there twice, or there are no rows.
        LabelError: a label that is none of the classes, with its line.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Classes | None = None,
        *,
        root: str | Path | None = None,
        labelled: bool | None = None,
    ) -> None:
        source = Path(path)
        self.root = Path(root) if root is not None else source.parent
        lines: dict[str, int] = {}
        samples: list[Sample] = []
        for number, row in enumerate(read_csv(source), start=1):
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if number == 1 and cells[0].lower() in ("path", "file", "filename", "image"):
                continue
            if len(cells) > 2 or not cells[0]:
                raise BrokenFileError(
                    f"{source}, line {number}: expected path,label; got {len(cells)} columns."
                )
            name = Path(os.path.normpath(cells[0])).as_posix()
            if name in lines:
                raise InputError(
                    f"{source}, line {number}: {name} stands in line {lines[name]} already."
                )
            lines[name] = number
            samples.append(Sample(name, self._label(source, number, cells, classes, labelled)))
        if not samples:
            raise InputError(f"{source} names no images: expected rows of path,label.")
        has_labels = samples[0].label is not None
        super().__init__(source.name, samples, classes if has_labels else None)

    @staticmethod
    def _label(
        source: Path,
        number: int,
        cells: list[str],
        classes: Classes | None,
        labelled: bool | None,
    ) -> int | None:
        if labelled is False or classes is None or len(cells) < 2 or not cells[1]:
            if labelled:
                raise LabelError(f"{source}, line {number}: expected path,label; there is no label.")
            return None
        try:
            return classes.index(cells[1])
        except LabelError as error:
            raise LabelError(f"{source}, line {number}: {error}") from error

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB."""
        return read_below(self.root, sample.id)

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each file's content."""
        return files.file_fingerprints(self.root / sample.id for sample in self.samples)
