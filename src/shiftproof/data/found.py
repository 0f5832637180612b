"""A recognized dataset: its layout, splits and images, before any of it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftproof.counts import pluralize
from shiftproof.data.disk import ImageListing, shorten
from shiftproof.errors import BrokenFileError, InputError, ShiftproofError
from shiftproof.io.urls import redact_urls


@dataclass(frozen=True)
class Request:
    """A user's request for a path whose layout is known.

    Attributes:
        path: the file or folder.
        layout: the name of its layout.
        split: the requested split; None for all.
        images: the folder of the images, if specified.
        column: the column of the images in tables, if specified.
        root: the folder of the data, overriding a YAML file of YOLO.
    """

    path: Path
    layout: str
    split: str | None = None
    images: Path | None = None
    column: str | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Part:
    """A split, or a JSON file with annotations.

    Attributes:
        title: name shown to users, who also select the part by it.
        annotations: the file or folder of the annotations, relative to the root; "" without one.
        folders: the folders of the images, relative to the root.
        images: the existing images, relative to the root, in order.
        names: maps the annotations' names of images to paths, if the names are not paths.
        missing: number of annotated images that do not exist.
        problem: the reason why the part cannot be opened.
        is_absent: whether the reason is that its images do not exist.
        details: further text for users, printed after the number of images.
    """

    title: str
    annotations: str
    folders: tuple[str, ...]
    images: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    problem: ShiftproofError | None = None
    is_absent: bool = False
    details: str = ""


@dataclass(frozen=True)
class FoundDataset:
    """A recognized dataset, of which nothing is opened yet.

    Attributes:
        root: the folder that paths and ids of images are relative to.
        layout: the name of its layout, a key of ``shiftproof.data.layouts.LAYOUTS``.
        source: the file or folder that the user specified.
        parts: its splits, or its JSON files.
        omissions: a sentence for each file or folder that is not used, with the reason.
        notes: further notes for the user on how the dataset was read.
        is_root_given: whether the user specified the root, overriding the annotations.
        address: the URL or brace pattern, if the user specified one.
        listing: the listing of a plain folder of images, so that it is listed only once.
        title: the name of its layout for users.
    """

    root: Path
    layout: str
    source: Path
    parts: tuple[Part, ...]
    omissions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_root_given: bool = False
    address: str = ""
    listing: ImageListing | None = field(default=None, repr=False, compare=False)
    title: str = ""

    @property
    def images(self) -> tuple[str, ...]:
        """The images of all parts, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.images))

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
        """Descriptions of the dataset, one sentence for each part."""
        if not self.parts:
            return (f"{self.title}: {self.source}",)
        noun = _NOUNS.get(self.layout, "image")
        return tuple(_describe_part(self.title, part, noun) for part in self.parts)

    @property
    def problem(self) -> ShiftproofError | None:
        """The problem of its first part if no part can be used, else None."""
        problems = [part.problem for part in self.parts if part.problem is not None]
        return problems[0] if problems and len(problems) == len(self.parts) else None

    def get_only_part(self) -> Part:
        """Return the only part.

        Raises:
            InputError: there are several parts.
            ShiftproofError: the problem of the only part.
        """
        broken = next(
            (part.problem for part in self.parts if isinstance(part.problem, BrokenFileError)), None
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
        """Return a summary for JSON, with the number of images in place of their names."""
        return {
            "source": redact_urls(self.address or str(self.source)),
            "root": str(self.root),
            "layout": self.layout,
            "images": len(self.images),
            "parts": [
                {
                    "title": part.title,
                    "annotations": part.annotations,
                    "folders": list(part.folders),
                    "images": len(part.images),
                    "missing": part.missing,
                    "problem": None if part.problem is None else str(part.problem),
                }
                for part in self.parts
            ],
            "left_aside": list(self.omissions),
            "notes": list(self.notes),
        }


_NOUNS = {"webdataset": "tar", "packed tree": "file"}
"""The noun for the counted files of layouts that do not count images."""


def _describe_part(title: str, part: Part, noun: str) -> str:
    name = part.annotations if part.annotations not in ("", ".") else ""
    heading = ", ".join(filter(None, [title, name, part.title if part.title != name else ""]))
    if part.problem is not None:
        return f"{heading}: cannot be used. {part.problem}"
    folders = shorten(f"{folder}/" for folder in part.folders if folder != ".")
    count = pluralize(len(part.images), noun)
    missing = f"; {part.missing:,} more are listed but missing" if part.missing else ""
    return f"{heading}, {count}{f' in {folders}' if folders else ''}{missing}{part.details}"
