"""All that the command line prints: nothing in a name reaches the terminal but what is printable.

An escape sequence in the name of a file moves the cursor, or changes what stands there already.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from typing import Any

import typer

from shiftproof.compute.progress import console
from shiftproof.io.border import show_folders, show_text

_CONTROLS = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON may hold as it is, and a terminal takes for a command."""


def say(text: str = "", *, newline: bool = True, error: bool = False) -> None:
    """Print text to standard output, or standard error."""
    typer.echo(show_text(text), nl=newline, err=error)


def say_json(text: str) -> None:
    """Print JSON to standard output; it stays the same JSON, whatever letters that has."""
    text = show_folders(text)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=1)
    typer.echo(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text.rstrip("\n")))


def warn(text: Any, *, style: str | None = "yellow") -> None:
    """Print a line to standard error, beside what was asked for."""
    console.print(show_text(str(text)), style=style, markup=False, highlight=False, soft_wrap=True)


def complain(text: Any) -> None:
    """Print an error to standard error, if that takes it."""
    with contextlib.suppress(OSError):
        console.print("[bold red]error:[/] ", end="")
        warn(text, style=None)
