"""Where styles come from: a folder of paintings, or those that are drawn here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, final

from shiftproof.data.disk import find_images, read_below
from shiftproof.data.images.cells import FINGERPRINT_BYTES
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.border import suggest_sibling
from shiftproof.io.images import is_image
from shiftproof.stylize.drawings import draw_style, way_of
from shiftproof.types import Image


class Styles(ABC):
    """Numbered pictures to take styles from; it travels to worker processes, pickled."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are, at least one."""

    @abstractmethod
    def title(self, number: int) -> str:
        """What messages call a style."""

    @abstractmethod
    def read(self, number: int) -> Image:
        """Return a style as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read; another one is taken in its place then.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what tells these styles from others, for a manifest."""


@final
class Paintings(Styles):
    """The pictures in a folder, at any depth, or a single picture.

    Raises:
        InputError: the folder is not there or holds no images.
    """

    def __init__(self, source: str | Path) -> None:
        path = Path(source)
        if not path.exists():
            raise InputError(
                f"{path} does not exist; expected a folder of paintings.{suggest_sibling(path)}"
            )
        self.root = path if path.is_dir() else path.parent
        if path.is_dir():
            self.names = find_images(path).names
        elif is_image(path):
            self.names = (path.name,)
        else:
            raise InputError(f"{path} is no picture; expected a folder of paintings.")

    def __len__(self) -> int:
        """How many pictures there are; some of them may be broken."""
        return len(self.names)

    def title(self, number: int) -> str:
        """Return the path below the folder."""
        return self.names[number]

    def read(self, number: int) -> Image:
        """Read a picture."""
        return read_below(self.root, self.names[number])

    def identity(self) -> dict[str, Any]:
        """Return the folder's name, and a fingerprint of names and contents.

        Of more than 2 GB names and sizes stand for the contents.
        """
        paths = [self.root / name for name in self.names]
        sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
        if sum(sizes) <= FINGERPRINT_BYTES:
            contents = files.file_fingerprints(paths)
        else:
            contents = [f"size {size}" for size in sizes]
        parts = [part.encode() for pair in zip(self.names, contents, strict=True) for part in pair]
        return {
            "folder": self.root.name,
            "images": len(self),
            "fingerprint": files.fingerprint(parts),
        }


@final
class DrawnStyles(Styles):
    """Pictures that are drawn here: ten ways of painting in turn, each time with another palette."""

    def __init__(self, count: int = 1000) -> None:
        if count < 1:
            raise InputError(f"Expected at least one drawn style, got {count}.")
        self.count = count

    def __len__(self) -> int:
        """How many are drawn from."""
        return self.count

    def title(self, number: int) -> str:
        """Return number and way."""
        return f"drawn {number}, {way_of(number)}"

    def read(self, number: int) -> Image:
        """Draw it."""
        return draw_style(number)

    def identity(self) -> dict[str, Any]:
        """Return how many are drawn from."""
        return {"drawn": self.count}


def open_styles(source: str | Path | Styles | None = None) -> Styles:
    """Return styles: of a folder of paintings, of those that are handed in, or drawn ones for None."""
    if source is None:
        return DrawnStyles()
    return source if isinstance(source, Styles) else Paintings(source)
