"""Names of data, models and commands in records, without local folders and secrets."""

from __future__ import annotations

import re
from pathlib import Path

from shiftproof.io.border import show_text
from shiftproof.io.urls import redact_urls

_FOLDERS = re.compile(
    r"(?:(?<![^=:,])(?:~[^/?&=:,]*/|/(?!/)|[A-Za-z]:[\\/])|(?<=\bfile://)/|(?<=\blocal://)/)"
    r"(?:[^?&=:,]*[\\/])?(?=[^\\/?&=:,])"
)
"""The folders in front of a name whose path begins at the root, a home, or a drive."""

_LOCAL = re.compile(r"(?:file|local)://", re.IGNORECASE)
"""How a URL of a file of this machine begins."""


def hide_folders(text: str) -> str:
    """Return a text with file names anonymized for records.

    Of whole paths the last part stays, of URLs all but user, password and what their queries say.

    >>> hide_folders("onnx:/home/ada/net.onnx?size=224")
    'onnx:net.onnx?size=224'
    """
    return show_text(_FOLDERS.sub("", redact_urls(text)))


def name_source(source: str | Path) -> str:
    """Return what data is called in a record: of a path the last part, of a URL all but its secrets.

    >>> name_source("/home/ada/vectors/train")
    'train'
    """
    if isinstance(source, str) and "://" in source and not _LOCAL.match(source):
        return redact_urls(source)
    path = Path(_LOCAL.sub("", str(source)))
    name = path.resolve().name if path.name in ("", "..") else path.name
    return show_text(name or str(path))
