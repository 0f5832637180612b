"""Sources of styles: a folder of paintings, or procedurally drawn ones."""

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
from shiftproof.stylize.drawings import draw_style, name_technique
from shiftproof.types import Image


class Styles(ABC):
    """A numbered collection of style images; picklable for worker processes."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of styles, at least one."""

    @abstractmethod
    def title(self, number: int) -> str:
        """Name of a style in messages."""

    @abstractmethod
    def read(self, number: int) -> Image:
        """Return a style as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read; another one is used instead.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return the identity of these styles, for a manifest."""


@final
class Paintings(Styles):
    """The pictures in a folder, at any depth, or a single picture.

    Raises:
        InputError: the folder does not exist or has no images.
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
        """Number of images; some of them may be broken."""
        return len(self.names)

    def title(self, number: int) -> str:
        """Return the path below the folder."""
        return self.names[number]

    def read(self, number: int) -> Image:
        """Read a picture."""
        return read_below(self.root, self.names[number])

    def identity(self) -> dict[str, Any]:
        """Return the folder's name, and a fingerprint of names and contents.

        Above 2 GB it covers names and sizes instead of contents.
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
    """Procedurally drawn images: ten techniques in turn, each time with another palette."""

    def __init__(self, count: int = 1000) -> None:
        if count < 1:
            raise InputError(f"Expected at least one drawn style, got {count}.")
        self.count = count

    def __len__(self) -> int:
        """Number of styles."""
        return self.count

    def title(self, number: int) -> str:
        """Return number and technique."""
        return f"drawn {number}, {name_technique(number)}"

    def read(self, number: int) -> Image:
        """Draw it."""
        return draw_style(number)

    def identity(self) -> dict[str, Any]:
        """Return the number of styles."""
        return {"drawn": self.count}


def open_styles(source: str | Path | Styles | None = None) -> Styles:
    """Return styles from a folder of paintings, given ones, or drawn ones for None."""
    if source is None:
        return DrawnStyles()
    return source if isinstance(source, Styles) else Paintings(source)
