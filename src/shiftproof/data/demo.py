"""The 20 labelled ImageNet photographs that the package foolbox carries."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import final

from shiftproof import files
from shiftproof.classes import imagenet
from shiftproof.data.dataset import ImageData
from shiftproof.data.folder import read_below
from shiftproof.errors import MissingExtraError
from shiftproof.types import Image, Sample

_NAME = re.compile(r"imagenet_\d\d_(\d{1,3})\.jpg")


@final
class DemoPhotographs(ImageData):
    """Twenty photographs of ImageNet's validation kind, labelled by index in their names.

    Found among foolbox's files without importing foolbox, which drags in far more than pictures.

    Raises:
        MissingExtraError: foolbox is not installed.
    """

    def __init__(self) -> None:
        try:
            listed = metadata.files("foolbox") or []
        except metadata.PackageNotFoundError as error:
            raise MissingExtraError.of("foolbox", "demo") from error
        found = {path.name: path for path in listed if _NAME.fullmatch(path.name)}
        if not found:
            raise MissingExtraError.of("foolbox with its photographs", "demo")
        self.root = Path(str(next(iter(found.values())).locate())).parent
        samples = []
        for name in sorted(found):
            match = _NAME.fullmatch(name)
            assert match is not None
            samples.append(Sample(name, int(match[1])))
        super().__init__("20 ImageNet photographs", samples, imagenet())

    def read(self, sample: Sample) -> Image:
        """Return the photograph as ``(H, W, 3)`` uint8 RGB."""
        return read_below(self.root, sample.id)

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each file's content."""
        return files.file_fingerprints(self.root / sample.id for sample in self.samples)
