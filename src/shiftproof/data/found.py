"""What a path was found to be: a data set on the disk, before anything of it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftproof.data.disk import ImageListing, shorten
from shiftproof.errors import BrokenFileError, InputError, ShiftproofError
from shiftproof.io.urls import redact_urls


@dataclass(frozen=True)
class Request:
    """What a user asks of a path whose layout is known.

    Attributes:
        path: the file or folder.
        layout: the name of its layout.
        split: the part that is meant; None for all.
        images: the folder of the images, where the user names it.
        column: the column of the images in tables, where the user names it.
        root: the folder of the data, in place of what a YAML file of YOLO says.
    """

    path: Path
    layout: str
    split: str | None = None
    images: Path | None = None
    column: str | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Part:
    """What has annotations of its own: a split, or a JSON file.

    Attributes:
        title: for people, who also choose it by this.
        annotations: the file or folder of the annotations, below the root; "" where there is none.
        folders: the folders of the images, below the root.
        pictures: the images that are there, below the root, in order.
        names: what the annotations call each image, where that is no path below the root.
        missing: so many images are named, but not there.
        problem: why it cannot be opened.
        is_absent: whether the problem is that its images are not here.
        about: what else a person has to know of it, to stand behind its images.
    """

    title: str
    annotations: str
    folders: tuple[str, ...]
    pictures: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    problem: ShiftproofError | None = None
    is_absent: bool = False
    about: str = ""


@dataclass(frozen=True)
class FoundDataset:
    """A data set on the disk: what it was taken for, before anything of it is opened.

    Attributes:
        root: the folder that all paths are relative to, and ids of images, too.
        layout: the name of its layout, one of ``shiftproof.data.layouts.LAYOUTS``.
        source: the file or folder that was named.
        parts: its splits, or the JSON files that have images of their own.
        omissions: a sentence for each thing that is not used, with the reason.
        notes: further notes for the user on how it was read.
        rooted: whether the root was given, in place of what the annotations say.
        address: the URL or the brace pattern that was named, where it was one.
        walk: the listing of a plain folder of images, kept so that it is walked once.
        title: its layout for people.
    """

    root: Path
    layout: str
    source: Path
    parts: tuple[Part, ...]
    omissions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rooted: bool = False
    address: str = ""
    walk: ImageListing | None = field(default=None, repr=False, compare=False)
    title: str = ""

    @property
    def pictures(self) -> tuple[str, ...]:
        """The images of all parts, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.pictures))

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the images of all parts, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.folders))

    @property
    def splits(self) -> tuple[str, ...]:
        """The titles of the parts."""
        return tuple(part.title for part in self.parts)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it was taken for, a sentence for each part."""
        if not self.parts:
            return (f"{self.title}: {self.source}",)
        what = "tar" if self.layout == "webdataset" else "image"
        return tuple(_sentence(self.title, part, what) for part in self.parts)

    @property
    def problem(self) -> ShiftproofError | None:
        """Why nothing of it can be used, or None."""
        problems = [part.problem for part in self.parts if part.problem is not None]
        return problems[0] if problems and len(problems) == len(self.parts) else None

    def the_part(self) -> Part:
        """Return the only part.

        Raises:
            InputError: there are several; or whatever the problem of the only one is.
        """
        broken = next(
            (p.problem for p in self.parts if isinstance(p.problem, BrokenFileError)), None
        )
        if len(self.parts) > 1 and broken is not None:
            raise BrokenFileError(
                f"{broken} {self.source} holds {shorten(self.splits)}; give one of them, or a "
                "split (--split)."
            ) from broken
        if len(self.parts) != 1:
            raise InputError(
                f"{self.source} holds {shorten(self.splits) or 'no such annotations'}; give one "
                "of them, or a split (--split)."
            )
        if self.parts[0].problem is not None:
            raise self.parts[0].problem
        return self.parts[0]

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON holds; of the images their number."""
        return {
            "source": redact_urls(self.address or str(self.source)),
            "root": str(self.root),
            "layout": self.layout,
            "images": len(self.pictures),
            "parts": [
                {
                    "title": part.title,
                    "annotations": part.annotations,
                    "folders": list(part.folders),
                    "images": len(part.pictures),
                    "missing": part.missing,
                    "problem": None if part.problem is None else str(part.problem),
                }
                for part in self.parts
            ],
            "left_aside": list(self.omissions),
            "notes": list(self.notes),
        }


def _sentence(title: str, part: Part, what: str) -> str:
    name = part.annotations if part.annotations not in ("", ".") else ""
    heading = ", ".join(filter(None, [title, name, part.title if part.title != name else ""]))
    if part.problem is not None:
        return f"{heading}: cannot be used. {part.problem}"
    where = shorten(f"{folder}/" for folder in part.folders if folder != ".")
    images = f"{len(part.pictures):,} {what}{'' if len(part.pictures) == 1 else 's'}"
    missing = f"; {part.missing:,} more are named, but not there" if part.missing else ""
    return f"{heading}, {images}{f' in {where}' if where else ''}{missing}{part.about}"
