"""The pictures of a page: read as untrusted files, made small, and kept within a budget.

Pictures are the only part of a page that can grow large. They are always decoded and encoded anew,
so that nothing but pixels travels from a file of the run into the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image as PillowImage

from shiftproof.errors import BrokenFileError
from shiftproof.io.images import read_image

BUDGET = 7_000_000
"""Characters of the page that pictures may take; the rest of a page needs well under 2 MB."""

Trial = tuple[int, int]
"""Long side in pixels and JPEG quality."""

SIZES: tuple[Trial, ...] = (
    (224, 82), (192, 80), (160, 78), (128, 76), (112, 72), (96, 70), (80, 65),
)  # fmt: skip
"""Best first. Below 80 pixels a corruption can no longer be seen."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page as data URIs, keyed by their file below the run folder."""

    uris: dict[str, str] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    sheets: int = 0
    """How many sheets of the run, from the first, are here."""
    left_out: int = 0
    """How many did not fit into the budget."""
    outside: frozenset[str] = frozenset()
    """Files in folders that the reader has not named; they were not opened."""

    def uri(self, file: str) -> str | None:
        """Return the picture's data URI, or None where the file could not be used."""
        return self.uris.get(file)


def load(
    root: Path,
    sheets: Sequence[Sequence[str]],
    first: Sequence[str] = (),
    *,
    budget: int = BUDGET,
    sizes: Sequence[Trial] = SIZES,
) -> Pictures:
    """Read the pictures of a page, as large as the budget allows; sheets at the end go first.

    A picture that is missing, damaged, or outside of ``root`` is listed and left out: a page without
    it is better than no page.

    Args:
        root: the run's folder.
        sheets: files below it that are shown together, or not at all.
        first: files that come before all sheets.
        budget: characters of the page that they may take.
        sizes: how large they may be, best first.
    """
    wanted = [*first, *(file for sheet in sheets for file in sheet)]
    if not wanted or budget <= 0:
        return Pictures(left_out=len(sheets))
    trial = _choose(root, wanted, budget, sizes)
    uris: dict[str, str] = {}
    unreadable: list[str] = []
    spent = 0

    def take(names: Sequence[str]) -> bool:
        """Add these pictures if all of them fit."""
        nonlocal spent
        found: dict[str, str] = {}
        for name in dict.fromkeys(names):
            if name in uris or name in unreadable:
                continue
            uri = _uri(root, name, trial)
            if uri is None:
                unreadable.append(name)
            else:
                found[name] = uri
        # A picture that is shown twice is written twice: count showings, not files.
        cost = sum(len(found.get(name) or uris.get(name, "")) for name in names)
        if spent + cost > budget:
            return False
        spent += cost
        uris.update(found)
        return True

    take(first)
    kept = 0
    for sheet in sheets:
        if not take(sheet):
            break
        kept += 1
    return Pictures(
        uris=uris,
        unreadable=tuple(unreadable),
        sheets=kept,
        left_out=len(sheets) - kept,
    )


def _choose(run: Path, wanted: Sequence[str], budget: int, sizes: Sequence[Trial]) -> Trial:
    """Return the best size whose pictures, judged by a sample, fit into the budget.

    Noise compresses badly and fog well, so the sample is spread over all files.
    """
    distinct = list(dict.fromkeys(wanted))
    sample = distinct[:: max(1, len(distinct) // 40)][:40]
    decoded = [image for name in sample if (image := _open(run, name)) is not None]
    if not decoded:
        return sizes[0]
    share = budget * 0.95 / len(wanted)
    for trial in sizes:
        mean = sum(len(_encode(image, trial)) for image in decoded) / len(decoded)
        if mean <= share:
            return trial
    return sizes[-1]


def _uri(run: Path, name: str, trial: Trial) -> str | None:
    image = _open(run, name)
    return None if image is None else _encode(image, trial)


def _open(run: Path, name: str) -> PillowImage.Image | None:
    path = _inside(run, name)
    if path is None:
        return None
    try:
        return PillowImage.fromarray(read_image(path))
    except BrokenFileError:
        return None


def _inside(run: Path, name: str) -> Path | None:
    """Return the path of a file below the run folder; None for one that leads out of it."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or "\x00" in name or not relative.parts:
        return None
    root = run.resolve()
    path = (root / relative).resolve()
    return path if path.is_relative_to(root) else None


def _encode(image: PillowImage.Image, trial: Trial) -> str:
    side, quality = trial
    small = image
    if max(image.size) > side:
        small = image.copy()
        small.thumbnail((side, side), PillowImage.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")
