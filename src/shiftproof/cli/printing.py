"""Output of the command line, with unprintable characters of names escaped.

An escape sequence in a file name could move the cursor, or change earlier output.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import typer

from shiftproof.compute.progress import console
from shiftproof.errors import UnknownNameError
from shiftproof.io.border import show_folders, show_text

_CONTROLS = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that are valid in JSON, but control a terminal."""


def print_line(text: str = "", *, newline: bool = True, error: bool = False) -> None:
    """Print text to standard output, or standard error."""
    typer.echo(show_text(text), nl=newline, err=error)


def print_json(text: str) -> None:
    """Print JSON to standard output, with control characters as JSON escapes."""
    text = show_folders(text)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=1)
    typer.echo(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text.rstrip("\n")))


def warn(text: Any, *, style: str | None = "yellow", between_words: bool = False) -> None:
    """Print a warning to standard error; ``between_words`` breaks its lines there on a terminal."""
    # With emoji=True rich would replace a word between colons, as in python:bug:model.
    console.print(
        show_text(str(text)),
        style=style,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=not (between_words and console.is_terminal),
    )


def announce(work: str, out: Path | None = None, *, dry_run: bool = False) -> None:
    """Print to standard error what a verb is about to do.

    Verbs call this after checking their options and before the imports of the work, which take seconds.

    Args:
        work: a sentence without its full stop, such as "Measuring demo on photos".
        out: the path of the result, if it is written.
        dry_run: whether nothing is written, because the work is only estimated.
    """
    end = "; an estimate, nothing is written" if dry_run else "" if out is None else f", into {out}"
    warn(f"{work}{end}", style="dim")


def complain(text: Any) -> None:
    """Print an error to standard error, if it is writable."""
    with contextlib.suppress(OSError):
        console.print("[bold red]error:[/] ", end="")
        # Other errors may contain a command to copy, which must not be wrapped.
        warn(text, style=None, between_words=isinstance(text, UnknownNameError))
