"""The pictures of the leakage gallery: they lie where the images do, and not in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.report import gallery
from shiftproof.report.gallery import Pictures
from shiftproof.report.sections import Section
from shiftproof.report.similarity_scores import Leak, SimilarityRun
from shiftproof.report.similarity_wording import cosine

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


def load(run: SimilarityRun, *, budget: int) -> Pictures:
    """Read the pictures of all leaks, as large as the budget allows.

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
    return Section(
        "leakage",
        "The closest pairs",
        "Closest pairs",
        "similarity_leakage.html.j2",
        {
            "sets": sets,
            "threshold": f"{run.scores.duplicates:g}",
            "pictures": any(_paths(leak) for each in run.scores.sets for leak in each.leakage),
            "unreadable": len(pictures.unreadable),
        },
    )


def _pair(leak: Leak, pictures: Pictures) -> dict[str, Any]:
    def shown(text: str, path: str | None, similarity: str) -> dict[str, Any]:
        return {
            "text": text,
            "similarity": similarity,
            "pictured": path is not None,
            "uri": None if path is None else pictures.uri(_below_root(path)),
        }

    return {
        "test": shown(leak.test.text, leak.test.path, ""),
        "label": leak.label,
        "train": [shown(each.text, each.path, cosine(each.similarity)) for each in leak.train],
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
