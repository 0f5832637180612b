"""The pictures of the leakage gallery, which are in the datasets and not in the run's folder.

A run's folder may be untrusted, and its paths may point to any file of the user. Only pictures in
folders given by the user, and in the run's own folder, are opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftproof.io import files
from shiftproof.report import gallery
from shiftproof.report.gallery import Pictures
from shiftproof.report.sections import Section
from shiftproof.report.similarity.wording import format_cosine
from shiftproof.runs.run import AuditRun
from shiftproof.runs.scores.audit import AuditScores, Leak, Neighbor

MOST = 12
"""Test images of each test set."""


TRAIN = "train"
"""Name of the training images for ``NAME=FOLDER``."""

Picture = tuple[str, str]
"""The set, a test set's name or ``train``, and the path below the folder of its images."""


def load_pictures(run: AuditRun, budget: int, folders: Sequence[Path]) -> Pictures:
    """Load the pictures of the closest pairs from the folders, or the run's own folder.

    They are decoded and encoded again, as on every page; files that are no images are not shown.

    Args:
        run: it names pictures below the folder of their set's images.
        budget: how many bytes they may have together.
        folders: where pictures lie; ``NAME=FOLDER`` those of one test set, or of ``train``. A
            picture that two folders have, neither of which is its set's, is not shown.

    Returns:
        The pictures by key; ``outside`` are those in none of the folders.
    """
    sought = _Places(run, folders)
    pairs = [_list_pictures(name, leak) for name, leak in _picture_leaks(run.scores)]
    places = {picture: sought.find(*picture) for pictures in pairs for picture in pictures}
    sheets = [
        [place for picture in dict.fromkeys(pictures) if (place := places[picture])]
        for pictures in pairs
    ]
    found = gallery.load(Path(run.path.resolve().anchor), sheets, budget=budget)
    by_key = {
        _make_key(*one): found.uris[place] for one, place in places.items() if place in found.uris
    }
    outside = frozenset(_make_key(*picture) for picture, place in places.items() if place is None)
    return dataclasses.replace(found, uris=by_key, outside=outside)


class _Places:
    """Allowed folders of each set's pictures."""

    def __init__(self, run: AuditRun, folders: Sequence[Path]) -> None:
        names = {tested.name for tested in run.scores.sets} | {TRAIN}
        self._of_any = [run.path.resolve()]
        self._of_set: dict[str, list[Path]] = {}
        for folder in folders:
            name, equals, place = str(folder).partition("=")
            if equals and name in names and not folder.exists():
                self._of_set.setdefault(name, []).append(Path(place).resolve())
            else:
                self._of_any.append(folder.resolve())

    def find(self, name: str, path: str) -> str | None:
        """Return the path of a picture below the file system's root; None if it must not be
        opened.
        """
        own = self._of_set.get(name, [])
        for folders in (own, self._of_any):
            meant = _inside(folders, path)
            found = {place for place in meant if files.is_file(place)}
            # A missing picture is shown as such if its path is allowed.
            if not found and (folders is own or Path(path).is_absolute()):
                found = meant
            if len(found) == 1:
                place = found.pop()
                return place.as_posix().removeprefix(place.anchor)
        return None


def _inside(folders: Sequence[Path], path: str) -> set[Path]:
    """Return the files that a path may refer to within some folders."""
    found = set()
    for folder in folders:
        try:
            whole = (folder / path).resolve()
        except (OSError, RuntimeError, ValueError):  # what no file may be called, or a loop
            continue
        if any(whole.is_relative_to(each) for each in folders):
            found.add(whole)
    return found


def _picture_leaks(scores: AuditScores) -> list[tuple[str, Leak]]:
    return [(tested.name, leak) for tested in scores.sets for leak in tested.leakage[:MOST]]


def _list_pictures(name: str, leak: Leak) -> list[Picture]:
    rows = [(name, leak.path), *((TRAIN, row.path) for row in leak.train)]
    return [(whose, path) for whose, path in rows if path is not None]


def _make_key(name: str, path: str) -> str:
    return f"{name}\0{path}"


def build_leakage_section(scores: AuditScores, pictures: Pictures) -> Section | None:
    """Build the gallery of the test images that have the nearest training images."""
    sets = [
        {
            "name": tested.name,
            "pairs": [_pair(tested.name, leak, pictures) for leak in tested.leakage[:MOST]],
            "rows": [_list_row(leak) for leak in tested.leakage[MOST:]],
        }
        for tested in scores.sets
        if tested.leakage
    ]
    if not sets:
        return None
    shown = [
        _make_key(*picture)
        for name, leak in _picture_leaks(scores)
        for picture in _list_pictures(name, leak)
    ]
    return Section(
        "leakage",
        "The closest pairs",
        "Closest pairs",
        "similarity_leakage.html.j2",
        {
            "sets": sets,
            "threshold": f"{scores.duplicates:g}",
            "pictures": bool(shown),
            "unreadable": len(pictures.unreadable),
            "outside": sum(key in pictures.outside for key in shown),
        },
    )


def _pair(name: str, leak: Leak, pictures: Pictures) -> dict[str, Any]:
    def show(whose: str, row: Leak | Neighbor, text: str, similarity: str) -> dict[str, Any]:
        return {
            "text": text,
            "similarity": similarity,
            "pictured": row.path is not None,
            "uri": None if row.path is None else pictures.uri(_make_key(whose, row.path)),
        }

    return {
        "test": show(name, leak, _name(leak), ""),
        "label": leak.label,
        "train": [
            show(TRAIN, each, _name_neighbor(each), format_cosine(each.similarity))
            for each in leak.train
        ],
    }


def _list_row(leak: Leak) -> list[str]:
    nearest = _name_neighbor(leak.train[0]) if leak.train else ""
    return [_name(leak), leak.label or "", nearest, format_cosine(leak.similarity)]


def _name(leak: Leak) -> str:
    return leak.key or f"row {leak.row:,}"


def _name_neighbor(row: Neighbor) -> str:
    return row.key or f"{row.shard}, row {row.place:,}"
