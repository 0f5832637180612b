"""The pictures of the leakage gallery: they lie where the images do, and not in the run's folder.

A run's folder may be a stranger's, and the paths in it may name any file of whoever makes the page.
Only pictures in folders that the reader names, and in the run's own, are opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.io import files
from shiftproof.report import gallery
from shiftproof.report.gallery import Pictures
from shiftproof.report.sections import Section
from shiftproof.report.similarity.scores import Leak, Named, SimilarityRun
from shiftproof.report.similarity.wording import cosine

MOST = 12
"""Test images of each test set."""


@dataclass(frozen=True)
class _Sheet:
    """The pictures of one leak, named below the root of the file system."""

    files: dict[str, str]


@dataclass(frozen=True)
class _Gallery:
    sheets: tuple[_Sheet, ...]
    worst: tuple[()] = ()


TRAIN = "train"
"""What the training images are called where folders are named."""


def within(run: SimilarityRun, folders: Sequence[Path]) -> SimilarityRun:
    """Return the run without the pictures that lie in none of the folders, nor in the run's own.

    Args:
        run: as it was read; it names pictures below the folder of their set's images.
        folders: where pictures lie; ``NAME=FOLDER`` those of one test set, or of ``train``. A
            picture that two folders have, neither of which is its set's, is not shown.
    """
    places = _Places(run, folders)

    def of_leak(leak: Leak, name: str) -> Leak:
        train = tuple(places.find(each, TRAIN) for each in leak.train)
        return dataclasses.replace(leak, test=places.find(leak.test, name), train=train)

    sets = tuple(
        dataclasses.replace(each, leakage=tuple(of_leak(leak, each.name) for leak in each.leakage))
        for each in run.scores.sets
    )
    return dataclasses.replace(run, scores=dataclasses.replace(run.scores, sets=sets))


class _Places:
    """Where the pictures of each set may lie."""

    def __init__(self, run: SimilarityRun, folders: Sequence[Path]) -> None:
        names = {each.name for each in run.scores.sets} | {TRAIN}
        self._of_any = [run.path.resolve()]
        self._of_set: dict[str, list[Path]] = {}
        for folder in folders:
            name, equals, place = str(folder).partition("=")
            if equals and name in names and not folder.exists():
                self._of_set.setdefault(name, []).append(Path(place).resolve())
            else:
                self._of_any.append(folder.resolve())

    def find(self, named: Named, name: str) -> Named:
        """Return a row with the whole path of its picture, or without one that is not to be opened."""
        if named.path is None:
            return named
        own = self._of_set.get(name, [])
        for folders in (own, self._of_any):
            meant = _inside(folders, named.path)
            found = {path for path in meant if files.is_file(path)}
            # One that is gone is shown as such where its place is known.
            if not found and (folders is own or Path(named.path).is_absolute()):
                found = meant
            if len(found) == 1:
                return dataclasses.replace(named, path=str(found.pop()))
        return dataclasses.replace(named, path=None, outside=True)


def _inside(folders: Sequence[Path], path: str) -> set[Path]:
    """Return what a path can mean in some folders, nothing outside of all of them."""
    found = set()
    for folder in folders:
        try:
            whole = (folder / path).resolve()
        except (OSError, RuntimeError, ValueError):  # what no file may be called, or a loop
            continue
        if any(whole.is_relative_to(each) for each in folders):
            found.add(whole)
    return found


def load(run: SimilarityRun, *, budget: int) -> Pictures:
    """Read the pictures of all leaks of a run that :func:`within` gave, as large as the budget allows.

    They are decoded and made anew, as those of every page; a file that is no image shows nothing.
    """
    sheets = tuple(
        _Sheet({path: _below_root(path) for path in _paths(leak)})
        for tested in run.scores.sets
        for leak in tested.leakage[:MOST]
    )
    return gallery.load(Path(run.path.resolve().anchor), _Gallery(sheets), budget=budget)


def leakage_section(run: SimilarityRun, pictures: Pictures) -> Section | None:
    """Build the gallery of the test images that have the nearest training images."""
    sets = [
        {
            "name": tested.name,
            "pairs": [_pair(leak, pictures) for leak in tested.leakage[:MOST]],
            "rows": [_row(leak) for leak in tested.leakage[MOST:]],
        }
        for tested in run.scores.sets
        if tested.leakage
    ]
    if not sets:
        return None
    shown = [
        row
        for tested in run.scores.sets
        for leak in tested.leakage[:MOST]
        for row in (leak.test, *leak.train)
    ]
    return Section(
        "leakage",
        "The closest pairs",
        "Closest pairs",
        "similarity_leakage.html.j2",
        {
            "sets": sets,
            "threshold": f"{run.scores.duplicates:g}",
            "pictures": any(each.path is not None or each.outside for each in shown),
            "unreadable": len(pictures.unreadable),
            "outside": sum(each.outside for each in shown),
        },
    )


def _pair(leak: Leak, pictures: Pictures) -> dict[str, Any]:
    def shown(row: Named, similarity: str) -> dict[str, Any]:
        return {
            "text": row.text,
            "similarity": similarity,
            "pictured": row.path is not None or row.outside,
            "uri": None if row.path is None else pictures.uri(_below_root(row.path)),
        }

    return {
        "test": shown(leak.test, ""),
        "label": leak.label,
        "train": [shown(each, cosine(each.similarity)) for each in leak.train],
    }


def _row(leak: Leak) -> list[str]:
    nearest = leak.train[0] if leak.train else None
    return [
        leak.test.text,
        leak.label or "",
        nearest.text if nearest else "",
        cosine(leak.test.similarity),
    ]


def _paths(leak: Leak) -> list[str]:
    return [each.path for each in (leak.test, *leak.train) if each.path is not None]


def _below_root(path: str) -> str:
    return Path(path).as_posix().removeprefix(Path(path).anchor)
