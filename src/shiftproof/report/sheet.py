"""One picture of an image under every corruption and severity."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from shiftproof.compute.progress import progress
from shiftproof.corruptions import COMMON, HOLDOUT, CorruptionFunction, corrupt
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.images import read_image

TILE = 224
"""Long side of a tile in pixels; the corruption is applied at this size, so it is seen as it is."""

_LABEL = 170
_GAP = 4


def write_sheet(
    source: Path,
    out: Path,
    *,
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction] = (*COMMON, *HOLDOUT),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0,
) -> Path:
    """Draw ``source`` under each of ``corruptions`` (rows) and ``severities`` (columns) to ``out``.

    ``corruptions`` are names, or name to a name or a function. ``out`` is a .png or .jpg file; the
    folder must exist.

    Raises:
        InputError: ``out`` is neither, or cannot be written.
        BrokenFileError: ``source`` is no image.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if out.suffix.lower() not in formats:
        raise InputError(f"Expected the sheet as a .png or .jpg file, got {out.name!r}.")
    picture = PillowImage.fromarray(read_image(source))
    picture.thumbnail((TILE, TILE), PillowImage.Resampling.LANCZOS)
    image = np.asarray(picture)
    wide, high = picture.size[0] + _GAP, max(picture.size[1], 20) + _GAP
    sheet = PillowImage.new(
        "RGB", (_LABEL + wide * (1 + len(severities)), 24 + high * len(corruptions)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for column, text in enumerate(["clean", *map(str, severities)]):
        draw.text((_LABEL + wide * column + 4, 3), text, fill="black", font=font)
    with progress("Sheet", len(corruptions) * len(severities)) as advance:
        named = corruptions if isinstance(corruptions, Mapping) else {n: n for n in corruptions}
        for row, (name, corruption) in enumerate(named.items()):
            top = 24 + high * row
            for line, words in enumerate(_wrap(name.replace("_", " "), font)):
                draw.text((6, top + 4 + 18 * line), words, fill="black", font=font)
            sheet.paste(picture, (_LABEL, top))
            for column, severity in enumerate(severities):
                corrupted = corrupt(
                    image, corruption, severity=severity, seed=seed, key=source.name
                )
                left = _LABEL + wide * (column + 1)
                sheet.paste(PillowImage.fromarray(corrupted), (left, top))
                advance(1, note=name)
    buffer = io.BytesIO()
    sheet.save(buffer, formats[out.suffix.lower()], quality=92)
    files.write_bytes(out, buffer.getvalue())
    return out


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break a name into lines that fit beside the tiles."""
    lines: list[str] = []
    for word in text.replace("+", " +").split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= _LABEL - 12:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
