"""Texts to embed, from a CSV file or a file with one text per line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.counts import pluralize
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.text import read_csv, read_text
from shiftproof.types import Settings

CAPTION_COLUMNS = ("caption", "text", "title", "sentence")
"""Names of the text column, in order of preference."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts with further columns.

    Attributes:
        name: name in messages.
        captions: the texts, none of them empty.
        columns: further columns of the metadata, each as long as the captions.
    """

    name: str
    captions: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.captions)

    def settings(self) -> Settings:
        """Return the settings that identify these texts, for JSON."""
        words = (text.encode() + b"\0" for text in self.captions)
        return {
            "name": self.name,
            "kind": "texts",
            "texts": len(self),
            "fingerprint": files.fingerprint(words),
        }


def open_texts(source: str | Path | Sequence[str] | Texts) -> Texts:
    """Open texts.

    Args:
        source: a ``.csv`` whose first row names a column ``caption`` (or text, title, sentence),
            whose other columns are kept, or with a single column; any other file, with one text per
            line; a list of texts; or opened texts.

    Raises:
        BrokenFileError: the file cannot be read, or a row has no text; with its line.
        InputError: there are no texts.
    """
    if isinstance(source, Texts):
        return source
    if not isinstance(source, str | Path):
        return _check_list(source)
    path = Path(source)
    found = _read_rows(path) if path.suffix.lower() == ".csv" else _read_lines(path)
    if not found.captions:
        raise InputError(f"{path} holds no texts; expected one at least.")
    return found


def _check_list(texts: Sequence[str]) -> Texts:
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"Text {place}: expected a sentence, got {text!r:.80}.")
    if not texts:
        raise InputError("Expected at least one text, got none.")
    return Texts("texts", tuple(texts), {})


def _read_lines(path: Path) -> Texts:
    lines = read_text(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise BrokenFileError(f"{path}, line {number}: expected a text, got an empty line.")
    return Texts(path.name, tuple(line.strip() for line in lines), {})


def _read_rows(path: Path) -> Texts:
    rows = list(read_csv(path))
    if not rows:
        return Texts(path.name, (), {})
    titles = [cell.lower() for cell in rows[0][1]]
    at = next((titles.index(name) for name in CAPTION_COLUMNS if name in titles), None)
    if at is None and len(titles) > 1:
        raise BrokenFileError(
            f"{path}, line {rows[0][0]}: expected a first row with a column caption, got "
            f"{', '.join(rows[0][1])!r:.80}."
        )
    if at is not None:
        del rows[0]
    place = at or 0
    for line, cells in rows:
        if len(cells) != len(titles) or not cells[place]:
            raise BrokenFileError(
                f"{path}, line {line}: expected {pluralize(len(titles), 'cell')} with a text among them, got "
                f"{','.join(cells)!r:.80}."
            )
    others = [number for number in range(len(titles)) if number != place]
    return Texts(
        path.name,
        tuple(cells[place] for _, cells in rows),
        {titles[number]: tuple(cells[number] for _, cells in rows) for number in others},
    )
