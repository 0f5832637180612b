"""The pictures of a page: read as untrusted files, made small, and kept within a budget.

Only pictures can make a page large. They are always decoded and re-encoded, so that only pixels get from
the run's files into the page.
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
"""Maximum number of characters for pictures; the rest of a page has well under 2 MB."""

Encoding = tuple[int, int]
"""Long side in pixels and JPEG quality."""

SIZES: tuple[Encoding, ...] = (
    (224, 82), (192, 80), (160, 78), (128, 76), (112, 72), (96, 70), (80, 65),
)  # fmt: skip
"""Best first. Below 80 pixels a corruption can no longer be seen."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page as data URIs, keyed by their file below the run folder."""

    uris: dict[str, str] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    sheets: int = 0
    """Number of sheets that are included, from the first."""
    left_out: int = 0
    """Number of sheets that did not fit into the budget."""
    outside: frozenset[str] = frozenset()
    """Files outside of the folders given by the user, which are not opened."""

    def uri(self, file: str) -> str | None:
        """Return the picture's data URI, or None where the file could not be used."""
        return self.uris.get(file)


def load(
    root: Path,
    sheets: Sequence[Sequence[str]],
    first: Sequence[str] = (),
    *,
    budget: int = BUDGET,
    sizes: Sequence[Encoding] = SIZES,
) -> Pictures:
    """Read the pictures of a page, as large as the budget allows; sheets at the end go first.

    A picture that is missing, damaged, or outside of ``root`` is listed and left out: a page without
    it is better than no page.

    Args:
        root: the run's folder.
        sheets: files below it that are shown together, or not at all.
        first: files that come before all sheets.
        budget: maximum number of characters of the page for pictures.
        sizes: how large they may be, best first.
    """
    wanted = [*first, *(file for sheet in sheets for file in sheet)]
    if not wanted or budget <= 0:
        return Pictures(left_out=len(sheets))
    encoding = _choose_encoding(root, wanted, budget, sizes)
    uris: dict[str, str] = {}
    unreadable: list[str] = []
    spent = 0

    def add_pictures(names: Sequence[str]) -> bool:
        """Add these pictures if all of them fit."""
        nonlocal spent
        found: dict[str, str] = {}
        for name in dict.fromkeys(names):
            if name in uris or name in unreadable:
                continue
            uri = _encode_uri(root, name, encoding)
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

    add_pictures(first)
    kept = 0
    for sheet in sheets:
        if not add_pictures(sheet):
            break
        kept += 1
    return Pictures(
        uris=uris,
        unreadable=tuple(unreadable),
        sheets=kept,
        left_out=len(sheets) - kept,
    )


def _choose_encoding(
    run: Path, wanted: Sequence[str], budget: int, sizes: Sequence[Encoding]
) -> Encoding:
    """Return the best size whose pictures, judged by a sample, fit into the budget.

    Noise compresses badly and fog well, so the sample is spread over all files.
    """
    distinct = list(dict.fromkeys(wanted))
    sample = distinct[:: max(1, len(distinct) // 40)][:40]
    decoded = [image for name in sample if (image := _read_picture(run, name)) is not None]
    if not decoded:
        return sizes[0]
    share = budget * 0.95 / len(wanted)
    for encoding in sizes:
        mean = sum(len(_encode(image, encoding)) for image in decoded) / len(decoded)
        if mean <= share:
            return encoding
    return sizes[-1]


def _encode_uri(run: Path, name: str, encoding: Encoding) -> str | None:
    image = _read_picture(run, name)
    return None if image is None else _encode(image, encoding)


def _read_picture(run: Path, name: str) -> PillowImage.Image | None:
    path = _resolve_inside(run, name)
    if path is None:
        return None
    try:
        return PillowImage.fromarray(read_image(path))
    except BrokenFileError:
        return None


def _resolve_inside(run: Path, name: str) -> Path | None:
    """Return the path of a file below the run folder; None for one that leads out of it."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or "\x00" in name or not relative.parts:
        return None
    root = run.resolve()
    path = (root / relative).resolve()
    return path if path.is_relative_to(root) else None


def _encode(image: PillowImage.Image, encoding: Encoding) -> str:
    side, quality = encoding
    small = image
    if max(image.size) > side:
        small = image.copy()
        small.thumbnail((side, side), PillowImage.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")
