"""The pictures of the leakage gallery: they lie where the images do, and not in the run's folder.

A run's folder may be a stranger's, and the paths in it may name any file of whoever makes the page.
Only pictures in folders that the reader names, and in the run's own, are opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shiftproof.report import gallery
from shiftproof.report.gallery import Pictures
from shiftproof.report.sections import Section
from shiftproof.report.similarity.wording import cosine
from shiftproof.runs.run import AuditRun
from shiftproof.runs.scores.audit import AuditScores, Leak, Neighbor

MOST = 12
"""Test images of each test set."""


def load_pictures(run: AuditRun, budget: int, folders: Sequence[Path]) -> Pictures:
    """Read the pictures of the closest pairs that lie in the folders, or in the run's own.

    They are decoded and made anew, as those of every page; a file that is no image shows nothing.

    Returns:
        The pictures by their path in the run's file; ``outside`` are those in other folders.
    """
    allowed = [folder.resolve() for folder in (run.path, *folders)]
    pairs = [list(_list_paths(leak)) for leak in _picture_leaks(run.scores)]
    places = {path: _find(run.path, path, allowed) for paths in pairs for path in paths}
    sheets = [
        [place for path in dict.fromkeys(paths) if (place := places[path])] for paths in pairs
    ]
    found = gallery.load(Path(run.path.resolve().anchor), sheets, budget=budget)
    by_path = {path: found.uris[place] for path, place in places.items() if place in found.uris}
    outside = frozenset(path for path, place in places.items() if place is None)
    return dataclasses.replace(found, uris=by_path, outside=outside)


def _find(run: Path, path: str, allowed: Sequence[Path]) -> str | None:
    """Return where a picture lies below the file system's root; None outside of the folders."""
    try:
        place = (run / path).resolve()
    except (OSError, RuntimeError, ValueError):  # what no file may be called, or a loop
        return None
    if not any(place.is_relative_to(folder) for folder in allowed):
        return None
    return place.as_posix().removeprefix(place.anchor)


def _picture_leaks(scores: AuditScores) -> list[Leak]:
    return [leak for tested in scores.sets for leak in tested.leakage[:MOST]]


def _list_paths(leak: Leak) -> Iterator[str]:
    paths = [leak.path, *(row.path for row in leak.train)]
    yield from (path for path in paths if path is not None)


def leakage_section(scores: AuditScores, pictures: Pictures) -> Section | None:
    """Build the gallery of the test images that have the nearest training images."""
    sets = [
        {
            "name": tested.name,
            "pairs": [_pair(leak, pictures) for leak in tested.leakage[:MOST]],
            "rows": [_list_row(leak) for leak in tested.leakage[MOST:]],
        }
        for tested in scores.sets
        if tested.leakage
    ]
    if not sets:
        return None
    paths = [path for leak in _picture_leaks(scores) for path in _list_paths(leak)]
    return Section(
        "leakage",
        "The closest pairs",
        "Closest pairs",
        "similarity_leakage.html.j2",
        {
            "sets": sets,
            "threshold": f"{scores.duplicates:g}",
            "pictures": bool(paths),
            "unreadable": len(pictures.unreadable),
            "outside": sum(path in pictures.outside for path in paths),
        },
    )


def _pair(leak: Leak, pictures: Pictures) -> dict[str, Any]:
    def show(row: Leak | Neighbor, text: str, similarity: str) -> dict[str, Any]:
        return {
            "text": text,
            "similarity": similarity,
            "pictured": row.path is not None,
            "uri": None if row.path is None else pictures.uri(row.path),
        }

    return {
        "test": show(leak, _name(leak), ""),
        "label": leak.label,
        "train": [show(each, _name_neighbor(each), cosine(each.similarity)) for each in leak.train],
    }


def _list_row(leak: Leak) -> list[str]:
    nearest = _name_neighbor(leak.train[0]) if leak.train else ""
    return [_name(leak), leak.label or "", nearest, cosine(leak.similarity)]


def _name(leak: Leak) -> str:
    return leak.key or f"row {leak.row:,}"


def _name_neighbor(row: Neighbor) -> str:
    return row.key or f"{row.shard}, row {row.place:,}"
