"""The command line: parse, call one public function, show the result."""

from __future__ import annotations

import errno
import itertools
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from shiftproof._version import __version__
from shiftproof.cli.config import add_value, find_value
from shiftproof.cli.ending import (
    EXIT_BAD_INPUT,
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    Stopped,
    allow_any_text,
    describe_stopped,
    find_folder_error,
    find_output_error,
    handle_signals,
    leave,
    record_output_errors,
)
from shiftproof.cli.printing import complain, print_line, warn
from shiftproof.cli.verbs import Verbs
from shiftproof.compute.tuning import tune_own_process
from shiftproof.errors import InputError, MissingExtraError, ShiftproofError
from shiftproof.io.border import show_text

app = typer.Typer(
    name="shiftproof",
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure how a vision model breaks when the world changes, and repair it without labels.",
    epilog="Start with:  shiftproof demo",
)


def _print_version(is_given: bool) -> None:
    if is_given:
        print_line(f"shiftproof {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Show the version and leave.",
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    no_config: bool = typer.Option(False, "--no-config", help="Do not read shiftproof.toml."),
    timeout: float | None = typer.Option(
        None,
        "--timeout",
        metavar="NUM",
        help="Seconds for one item of a worker: 6 h.",
    ),
) -> None:
    if timeout is not None:
        from shiftproof.compute.processes import limit_items

        context.with_resource(limit_items(timeout))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    0, 1 (failed), 2 (bad input), 3 (a condition of `compare` fails), or 128 and
    the number of the signal that ended it: 129 (SIGHUP), 130 (Ctrl-C), 143 (SIGTERM).
    """
    tune_own_process()
    record_output_errors()
    allow_any_text()
    try:
        with handle_signals():
            code = run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Stopped as stopped:
        code = describe_stopped(stopped.number)
    leave(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors become one clear line."""
    debug = "--debug" in arguments
    arguments = move_common_options_first(arguments)
    try:
        result = app(arguments, standalone_mode=False)
    except KeyboardInterrupt:
        result = EXIT_INTERRUPTED
    except Stopped as stopped:
        return describe_stopped(stopped.number)
    except ShiftproofError as error:
        if debug:
            warn(traceback.format_exc(), style=None)
        else:
            complain(error)
        return (
            EXIT_BAD_INPUT if isinstance(error, (InputError, MissingExtraError)) else EXIT_FAILURE
        )
    except Exception as error:
        # Typer's errors about the arguments are recognized by their methods: depending on its version,
        # their classes are click's or those of a copy of click inside typer.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            return _show_usage_error(error, arguments)
        if debug:
            warn(traceback.format_exc(), style=None)
            return EXIT_FAILURE
        return _show_unexpected_error(error)
    if result == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this
        return describe_stopped(signal.SIGINT)
    return result if isinstance(result, int) else 0


def _show_usage_error(error: Any, arguments: Sequence[str]) -> int:
    """Print an error of typer about the arguments, with a hint, and return its exit code."""
    message = getattr(error, "message", None)
    if isinstance(message, str):
        message = add_value(message, find_value(error, arguments))
        vars(error)["message"] = show_text(suggest_choice(message))
        is_value = "is not one of" in message or type(error).__name__ == "BadParameter"
        if is_value and hasattr(error, "format_message"):
            complain(error.format_message())
            return int(error.exit_code)
    error.show()
    if hint := suggest_init(error) or suggest_folder(error):
        warn(hint, style=None)
    return int(error.exit_code)


def _show_unexpected_error(error: Exception) -> int:
    """Print an error that was not raised on purpose, and return the exit code."""
    if isinstance(error, MemoryError):
        complain(
            f"Memory is full ({str(error) or 'no more is given'}). What is finished is kept; start "
            "the same command again with fewer workers or smaller batches."
        )
        return EXIT_FAILURE
    if isinstance(error, OSError):
        if find_output_error() is not None:
            return EXIT_FAILURE  # ``leave`` prints it
        if folder_error := find_folder_error():
            complain(folder_error)
            return EXIT_BAD_INPUT
        if error.errno == errno.ENAMETOOLONG:
            complain(f"{error.filename} cannot be opened (file name too long).")
            return EXIT_BAD_INPUT
    complain(
        f"{type(error).__name__}: {error}. This is a fault of shiftproof; run again with "
        "--debug and report what it prints."
    )
    return EXIT_FAILURE


def move_common_options_first(words: list[str]) -> list[str]:
    """Return the words of a command with the options of all verbs moved before the verb.

    >>> move_common_options_first(["bench", "--timeout", "60", "--out", "run", "--debug"])
    ['--timeout', '60', '--debug', 'bench', '--out', 'run']
    """
    first, rest, remaining = [], [], iter(words)
    for word in remaining:
        if word in ("--debug", "--no-config") or word.startswith("--timeout="):
            first.append(word)
        elif word == "--timeout":
            first += [word, *itertools.islice(remaining, 1)]
        else:
            rest.append(word)
    return first + rest


def suggest_init(error: Any) -> str:
    """Return a hint at `shiftproof init` if a verb's model or data is missing, else ""."""
    missing = type(error).__name__ == "MissingParameter" and getattr(error.param, "name", None)
    verb = getattr(error.ctx, "info_name", None) if missing else None
    if missing not in ("model", "data") or verb not in ("bench", "detect", "segment"):
        return ""
    return "`shiftproof init` asks for model and data, and writes them into shiftproof.toml."


def suggest_folder(error: Any) -> str:
    """Return a hint to give the folder if a shell expanded a pattern to many paths, else ""."""
    found = re.search(
        r"unexpected extra argument\(?s?\)? \((.*)\)", str(getattr(error, "message", ""))
    )
    if found is None or not any(Path(word).is_file() for word in found[1].split()):
        return ""
    return "Expected one path; a shell expands a pattern such as *.jpg to several: give the folder."


def suggest_choice(message: str) -> str:
    """Add the nearest choice to typer's error about a value that is not one of an option's choices.

    >>> suggest_choice("'cifar' is not one of 'published', 'cifar-10-c'.")
    "'cifar' is not one of 'published', 'cifar-10-c'. Did you mean 'cifar-10-c'?"
    """
    message = message.replace("Value error, ", "", 1)
    found = re.search(r"'([^']*)' is not one of (.*)", message)
    if found is None:
        return message
    import difflib

    close = difflib.get_close_matches(found[1], re.findall(r"'([^']*)'", found[2]), 1, 0.5)
    return f"{message.rstrip('.')}. Did you mean {close[0]!r}?" if close else message
