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
"""The folders before a name, of a path that begins at the root, a home folder, or a drive."""

_LOCAL_SCHEME = re.compile(r"(?:file|local)://", re.IGNORECASE)
"""The beginning of a URL of a local file."""


def hide_folders(text: str) -> str:
    """Return a text without local folders and secrets, for records.

    Absolute paths keep only their last part; URLs lose user, password and the values of their queries.

    >>> hide_folders("onnx:/home/ada/net.onnx?size=224")
    'onnx:net.onnx?size=224'
    """
    return show_text(_FOLDERS.sub("", redact_urls(text)))


def name_source(source: str | Path) -> str:
    """Return the name of data in a record: the last part of a path, or a URL without its secrets.

    >>> name_source("/home/ada/vectors/train")
    'train'
    """
    if isinstance(source, str) and "://" in source and not _LOCAL_SCHEME.match(source):
        return redact_urls(source)
    path = Path(_LOCAL_SCHEME.sub("", str(source)))
    name = path.resolve().name if path.name in ("", "..") else path.name
    return show_text(name or str(path))
