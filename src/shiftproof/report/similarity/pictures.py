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


def within(run: SimilarityRun, folders: Sequence[Path]) -> SimilarityRun:
    """Return the run without the pictures that lie in none of the folders, nor in the run's own."""
    allowed = [folder.resolve() for folder in (run.path, *folders)]

    def checked(named: Named) -> Named:
        if named.path is None:
            return named
        try:
            path = (run.path / named.path).resolve()
        except (OSError, RuntimeError, ValueError):  # what no file may be called, or a loop
            return dataclasses.replace(named, path=None, outside=True)
        if any(path.is_relative_to(folder) for folder in allowed):
            return dataclasses.replace(named, path=str(path))
        return dataclasses.replace(named, path=None, outside=True)

    def of_leak(leak: Leak) -> Leak:
        train = tuple(checked(each) for each in leak.train)
        return dataclasses.replace(leak, test=checked(leak.test), train=train)

    sets = tuple(
        dataclasses.replace(each, leakage=tuple(of_leak(leak) for leak in each.leakage))
        for each in run.scores.sets
    )
    return dataclasses.replace(run, scores=dataclasses.replace(run.scores, sets=sets))


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
