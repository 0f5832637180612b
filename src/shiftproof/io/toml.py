"""TOML files: read by the standard library, and by the package that it came from before Python 3.11."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from shiftproof.io.border import convert_errors
from shiftproof.io.text import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        BrokenFileError: it is missing, not UTF-8 or not TOML; names the line.
    """
    text = read_text(path)
    with convert_errors(path, "not valid TOML"):
        return dict(tomllib.loads(text))
